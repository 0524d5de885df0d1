//! The stored form of a session: bare, or in the envelope of grammY's `enhanceStorage`.

use std::{any::TypeId, marker::PhantomData, sync::Arc};

use larder_core::{
    Bytes, Codec, Error, ErrorKind, Json, Result, not_readable,
    surrogates::{self, Hidden},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{DeserializeOwned, Error as _, IgnoredAny},
};
use serde_json::Value;

use crate::{members, moves::is_marker, plain::is_plain};

/// The name of the envelope's data member.
const DATA: &str = "__d";

/// The envelope of grammY's `enhanceStorage`: `{"v": 3, "__d": <data>, "e": 1795310512273}`. Only the data is
/// required.
#[derive(Serialize, Deserialize)]
struct Envelope<D> {
    /// The number of the last migration step that was applied to the data.
    #[serde(default, rename = "v", skip_serializing_if = "Option::is_none")]
    version: Option<Number>,
    #[serde(default = "none", rename = "__d", skip_serializing_if = "Option::is_none")]
    data: Option<D>,
    /// The time at which the data expires, in Unix milliseconds.
    #[serde(default, rename = "e", skip_serializing_if = "Option::is_none")]
    deadline: Option<Number>,
}

const fn none<D>() -> Option<D> {
    None
}

/// A number as JavaScript writes it: 3 and not 3.0.
#[derive(Clone, Copy)]
struct Number(f64);

impl Serialize for Number {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Whole numbers up to 2^53 are exact in an f64.
        if self.0.fract() == 0.0 && self.0.abs() <= 9_007_199_254_740_992.0 {
            serializer.serialize_i64(self.0 as i64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By its own type: CBOR distinguishes integers from floats and does not convert them, and JSON
        // numbers are text with serde_json's `arbitrary_precision`.
        let number = serde_json::Number::deserialize(deserializer)?;
        number.as_f64().map(Self).ok_or_else(|| D::Error::custom("not a number"))
    }
}

/// The metadata of a stored session: its version and its deadline.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Label {
    pub(crate) version: Option<f64>,
    pub(crate) deadline: Option<i64>,
    /// Whether the data has lone surrogates, which are escaped.
    pub(crate) surrogates: bool,
}

/// A stored session.
pub(crate) enum Stored<T> {
    /// Data of the current version.
    Current(T, Label),
    /// Data of an older version, which needs migrations.
    Old(Value, Label),
}

/// A codec for one type of session.
pub(crate) struct Format<T> {
    coder: Arc<dyn Coder<T>>,
    /// The encoding of `None`, which counts as nothing.
    null: Bytes,
    /// The current version: the number of the last migration step.
    current: Option<f64>,
    envelope: bool,
    /// Whether the codec can encode envelopes. Without self-describing data, any data could look like an
    /// envelope.
    encloses: bool,
    json: bool,
}

impl<T> Format<T> {
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if an envelope is required and the codec cannot encode it.
    pub(crate) fn new<C: Codec>(codec: C, current: Option<f64>, envelope: bool) -> Result<Self>
    where
        T: Serialize + DeserializeOwned + 'static,
    {
        let null = codec.encode(&())?;
        let json = TypeId::of::<C>() == TypeId::of::<Json>();
        let encloses = json || encloses(&codec);
        if envelope && !encloses {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                format!(
                    "the codec `{}` cannot hold the envelope that migrations and absolute lifetimes need, since \
                     its data does not describe itself: take JSON, MessagePack or CBOR, or leave them out",
                    codec.name()
                ),
            ));
        }
        Ok(Self { coder: Arc::new(Coded(codec, PhantomData)), null, current, envelope, encloses, json })
    }

    /// Decodes a stored session.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if it is not a session of this type, [`ErrorKind::VersionTooNew`] if it has a
    /// newer version.
    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Stored<T>> {
        if is_plain(bytes) {
            return self.decode_bare(bytes);
        }
        if let Some((readable, hidden)) = self.hide_surrogates(bytes) {
            let mut stored = self.decode_readable(&readable)?;
            let (Stored::Current(_, label) | Stored::Old(_, label)) = &mut stored;
            label.surrogates = hidden == Hidden::Reversibly;
            return Ok(stored);
        }
        self.decode_readable(bytes)
    }

    /// Escapes lone surrogates in JSON, which a Rust string cannot hold. This cannot wait until decoding
    /// fails: an envelope that fails to decode could be read as bare data.
    fn hide_surrogates(&self, bytes: &[u8]) -> Option<(Vec<u8>, Hidden)> {
        let contains = |part: &[u8]| memchr::memmem::find(bytes, part).is_some();
        if self.json && (contains(b"\\ud") || contains(b"\\uD")) {
            surrogates::hide(bytes, true)
        } else {
            None
        }
    }

    fn decode_readable(&self, bytes: &[u8]) -> Result<Stored<T>> {
        if self.encloses && memchr::memmem::find(bytes, DATA.as_bytes()).is_some() {
            if let Some((value, label)) = self.coder.decode_envelope(bytes)
                && label.version == self.current
            {
                return Ok(Stored::Current(value, label));
            }
            if let Some((data, label)) = self.coder.decode_envelope_as_tree(bytes) {
                if label.version > self.current {
                    return Err(newer(label.version, self.current));
                }
                return if label.version == self.current {
                    Ok(Stored::Current(self.value(data)?, label))
                } else {
                    Ok(Stored::Old(data, label))
                };
            }
        }
        self.decode_bare(bytes)
    }

    /// Bare data has no version.
    fn decode_bare(&self, bytes: &[u8]) -> Result<Stored<T>> {
        if self.current.is_some() {
            Ok(Stored::Old(self.coder.decode_tree(bytes)?, Label::default()))
        } else {
            Ok(Stored::Current(self.coder.decode(bytes)?, Label::default()))
        }
    }

    /// Returns the end in the value, if there is one. Unix milliseconds.
    pub(crate) fn end(&self, bytes: &[u8]) -> Option<i64> {
        if !self.encloses || is_plain(bytes) {
            return None;
        }
        memchr::memmem::find(bytes, DATA.as_bytes())?;
        self.coder.decode_label(bytes)?.deadline
    }

    /// Decodes migrated data.
    pub(crate) fn value(&self, data: Value) -> Result<T> {
        self.coder.read_tree(data)
    }

    /// Encodes the data alone, for comparisons.
    pub(crate) fn encode_bare(&self, value: &T) -> Result<Bytes> {
        self.coder.encode(value)
    }

    /// Returns the bytes to store for `value`, given its bare form. Returns `None` if the value is encoded as
    /// nothing. Data that looks like an envelope or a marker is put into an envelope.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if it could not be decoded again; [`ErrorKind::InvalidValue`] if it looks like a
    /// marker of a move.
    pub(crate) fn encode(
        &self,
        value: &T,
        bare: Bytes,
        deadline: Option<i64>,
        surrogates: bool,
    ) -> Result<Option<Bytes>> {
        if bare == self.null {
            return Ok(None);
        }
        let looks_else = !is_plain(&bare) && (is_marker(&bare) || self.could_be_an_envelope(&bare));
        let enclosed = self.envelope || (self.encloses && looks_else);
        let mut stored = if enclosed {
            self.coder.encode_envelope(value, Label { version: self.current, deadline, surrogates })?
        } else {
            bare
        };
        if surrogates {
            stored = surrogates::reveal(&stored).into();
        }
        if is_marker(&stored) {
            return Err(Error::new(
                ErrorKind::InvalidValue,
                "the session would be taken for something of Larder's own; add something to it, or use a codec \
                 whose data describes itself",
            ));
        }
        match self.decode(&stored) {
            Ok(Stored::Current(..)) => Ok(Some(stored)),
            Ok(Stored::Old(..)) => {
                Err(not_readable(Error::new(ErrorKind::Codec, "it would be read as an older session")))
            }
            Err(error) => Err(not_readable(error)),
        }
    }

    /// Whether bare data looks like an envelope, because it has a member of that name, or could after a store
    /// has reformatted it.
    fn could_be_an_envelope(&self, bare: &[u8]) -> bool {
        let contains = |part: &[u8]| memchr::memmem::find(bare, part).is_some();
        (contains(DATA.as_bytes()) || contains(b"\\u00"))
            && (self.coder.decode_label(bare).is_some() || has_member(bare, DATA))
    }
}

/// Whether `json` is an object with a member of this name.
fn has_member(json: &[u8], wanted: &str) -> bool {
    let mut found = false;
    members::all(json, |name| {
        found |= name == wanted;
        !found
    });
    found
}

/// Whether the codec decodes all kinds of envelopes to the same value.
fn encloses(codec: &impl Codec) -> bool {
    let versions = [None, Some(10.1), Some(3.0)];
    let deadlines = [None, Some(1_795_310_512_273)];
    let labels = versions.into_iter().flat_map(|version| {
        deadlines.into_iter().map(move |deadline| Label { version, deadline, surrogates: false })
    });
    labels.into_iter().all(|label| {
        let data = Value::from("data");
        let bytes = codec.encode(&enclose(&data, label));
        bytes.is_ok_and(|bytes| envelope(codec, &bytes) == Some((data, label)))
    })
}

fn newer(stored: Option<f64>, current: Option<f64>) -> Error {
    let number = |version: Option<f64>| version.map_or("none".to_owned(), |number| number.to_string());
    Error::new(
        ErrorKind::VersionTooNew,
        format!(
            "the session was stored by a newer program (its migrations go to {}, those of this one to {}); \
             nothing is overwritten",
            number(stored),
            number(current)
        ),
    )
}

/// A [`Codec`] for one type, as a trait object.
trait Coder<T>: Send + Sync {
    fn encode(&self, value: &T) -> Result<Bytes>;
    fn encode_envelope(&self, value: &T, label: Label) -> Result<Bytes>;
    fn decode(&self, bytes: &[u8]) -> Result<T>;
    fn decode_tree(&self, bytes: &[u8]) -> Result<Value>;
    fn decode_envelope(&self, bytes: &[u8]) -> Option<(T, Label)>;
    fn decode_envelope_as_tree(&self, bytes: &[u8]) -> Option<(Value, Label)>;
    /// Decodes the metadata of an envelope and ignores its data.
    fn decode_label(&self, bytes: &[u8]) -> Option<Label>;
    fn read_tree(&self, data: Value) -> Result<T>;
}

struct Coded<T, C>(C, PhantomData<fn() -> T>);

impl<T: Serialize + DeserializeOwned, C: Codec> Coder<T> for Coded<T, C> {
    fn encode(&self, value: &T) -> Result<Bytes> {
        self.0.encode(value)
    }

    fn encode_envelope(&self, value: &T, label: Label) -> Result<Bytes> {
        self.0.encode(&enclose(value, label))
    }

    fn decode(&self, bytes: &[u8]) -> Result<T> {
        self.0.decode(bytes)
    }

    fn decode_tree(&self, bytes: &[u8]) -> Result<Value> {
        self.0.decode(bytes)
    }

    fn decode_envelope(&self, bytes: &[u8]) -> Option<(T, Label)> {
        envelope(&self.0, bytes)
    }

    fn decode_envelope_as_tree(&self, bytes: &[u8]) -> Option<(Value, Label)> {
        envelope(&self.0, bytes)
    }

    fn decode_label(&self, bytes: &[u8]) -> Option<Label> {
        envelope::<IgnoredAny>(&self.0, bytes).map(|(_, label)| label)
    }

    fn read_tree(&self, data: Value) -> Result<T> {
        serde_json::from_value(data)
            .map_err(|_| Error::new(ErrorKind::Codec, "the stored data does not match the session's type"))
    }
}

fn enclose<D>(data: D, label: Label) -> Envelope<D> {
    Envelope {
        version: label.version.map(Number),
        data: Some(data),
        deadline: label.deadline.map(|deadline| Number(deadline as f64)),
    }
}

fn envelope<D: DeserializeOwned>(codec: &impl Codec, bytes: &[u8]) -> Option<(D, Label)> {
    let envelope = codec.decode::<Envelope<D>>(bytes).ok()?;
    let version = envelope.version.map(|version| version.0);
    let deadline = envelope.deadline.map(|deadline| deadline.0 as i64);
    Some((envelope.data?, Label { version, deadline, surrogates: false }))
}

#[cfg(test)]
mod tests {
    use larder_core::Json;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Pizzas {
        #[serde(default)]
        pizzas: u32,
    }

    fn format(current: Option<f64>, envelope: bool) -> Format<Pizzas> {
        Format::new(Json, current, envelope).unwrap()
    }

    fn text(format: &Format<Pizzas>, pizzas: u32, deadline: Option<i64>) -> String {
        let value = Pizzas { pizzas };
        let bare = format.encode_bare(&value).unwrap();
        String::from_utf8(format.encode(&value, bare, deadline, false).unwrap().unwrap().to_vec()).unwrap()
    }

    #[test]
    fn the_envelope_is_grammys_to_the_letter() {
        let envelope = format(Some(3.0), true);
        assert_eq!(
            text(&envelope, 24, Some(3372111949463)),
            r#"{"v":3,"__d":{"pizzas":24},"e":3372111949463}"#
        );
        assert_eq!(text(&format(Some(10.1), true), 1, None), r#"{"v":10.1,"__d":{"pizzas":1}}"#);
        assert_eq!(text(&format(None, true), 1, None), r#"{"__d":{"pizzas":1}}"#);
        assert_eq!(text(&format(None, false), 1, None), r#"{"pizzas":1}"#);
    }

    #[test]
    fn an_unexpected_envelope_is_decoded() {
        // Otherwise a type that accepts any data would be read, and then saved, as empty.
        let stored = br#"{"__d":{"pizzas":24},"e":5}"#;
        let Stored::Current(value, label) = format(None, false).decode(stored).unwrap() else {
            panic!("it must not need a migration");
        };
        assert_eq!((value.pizzas, label.deadline), (24, Some(5)));
    }

    #[test]
    fn a_newer_version_is_an_error() {
        for format in [format(None, false), format(Some(2.9), true)] {
            let error = format.decode(br#"{"v":3,"__d":{"pizzas":24}}"#).map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::VersionTooNew);
            assert!(error.message().contains("newer"), "{error}");
        }
    }

    #[test]
    fn bare_data_is_older_than_every_version() {
        for stored in [&br#"{"pizzas":3}"#[..], br#"{"v":"__d","e":[]}"#, b"[1]"] {
            assert!(matches!(
                format(Some(1.0), true).decode(stored).unwrap(),
                Stored::Old(_, Label { version: None, .. })
            ));
        }
    }

    #[test]
    fn nothing_is_not_stored_and_redirects_are_enclosed() {
        let format = Format::<Value>::new(Json, None, false).unwrap();
        let encode = |value: Value| format.encode(&value, format.encode_bare(&value).unwrap(), None, false);
        assert_eq!(encode(Value::Null).unwrap(), None);
        for forged in [json!({ "__larder": { "moved": { "to": "42" } } }), json!({ "__d": 0, "__larder": 2 })]
        {
            assert!(encode(forged).unwrap().unwrap().starts_with(b"{\"__d\":{"));
        }
        for harmless in [json!({ "a": 1, "__larder": 2 }), json!({ "a": { "__larder": 2 } })] {
            assert_eq!(encode(harmless.clone()).unwrap().unwrap(), harmless.to_string());
        }
    }
}

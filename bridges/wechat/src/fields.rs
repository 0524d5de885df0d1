//! The stored form of a session: a JSON object, `{id, skey, sessionKey, userInfo, ...custom fields}`.

use std::collections::BTreeMap;

use larder_core::{Bytes, Codec, Error, ErrorKind, Json, Result};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{names, secret::Secret};

pub(crate) type Raw = Box<RawValue>;

/// The fields, each as its original JSON text: an unchanged field is written back byte for byte, whatever
/// numbers it contains.
#[derive(Clone, Default)]
pub(crate) struct Fields(BTreeMap<String, Raw>);

impl Fields {
    /// Returns the fields of a new login.
    pub(crate) fn new(id: Option<&str>, skey: &str, session_key: &str, user_info: Raw) -> Result<Self> {
        let mut fields = Self::default();
        if let Some(id) = id {
            fields.set(names::FIELD_ID, encode(names::FIELD_ID, id)?);
        }
        fields.set(names::FIELD_SKEY, encode(names::FIELD_SKEY, skey)?);
        fields.set(names::FIELD_SESSION_KEY, encode(names::FIELD_SESSION_KEY, session_key)?);
        fields.set(names::FIELD_USER_INFO, user_info);
        Ok(fields)
    }

    /// Reads a stored session. It must be a session of the protocol, with this id if it contains one.
    pub(crate) fn parse(bytes: &[u8], id: &str) -> Result<Self> {
        let fields = Self::of_object(bytes)?;
        let own_id = match fields.get(names::FIELD_ID) {
            None => true,
            Some(own) => serde_json::from_str::<String>(own.get()).is_ok_and(|own| own == id),
        };
        if own_id && fields.text(names::FIELD_SESSION_KEY).is_some_and(|key| !key.expose().is_empty()) {
            Ok(fields)
        } else {
            Err(foreign())
        }
    }

    /// Reads the members of any object.
    pub(crate) fn of_object(bytes: &[u8]) -> Result<Self> {
        serde_json::from_slice(bytes).map(Self).map_err(|_| foreign())
    }

    /// Reads a stored user: an object with the user's data.
    pub(crate) fn parse_user(bytes: &[u8]) -> Result<Raw> {
        let mut fields = Self::of_object(bytes)?;
        let info = fields.0.remove(names::FIELD_USER_INFO).ok_or_else(foreign)?;
        if info.get().starts_with('{') { Ok(info) } else { Err(foreign()) }
    }

    pub(crate) fn encode(&self) -> Result<Bytes> {
        serde_json::to_vec(&self.0)
            .map(Bytes::from)
            .map_err(|_| Error::new(ErrorKind::Codec, "the session cannot be written as JSON"))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&RawValue> {
        self.0.get(name).map(|value| &**value)
    }

    /// Returns the field if it is a string.
    pub(crate) fn text(&self, name: &str) -> Option<Secret> {
        serde_json::from_str::<String>(self.get(name)?.get()).ok().map(Secret::new)
    }

    /// Returns the user's id in this mini-program.
    pub(crate) fn open_id(&self) -> Option<String> {
        open_id(self.get(names::FIELD_USER_INFO)?)
    }

    /// Decodes the fields except those of the protocol, as one object.
    pub(crate) fn decode<T: DeserializeOwned>(&self) -> Result<T> {
        let own = self.0.iter().filter(|(name, _)| !names::PROTOCOL.contains(&name.as_str()));
        let own = own.collect::<BTreeMap<_, _>>();
        Json.encode(&own).and_then(|own| Json.decode(&own))
    }

    /// Returns the session key. `parse` has checked that it exists.
    pub(crate) fn session_key(&self) -> Secret {
        self.text(names::FIELD_SESSION_KEY).unwrap_or_else(|| Secret::new(""))
    }

    pub(crate) fn set(&mut self, name: &str, value: Raw) {
        self.0.insert(name.to_owned(), value);
    }

    pub(crate) fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Returns these fields, plus the fields of `other` whose names are not among them.
    pub(crate) fn or(mut self, other: Self) -> Self {
        for (name, value) in other.0 {
            self.0.entry(name).or_insert(value);
        }
        self
    }

    /// Returns whether the fields are equal except for white space, which a store with a JSON type may
    /// change.
    pub(crate) fn same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(one, other)| one.0 == other.0 && equal(one.1, other.1))
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }
}

pub(crate) fn encode<T: Serialize + ?Sized>(name: &str, value: &T) -> Result<Raw> {
    Json.encode(value).and_then(|json| Json.decode(&json)).map_err(|error| {
        Error::new(ErrorKind::Codec, format!("the field `{name}` cannot be saved: {}", error.message()))
    })
}

pub(crate) fn decode<T: DeserializeOwned>(name: &str, value: &RawValue) -> Result<T> {
    Json.decode(value.get().as_bytes()).map_err(|_| {
        Error::new(ErrorKind::Codec, format!("the field `{name}` does not have the requested type"))
    })
}

/// Returns the user's id in this mini-program, from the user's data.
pub(crate) fn open_id(user: &RawValue) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct User {
        open_id: Option<String>,
    }
    serde_json::from_str::<User>(user.get()).ok()?.open_id
}

fn equal(one: &RawValue, other: &RawValue) -> bool {
    one.get() == other.get() || tokens(one.get()).eq(tokens(other.get()))
}

/// Returns the bytes of a JSON text without the white space between its tokens.
fn tokens(json: &str) -> impl Iterator<Item = u8> + '_ {
    let (mut quoted, mut escaped) = (false, false);
    json.bytes().filter(move |&byte| {
        let kept = quoted || !byte.is_ascii_whitespace();
        if byte == b'"' && !escaped {
            quoted = !quoted;
        }
        escaped = byte == b'\\' && !escaped;
        kept
    })
}

pub(crate) fn foreign() -> Error {
    Error::new(
        ErrorKind::Corrupt,
        "the value under the session's key is not a session of this protocol; it was left unchanged (do two \
         programs share a key prefix?)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_of_mp_session_koa2_keeps_every_byte() {
        let stored =
            r#"{"cart":[1.10,1e2],"id":"ab","sessionKey":"k","skey":"s","userInfo":{"nickName":"Band"}}"#;
        let fields = Fields::parse(stored.as_bytes(), "ab").unwrap();
        assert_eq!(fields.encode().unwrap(), stored);
        assert_eq!(fields.text("sessionKey").unwrap().expose(), "k");
    }

    #[test]
    fn white_space_between_tokens_does_not_count() {
        let fields = |json: &str| {
            Fields::parse(format!(r#"{{"sessionKey":"k","a":{json}}}"#).as_bytes(), "ab").unwrap()
        };
        assert!(
            fields(r#"{"b":[1,"x y\\"],"c":"\" "}"#).same(&fields(r#"{ "b": [1, "x y\\"], "c": "\" " }"#))
        );
        assert!(!fields(r#"["a b"]"#).same(&fields(r#"["ab"]"#)));
        assert!(!fields("18446744073709551617").same(&fields("18446744073709551618")));
        assert!(!fields("1").same(&Fields::parse(br#"{"sessionKey":"k","b":1}"#, "ab").unwrap()));
    }

    #[test]
    fn numbers_outside_json_are_rejected() {
        for wrong in [f64::NAN, f64::INFINITY] {
            assert_eq!(encode("weight", &Some(wrong)).unwrap_err().kind(), ErrorKind::Codec);
        }
        assert_eq!(encode("weight", &None::<f64>).unwrap().get(), "null");
    }

    #[test]
    fn half_a_surrogate_pair_is_readable_and_kept() {
        let stored = r#"{"cut":"a \ud83c","id":"ab","sessionKey":"k"}"#;
        let fields = Fields::parse(stored.as_bytes(), "ab").unwrap();
        assert_eq!(decode::<String>("cut", fields.get("cut").unwrap()).unwrap(), "a \u{fffd}");
        assert_eq!(fields.encode().unwrap(), stored);
    }

    #[test]
    fn other_values_are_rejected_and_not_quoted() {
        for stored in [
            "",
            "secret",
            "[]",
            "null",
            r#""secret""#,
            "{}",
            r#"{"cookie":{"path":"/"},"user":"secret"}"#,
            r#"{"v":2,"__d":{"id":"ab","sessionKey":"secret"}}"#,
            r#"{"id":"ab","sessionKey":7}"#,
            r#"{"id":"ab","sessionKey":""}"#,
            r#"{"id":"cd","sessionKey":"secret"}"#,
            r#"{"id":7,"sessionKey":"secret"}"#,
            "\u{1}{}",
        ] {
            let error = Fields::parse(stored.as_bytes(), "ab").map(drop).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{stored}");
            assert!(!format!("{error} {error:?}").contains("secret"));
        }
        assert!(Fields::parse(&[0xff, 0xfe], "ab").is_err());
    }
}

//! Typed values: how they become bytes.

use std::fmt;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Result};

/// Turns values into bytes and back.
pub trait Codec: Clone + fmt::Debug + Send + Sync + 'static {
    /// The format's name, for errors.
    fn name(&self) -> &'static str;

    /// Encodes `value`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if the format cannot hold the value (JSON: a map with keys that are no
    /// strings, say). The message does not contain the value.
    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes>;

    /// Decodes `bytes`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Codec`] if they are not what the type asks for. The message does not contain
    /// the bytes.
    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T>;
}

fn encode_error(format: &str) -> Error {
    Error::new(ErrorKind::Codec, format!("the value cannot be written as {format}"))
}

fn decode_error(format: &str, place: impl fmt::Display) -> Error {
    Error::new(
        ErrorKind::Codec,
        format!("the stored value is not the {format} that this type is read from{place}"),
    )
}

/// JSON (RFC 8259), the default: every store can show it, and all but one can query it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Json;

impl Codec for Json {
    fn name(&self) -> &'static str {
        "JSON"
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        serde_json::to_vec(value).map(Bytes::from).map_err(|_| encode_error(self.name()))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        // serde_json's own message may quote the value; its place and category do not.
        serde_json::from_slice(bytes).map_err(|error| {
            let place = format_args!(
                " ({:?} error at line {}, column {})",
                error.classify(),
                error.line(),
                error.column()
            )
            .to_string();
            decode_error(self.name(), place)
        })
    }
}

/// [MessagePack](https://msgpack.org), with structs as maps, so that fields can be added later.
#[cfg(feature = "msgpack")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MessagePack;

#[cfg(feature = "msgpack")]
impl Codec for MessagePack {
    fn name(&self) -> &'static str {
        "MessagePack"
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        rmp_serde::to_vec_named(value).map(Bytes::from).map_err(|_| encode_error(self.name()))
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        let mut rest = bytes;
        let value = rmp_serde::from_read(&mut rest).map_err(|_| decode_error(self.name(), ""))?;
        // Bytes after the value: this is not what the codec wrote.
        if rest.is_empty() { Ok(value) } else { Err(decode_error(self.name(), "")) }
    }
}

/// [CBOR](https://www.rfc-editor.org/rfc/rfc8949) (RFC 8949).
#[cfg(feature = "cbor")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cbor;

#[cfg(feature = "cbor")]
impl Codec for Cbor {
    fn name(&self) -> &'static str {
        "CBOR"
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Bytes> {
        let mut bytes = Vec::new();
        ciborium::into_writer(value, &mut bytes).map_err(|_| encode_error(self.name()))?;
        Ok(bytes.into())
    }

    fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        let mut rest = bytes;
        let value = ciborium::from_reader(&mut rest).map_err(|_| decode_error(self.name(), ""))?;
        if rest.is_empty() { Ok(value) } else { Err(decode_error(self.name(), "")) }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Session {
        #[serde(default)]
        pizzas: u32,
        name: Option<String>,
    }

    fn round_trip(codec: impl Codec) {
        let session = Session { pizzas: 3, name: Some("Míša".into()) };
        let bytes = codec.encode(&session).unwrap();
        assert_eq!(codec.decode::<Session>(&bytes).unwrap(), session);

        // Fields can be added later.
        let old = codec.encode(&serde_json::json!({ "name": null })).unwrap();
        assert_eq!(codec.decode::<Session>(&old).unwrap(), Session::default());

        let mut longer = bytes.to_vec();
        longer.extend_from_slice(&bytes);
        for wrong in [&b"\xc1"[..], b"", &bytes[..bytes.len() - 1], &longer] {
            assert_eq!(codec.decode::<Session>(wrong).unwrap_err().kind(), ErrorKind::Codec);
        }
    }

    #[test]
    fn json() {
        round_trip(Json);
    }

    #[cfg(feature = "msgpack")]
    #[test]
    fn msgpack() {
        round_trip(MessagePack);
    }

    #[cfg(feature = "cbor")]
    #[test]
    fn cbor() {
        round_trip(Cbor);
    }

    #[test]
    fn errors_do_not_print_the_value() {
        let error = Json.decode::<u32>(b"\"hunter2\"").unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
        assert!(error.message().contains("line 1"));
    }
}

//! The file of an entry in Larder's layout with JSON values.
//!
//! ```json
//! {
//!     "key": "chat:7",
//!     "expires_at": null,
//!     "version": "00c0ffee00c0ffee",
//!     "value": {
//!         "pizzas": 3
//!     }
//! }
//! ```
//!
//! `expires_at` is in Unix milliseconds, `null` for never. People may edit the value (and the
//! expiry): the version that programs see is made of `version` and the value, so that a
//! compare-and-swap notices.

use std::{borrow::Cow, io::Read, path::Path};

use bytes::Bytes;
use larder_core::{Key, Result, Version};
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::{
    error::corrupt,
    form::{Glance, Stored, open, read_whole, same_key},
    json_text,
};

/// The members before the value fit in, also where every character of the key is escaped.
const HEAD: usize = 4 * 1024;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(default)]
    expires_at: Option<i64>,
    #[serde(borrow, default)]
    version: Cow<'a, str>,
    #[serde(borrow)]
    value: &'a RawValue,
}

/// The file for `value`, which is compact JSON.
pub(crate) fn encode(key: &Key, token: u64, deadline: Option<i64>, value: &[u8]) -> Vec<u8> {
    let key = serde_json::Value::from(key.as_str());
    let expires_at = serde_json::Value::from(deadline);
    let mut text =
        format!("{{\n\t\"key\": {key},\n\t\"expires_at\": {expires_at},\n\t\"version\": \"{token:016x}\",\n\t\"value\": ")
            .into_bytes();
    text.extend(json_text::indent(value, 1));
    text.extend_from_slice(b"\n}");
    text
}

/// The version that programs see.
pub(crate) fn version(token: u64, value: &[u8]) -> Version {
    // The token alone tells writes apart; the rest tells what people did to the file.
    let edit = u64::from(crc32fast::hash(value)) << 32 | (value.len() as u64 & 0xffff_ffff);
    Version::from_token(token ^ edit)
}

/// The token in the file; one that people took out counts as 0.
fn token(text: &str) -> Result<u64> {
    if text.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(text, 16)
        .map_err(|_| corrupt("`version` in the entry's file is not 16 hexadecimal digits"))
}

pub(crate) fn decode(text: &[u8], key: &Key) -> Result<Stored> {
    let envelope: Envelope<'_> = serde_json::from_slice(text).map_err(|error| malformed(&error))?;
    if envelope.key != key.as_str() {
        let found = Key::new(&envelope.key).map_err(|_| corrupt("`key` in the entry's file is no key"))?;
        same_key(&found, key)?;
    }
    let token = token(&envelope.version)?;
    let value = json_text::compact(envelope.value.get().as_bytes());
    Ok(Stored {
        version: version(token, &value),
        value: Bytes::copy_from_slice(&value),
        deadline: envelope.expires_at,
    })
}

/// The file `text` with another expiry; all else stays.
pub(crate) fn with_deadline(text: &[u8], key: &Key, deadline: Option<i64>) -> Result<Vec<u8>> {
    let envelope: Envelope<'_> = serde_json::from_slice(text).map_err(|error| malformed(&error))?;
    let value = json_text::compact(envelope.value.get().as_bytes());
    Ok(encode(key, token(&envelope.version)?, deadline, &value))
}

/// What is wrong, by its place only: the parser's own words may quote the value.
fn malformed(error: &serde_json::Error) -> larder_core::Error {
    corrupt(format!(
        "the entry's file is not the JSON object that Larder writes (line {}, column {})",
        error.line(),
        error.column()
    ))
}

/// The key and the expiry of the file at `path`, from its beginning if they are there, as we write
/// them; somebody may have moved them behind the value.
pub(crate) fn glance(path: &Path) -> Result<Option<Glance>> {
    let Some(file) = open(path)? else {
        return Ok(None);
    };
    let mut text = Vec::with_capacity(HEAD);
    // A place that cannot be read here is not a file: reading it as a whole says so.
    if file.take(HEAD as u64).read_to_end(&mut text).is_err() {
        text.clear();
    }
    let mut members = Members { key: None, expires_at: None };
    // Stops with an error, be it our own at the value or one at the end of what was read.
    let _ = members.deserialize(&mut serde_json::Deserializer::from_slice(&text));
    if let Members { key: Some(key), expires_at: Some(deadline) } = members {
        return Ok(Some(Glance { key: Some(parse_key(&key)?), deadline }));
    }
    let Some(text) = read_whole(path)? else {
        return Ok(None);
    };
    let envelope: Envelope<'_> = serde_json::from_slice(&text).map_err(|error| malformed(&error))?;
    Ok(Some(Glance { key: Some(parse_key(&envelope.key)?), deadline: envelope.expires_at }))
}

fn parse_key(text: &str) -> Result<Key> {
    Key::new(text).map_err(|_| corrupt("`key` in the entry's file is no key"))
}

/// Gathers the members that stand before the value.
struct Members {
    key: Option<String>,
    expires_at: Option<Option<i64>>,
}

impl<'de> DeserializeSeed<'de> for &mut Members {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Members {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            match &*name {
                "key" => self.key = Some(map.next_value()?),
                "expires_at" => self.expires_at = Some(map.next_value()?),
                "value" => return Err(A::Error::custom("enough")),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use larder_core::ErrorKind;

    use super::*;

    fn key() -> Key {
        Key::new("chat \"7\" \\ é").unwrap()
    }

    #[test]
    fn round_trip() {
        let text = encode(&key(), 0xc0ffee, Some(1_795_310_512_273), b"{\"a\":[1.50,\"x y\"]}");
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            "{\n\t\"key\": \"chat \\\"7\\\" \\\\ é\",\n\t\"expires_at\": 1795310512273,\n\t\"version\": \"0000000000c0ffee\",\n\
             \t\"value\": {\n\t\t\"a\": [\n\t\t\t1.50,\n\t\t\t\"x y\"\n\t\t]\n\t}\n}"
        );
        let stored = decode(&text, &key()).unwrap();
        assert_eq!(&stored.value[..], b"{\"a\":[1.50,\"x y\"]}");
        assert_eq!(stored.deadline, Some(1_795_310_512_273));
        assert_eq!(stored.version, version(0xc0ffee, &stored.value));
    }

    #[test]
    fn an_edit_by_hand_changes_the_version() {
        let text = String::from_utf8(encode(&key(), 1, None, b"[1]")).unwrap();
        let before = decode(text.as_bytes(), &key()).unwrap();
        let edited = decode(text.replace('[', "[ 2,").as_bytes(), &key()).unwrap();
        let moved = decode(text.replace('\t', "  ").as_bytes(), &key()).unwrap();
        assert_ne!(before.version, edited.version);
        assert_eq!(before.version, moved.version);
        assert_eq!(&edited.value[..], b"[2,1]");
    }

    #[test]
    fn every_truncation_is_noticed() {
        let text = encode(&key(), 1, None, b"{\"a\":1}");
        for length in 0..text.len() {
            assert_eq!(decode(&text[..length], &key()).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        let other = Key::new("other").unwrap();
        assert_eq!(decode(&text, &other).unwrap_err().kind(), ErrorKind::Corrupt);
        for foreign in
            ["{}", "[]", "{\"key\":\"x\",\"value\":1,\"version\":\"?\"}", "{\"key\":\"\",\"value\":1}"]
        {
            let error = decode(foreign.as_bytes(), &Key::new("x").unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{foreign}");
        }
    }

    #[test]
    fn a_glance_needs_the_head_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        assert!(glance(&path).unwrap().is_none());
        let longest = Key::new("\"".repeat(512)).unwrap();
        let value = format!("\"{}\"", "v".repeat(2 * HEAD));
        for key in [key(), longest] {
            let mut text = encode(&key, 1, Some(5), value.as_bytes());
            // What is cut off is not looked at.
            text.truncate(HEAD);
            fs::write(&path, &text).unwrap();
            let glance = glance(&path).unwrap().unwrap();
            assert_eq!((glance.key, glance.deadline), (Some(key), Some(5)));
        }
        // Edited by hand: the value first, and no expiry.
        fs::write(&path, format!("{{\"value\":{value},\"key\":\"k\"}}")).unwrap();
        let glance = glance(&path).unwrap().unwrap();
        assert_eq!((glance.key, glance.deadline), (Some(Key::new("k").unwrap()), None));
        fs::write(&path, "{\"value\":1").unwrap();
        assert_eq!(super::glance(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

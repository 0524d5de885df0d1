//! Reads and writes the file of an entry in Larder's layout with JSON values.
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
//! `expires_at` is in Unix milliseconds, or `null` for never. People may edit the value and the expiry. The version
//! that programs see is computed from `version` and the value, so compare-and-swap detects edits.

use std::{borrow::Cow, io, path::Path};

use larder_core::{Bytes, Info, Key, Result, Values, Version, unique};
use larder_kit::check_json;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Encoded, EntryFormat, Stored, binary::BinaryFormat, json_text};
use crate::{
    error::{self, corrupt},
    files,
};

/// Larder's own layout, with JSON values that people can read and edit.
pub(crate) struct JsonFormat;

/// The text before the value, as Larder writes it. It cannot occur in a JSON string.
const VALUE: &[u8] = b",\n\t\"value\": ";

/// The maximum size of the members before the value, even if every character of the key is escaped.
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

impl EntryFormat for JsonFormat {
    fn info(&self) -> Info {
        BinaryFormat.info().with_values(Values::JsonText)
    }

    fn extension(&self) -> &'static str {
        ".json"
    }

    fn encode(&self, key: &Key, deadline: Option<i64>, value: &Bytes) -> Result<Encoded> {
        check_json(value)?;
        let token = unique::id64();
        let value = json_text::compact(value);
        let head = encode(key, token, deadline, &value);
        Ok(Encoded { head, body: Bytes::new(), version: version(token, &value) })
    }

    fn read(&self, path: &Path, _: bool) -> Result<Option<(Key, Stored)>> {
        files::read(path)?.map(|text| decode(&text)).transpose()
    }

    /// Reads only the start of the file if key and expiry are there, where Larder writes them. People may have moved
    /// them after the value.
    fn peek(&self, path: &Path) -> Result<Option<(Key, Option<i64>)>> {
        let Some((start, _)) = files::read_start(path, HEAD)? else {
            return Ok(None);
        };
        let end = start.windows(VALUE.len()).position(|text| text == VALUE);
        let head = end.and_then(|end| serde_json::from_slice(&[&start[..end], b"}"].concat()).ok());
        if let Some(Head { key, expires_at }) = head {
            return Ok(Some((parse_key(&key)?, expires_at)));
        }
        Ok(self.read(path, false)?.map(|(key, stored)| (key, stored.deadline)))
    }

    fn touch(&self, path: &Path, deadline: Option<i64>, _: bool) -> Result<Option<Vec<u8>>> {
        let missing = || error::io(io::ErrorKind::NotFound.into());
        let text = files::read(path)?.ok_or_else(missing)?;
        let Envelope { key, version, value, .. } = parse(&text)?;
        let value = json_text::compact(value.get().as_bytes());
        Ok(Some(encode(&parse_key(&key)?, token(&version)?, deadline, &value)))
    }
}

/// The members before the value. Both are required.
#[derive(Deserialize)]
struct Head {
    key: String,
    #[serde(deserialize_with = "Option::deserialize")]
    expires_at: Option<i64>,
}

/// Returns the file for `value`, which is compact JSON.
fn encode(key: &Key, token: u64, deadline: Option<i64>, value: &[u8]) -> Vec<u8> {
    let key = serde_json::Value::from(key.as_str());
    let expires_at = serde_json::Value::from(deadline);
    let mut text =
        format!("{{\n\t\"key\": {key},\n\t\"expires_at\": {expires_at},\n\t\"version\": \"{token:016x}\",\n\t\"value\": ")
            .into_bytes();
    text.extend(json_text::indent(value, 1));
    text.extend_from_slice(b"\n}");
    text
}

/// Returns the version that programs see, computed from the token in the file and the value.
fn version(token: u64, value: &[u8]) -> Version {
    // The token alone distinguishes writes; the rest distinguishes edits by hand.
    let edit = u64::from(crc32fast::hash(value)) << 32 | (value.len() as u64 & 0xffff_ffff);
    Version::from_token(token ^ edit)
}

/// Parses the token in the file. A token that was removed by hand counts as 0.
fn token(text: &str) -> Result<u64> {
    if text.is_empty() {
        return Ok(0);
    }
    u64::from_str_radix(text, 16)
        .map_err(|_| corrupt("`version` in the file of the entry is not 16 hexadecimal digits"))
}

fn decode(text: &[u8]) -> Result<(Key, Stored)> {
    let envelope = parse(text)?;
    let value = json_text::compact(envelope.value.get().as_bytes()).into_owned();
    let version = version(token(&envelope.version)?, &value);
    let stored = Stored { value: value.into(), version, deadline: envelope.expires_at };
    Ok((parse_key(&envelope.key)?, stored))
}

/// # Errors
///
/// [`Corrupt`](larder_core::ErrorKind::Corrupt) with the position of the error. The parser's message is dropped,
/// because it may contain the value.
fn parse(text: &[u8]) -> Result<Envelope<'_>> {
    serde_json::from_slice(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        corrupt(format!(
            "the file of the entry is not the JSON object that Larder writes (line {line}, column {column})"
        ))
    })
}

fn parse_key(text: &str) -> Result<Key> {
    Key::new(text).map_err(|_| corrupt("`key` in the file of the entry is not a valid key"))
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
    fn an_encoded_entry_is_read_back() {
        let text = encode(&key(), 0xc0ffee, Some(1_795_310_512_273), b"{\"a\":[1.50,\"x y\"]}");
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            "{\n\t\"key\": \"chat \\\"7\\\" \\\\ é\",\n\t\"expires_at\": 1795310512273,\n\t\"version\": \"0000000000c0ffee\",\n\
             \t\"value\": {\n\t\t\"a\": [\n\t\t\t1.50,\n\t\t\t\"x y\"\n\t\t]\n\t}\n}"
        );
        let (found, stored) = decode(&text).unwrap();
        assert_eq!(found, key());
        assert_eq!(&stored.value[..], b"{\"a\":[1.50,\"x y\"]}");
        assert_eq!(stored.deadline, Some(1_795_310_512_273));
        assert_eq!(stored.version, version(0xc0ffee, &stored.value));
    }

    #[test]
    fn an_edit_by_hand_changes_the_version() {
        let text = String::from_utf8(encode(&key(), 1, None, b"[1]")).unwrap();
        let before = decode(text.as_bytes()).unwrap().1;
        let edited = decode(text.replace('[', "[ 2,").as_bytes()).unwrap().1;
        let moved = decode(text.replace('\t', "  ").as_bytes()).unwrap().1;
        assert_ne!(before.version, edited.version);
        assert_eq!(before.version, moved.version);
        assert_eq!(&edited.value[..], b"[2,1]");
    }

    #[test]
    fn every_truncation_is_detected() {
        let text = encode(&key(), 1, None, b"{\"a\":1}");
        for length in 0..text.len() {
            assert_eq!(decode(&text[..length]).unwrap_err().kind(), ErrorKind::Corrupt);
        }
        for foreign in
            ["{}", "[]", "{\"key\":\"x\",\"value\":1,\"version\":\"?\"}", "{\"key\":\"\",\"value\":1}"]
        {
            let error = decode(foreign.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{foreign}");
        }
    }

    #[test]
    fn peek_reads_only_the_head() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        assert!(JsonFormat.peek(&path).unwrap().is_none());
        let longest = Key::new("\"".repeat(512)).unwrap();
        let value = format!("\"{}\"", "v".repeat(2 * HEAD));
        for key in [key(), longest] {
            let mut text = encode(&key, 1, Some(5), value.as_bytes());
            // `peek` does not read the rest.
            text.truncate(HEAD);
            fs::write(&path, &text).unwrap();
            assert_eq!(JsonFormat.peek(&path).unwrap().unwrap(), (key, Some(5)));
        }
        // Edited by hand: the value is first, and the expiry is missing.
        fs::write(&path, format!("{{\"value\":{value},\"key\":\"k\"}}")).unwrap();
        assert_eq!(JsonFormat.peek(&path).unwrap().unwrap(), (Key::new("k").unwrap(), None));
        fs::write(&path, "{\"value\":1").unwrap();
        assert_eq!(JsonFormat.peek(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    }
}

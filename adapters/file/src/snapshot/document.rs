//! Reads and writes the snapshot file.
//!
//! ```json
//! {
//!     "larder": "snapshot",
//!     "version": 1,
//!     "entries": {
//!         "chat:7": {"expires_at":null,"version":"00c0ffee00c0ffee","value":{"pizzas":3}},
//!         "photo:7": {"expires_at":1795310512273,"version":"00facade00facade","base64":"iVBORw0KGgo="}
//!     }
//! }
//! ```
//!
//! One line per entry. A value that is JSON without white space between tokens is written as it is (`value`); any other
//! value in base64 (`base64`). So all values are read back byte for byte. `expires_at` is in Unix milliseconds.

use std::{
    borrow::Cow,
    fmt,
    io::{self, Write},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use larder_core::{Error, Key, Result, Version};
use larder_kit::{check_json, json_members};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::map::Slots;
use crate::{
    error::corrupt,
    format::{Stored, json_text},
};

const NAME: &str = "snapshot";
const VERSION: u32 = 1;

/// Writes a snapshot of the entries.
pub(super) fn write<'a>(
    mut out: impl Write,
    entries: impl Iterator<Item = (&'a Key, &'a Stored)>,
) -> io::Result<()> {
    write!(out, "{{\n\t\"larder\": \"{NAME}\",\n\t\"version\": {VERSION},\n\t\"entries\": {{")?;
    let mut end = "}\n}\n";
    let mut comma = "";
    for (key, Stored { value, version, deadline }) in entries {
        let key = serde_json::Value::from(key.as_str());
        let expires_at = serde_json::Value::from(*deadline);
        let token = version.as_token().unwrap_or_default();
        write!(out, "{comma}\n\t\t{key}: {{\"expires_at\":{expires_at},\"version\":\"{token:016x}\",")?;
        // A value with white space between tokens would be read back without it.
        if check_json(value).is_ok() && matches!(json_text::compact(value), Cow::Borrowed(_)) {
            out.write_all(b"\"value\":")?;
            out.write_all(value)?;
        } else {
            write!(out, "\"base64\":\"{}\"", STANDARD.encode(value))?;
        }
        out.write_all(b"}")?;
        (comma, end) = (",", "\n\t}\n}\n");
    }
    out.write_all(end.as_bytes())?;
    out.flush()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document<'a> {
    larder: Cow<'a, str>,
    version: u32,
    /// A list, to detect repeated keys.
    #[serde(borrow, deserialize_with = "json_members")]
    entries: Vec<(String, Saved<'a>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved<'a> {
    #[serde(default)]
    expires_at: Option<i64>,
    #[serde(default)]
    version: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
    #[serde(default)]
    base64: Option<Cow<'a, str>>,
}

/// Deserializes a `value` that is present, even if it is `null`.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads a snapshot.
///
/// # Errors
///
/// [`Corrupt`](larder_core::ErrorKind::Corrupt) if the text is not a snapshot.
pub(super) fn parse(text: &[u8]) -> Result<Slots> {
    let document: Document<'_> = serde_json::from_slice(text).map_err(|error| {
        // The parser's message is dropped, because it may contain a value.
        unusable(format!("is not a snapshot: see line {}, column {}", error.line(), error.column()))
    })?;
    if document.larder != NAME || document.version != VERSION {
        return Err(unusable("was written by another program, or by a newer version of Larder"));
    }
    let mut slots = Slots::new();
    for (place, (key, saved)) in document.entries.into_iter().enumerate() {
        let wrong = |reason: &str| unusable(format!("has an invalid entry (number {}): {reason}", place + 1));
        let key = Key::new(key).map_err(|error| wrong(error.message()))?;
        let value = match (saved.value, saved.base64) {
            (Some(json), None) => json_text::compact(json.get().as_bytes()).into_owned(),
            (None, Some(text)) => {
                STANDARD.decode(text.as_bytes()).map_err(|_| wrong("`base64` cannot be decoded"))?
            }
            _ => return Err(wrong("it must have either `value` or `base64`")),
        };
        let token = saved.version.map(|text| u64::from_str_radix(&text, 16)).transpose();
        let token = token.map_err(|_| wrong("`version` is not 16 hexadecimal digits"))?;
        let version = token.map_or_else(Version::unique, Version::from_token);
        let stored = Stored { value: value.into(), version, deadline: saved.expires_at };
        if slots.insert(key, stored).is_some() {
            return Err(wrong("its key is repeated"));
        }
    }
    Ok(slots)
}

fn unusable(reason: impl fmt::Display) -> Error {
    corrupt(format!(
        "the snapshot file {reason}; it was not changed: repair it, or move it away to start with an empty one"
    ))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use larder_core::ErrorKind;

    use super::*;

    fn slot(value: &'static [u8], deadline: Option<i64>) -> Stored {
        Stored { value: Bytes::from_static(value), version: Version::from_token(0xc0ffee), deadline }
    }

    fn write(entries: &[(&str, Stored)]) -> String {
        let entries: Vec<_> = entries.iter().map(|(key, slot)| (Key::new(key).unwrap(), slot)).collect();
        let mut out = Vec::new();
        super::write(&mut out, entries.iter().map(|(key, slot)| (key, *slot))).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn snapshots_have_the_documented_form() {
        assert_eq!(
            write(&[("chat:7", slot(b"{\"pizzas\":3.0}", None)), ("a\"b", slot(b"\xff", Some(5)))]),
            "{\n\t\"larder\": \"snapshot\",\n\t\"version\": 1,\n\t\"entries\": {\
             \n\t\t\"chat:7\": {\"expires_at\":null,\"version\":\"0000000000c0ffee\",\"value\":{\"pizzas\":3.0}},\
             \n\t\t\"a\\\"b\": {\"expires_at\":5,\"version\":\"0000000000c0ffee\",\"base64\":\"/w==\"}\n\t}\n}\n"
        );
        assert!(parse(write(&[]).as_bytes()).unwrap().is_empty());
    }

    #[test]
    fn all_bytes_are_read_back() {
        let values: &[&[u8]] = &[
            b"",
            b" ",
            b"null",
            b"{\"a\": 1}",
            b"{\"a\":1}",
            b"{\"a\":1,\"a\":2}",
            b"1.50",
            b"1e999",
            b"[139.39000000000001,-120.65487365123505,1.7976931348623157e308,5e-324,-0.0]",
            b"[18446744073709551615,-9223372036854775808,340282366920938463463374607431768211455]",
            b"\"\\u00e9 \\ud800\"",
            b"\xff\0",
            b"text",
            b"[1,2]\n",
        ];
        for value in values {
            let text = write(&[("k", slot(value, Some(9)))]);
            let slots = parse(text.as_bytes()).unwrap();
            let found = &slots[&Key::new("k").unwrap()];
            assert_eq!(&found.value[..], *value);
            assert_eq!((&found.version, found.deadline), (&Version::from_token(0xc0ffee), Some(9)));
        }
    }

    #[test]
    fn truncated_and_foreign_files_are_rejected() {
        let text = write(&[("k", slot(b"[1]", None))]);
        // Without its last line feed, the file is still complete.
        for length in 0..text.len() - 1 {
            assert_eq!(parse(&text.as_bytes()[..length]).unwrap_err().kind(), ErrorKind::Corrupt, "{length}");
        }
        for wrong in [
            "{}",
            "[]",
            "null",
            &text.replace("snapshot", "picture"),
            &text.replace("\"version\": 1", "\"version\": 2"),
            &text.replace("value", "valeu"),
            &text.replace("\"value\":[1]", "\"expires\":1"),
            &text.replace("\"value\":[1]", "\"base64\":\"?\""),
            &text.replace("\"value\":[1]", "\"value\":[1],\"base64\":\"\""),
            &text.replace("c0ffee", "coffee"),
            &text.replace("\"k\":", "\"\":"),
            &text.replace("\"entries\": {", "\"entries\": {\"k\":{\"value\":1},"),
            &text.replace("\"entries\"", "\"other\":1,\"entries\""),
        ] {
            assert_eq!(parse(wrong.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt, "{wrong}");
        }
    }

    #[test]
    fn an_edited_snapshot_is_readable() {
        let text =
            "{\"larder\":\"snapshot\",\"version\":1,\"entries\":{\"k\":{\"value\":{ \"a\" : [ 1 ] }}}}";
        let slots = parse(text.as_bytes()).unwrap();
        assert_eq!(&slots[&Key::new("k").unwrap()].value[..], b"{\"a\":[1]}");
    }

    #[test]
    fn errors_contain_no_values() {
        let text = write(&[("k", slot(b"\"hunter2\"", None))]).replace("\"hunter2\"", "hunter2");
        let error = parse(text.as_bytes()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        assert!(error.message().contains("line 5"), "{error}");
    }
}

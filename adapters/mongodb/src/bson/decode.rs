//! Converts BSON to JSON text.

use std::io::Write as _;

use larder_core::{Error, ErrorKind, Result};
use mongodb::bson::{RawBsonRef, RawDocument};

use super::{number::Numbers, types};

/// Returns `value` as JSON. A type that JSON lacks becomes relaxed Extended JSON, such as `{"$oid": "..."}` for an
/// ObjectId. [`from_json`](super::from_json) converts it back to the same BSON.
///
/// # Errors
///
/// `Corrupt` if the bytes are not BSON.
pub(crate) fn to_json(value: RawBsonRef<'_>, numbers: &dyn Numbers) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    write(value, numbers, &mut out)?;
    Ok(out)
}

/// Whether the text is an object that represents something other than the document of its members.
type IsSpecial = bool;

fn write(value: RawBsonRef<'_>, numbers: &dyn Numbers, out: &mut Vec<u8>) -> Result<IsSpecial> {
    match value {
        RawBsonRef::Null => push(out, "null"),
        RawBsonRef::Boolean(value) => push(out, value),
        RawBsonRef::String(value) => string(value, out),
        RawBsonRef::Array(value) => {
            out.push(b'[');
            for (index, item) in value.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item.map_err(corrupt)?, numbers, out)?;
            }
            out.push(b']');
        }
        RawBsonRef::Document(value) => return document(value, numbers, out),
        RawBsonRef::JavaScriptCodeWithScope(code) => {
            push(out, r#"{"$code":"#);
            string(code.code, out);
            push(out, r#","$scope":"#);
            document(code.scope, numbers, out)?;
            out.push(b'}');
            return Ok(true);
        }
        other => match numbers.spell(other) {
            Some(text) => push(out, text),
            None => {
                push(out, types::spelling(other).ok_or_else(|| corrupt(()))?);
                return Ok(true);
            }
        },
    }
    Ok(false)
}

/// Writes a document, and marks it if its members look like a type.
fn document(document: &RawDocument, numbers: &dyn Numbers, out: &mut Vec<u8>) -> Result<IsSpecial> {
    let start = out.len();
    let last_is_special = members(document, numbers, out)?;
    let text = &out[start..];
    let count = if text.starts_with(br#"{"$"#) { document.iter().take(3).count() } else { 0 };
    let special = match count {
        1 if text.starts_with(types::MARK.as_bytes()) => last_is_special,
        1 => is_shallow(document) && types::typed(text, numbers).is_some(),
        2 => document.get_str("$code").is_ok() && document.get_document("$scope").is_ok(),
        _ => false,
    };
    if special {
        out.splice(start..start, types::MARK.bytes());
        out.push(b'}');
    }
    Ok(special)
}

/// Writes an object of the members without a mark. Returns whether the last member is special.
pub(super) fn members(document: &RawDocument, numbers: &dyn Numbers, out: &mut Vec<u8>) -> Result<IsSpecial> {
    let mut last_is_special = false;
    out.push(b'{');
    for (index, member) in document.iter().enumerate() {
        let (name, value) = member.map_err(corrupt)?;
        if index > 0 {
            out.push(b',');
        }
        string(name, out);
        out.push(b':');
        last_is_special = write(value, numbers, out)?;
    }
    out.push(b'}');
    Ok(last_is_special)
}

/// Returns whether the document is no deeper than one that represents a type. Deeper documents are not parsed again at
/// each level around them.
fn is_shallow(document: &RawDocument) -> bool {
    let plain = |value| !matches!(value, RawBsonRef::Array(_) | RawBsonRef::Document(_));
    document.iter().flatten().all(|(_, value)| match value {
        RawBsonRef::Document(inner) => inner.iter().flatten().all(|(_, value)| plain(value)),
        value => plain(value),
    })
}

fn string(text: impl AsRef<str>, out: &mut Vec<u8>) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(out, text.as_ref());
}

fn push(out: &mut Vec<u8>, text: impl std::fmt::Display) {
    let _ = write!(out, "{text}");
}

// The parser's message is dropped, because it may contain the invalid data.
fn corrupt<E>(_: E) -> Error {
    Error::new(ErrorKind::Corrupt, "the stored value is not well-formed BSON")
}

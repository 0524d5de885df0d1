//! BSON -> JSON text.

use std::io::Write as _;

use larder_core::{Error, ErrorKind, Result};
use mongodb::bson::{RawBsonRef, RawDocument};

use super::{
    encode,
    number::{self, Numbers},
    types,
};

/// `value` as JSON. A type that JSON does not have becomes relaxed Extended JSON, such as
/// `{"$oid": "..."}` for an ObjectId. [`to_bson`](super::to_bson) makes the same BSON of it.
///
/// # Errors
///
/// `Corrupt` if the bytes are not BSON.
pub(crate) fn to_json(value: RawBsonRef<'_>, numbers: Numbers) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    write(value, numbers, &mut out)?;
    Ok(out)
}

fn write(value: RawBsonRef<'_>, numbers: Numbers, out: &mut Vec<u8>) -> Result<()> {
    match value {
        RawBsonRef::Null => push(out, "null"),
        RawBsonRef::Boolean(value) => push(out, value),
        RawBsonRef::String(value) => string(value, out),
        RawBsonRef::Document(value) => document(value, numbers, out)?,
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
        RawBsonRef::JavaScriptCodeWithScope(code) => {
            push(out, r#"{"$code":"#);
            string(code.code, out);
            push(out, r#","$scope":"#);
            document(code.scope, numbers, out)?;
            out.push(b'}');
        }
        other => match number::spell(other, numbers) {
            Some(text) => push(out, text),
            None => push(out, types::spelling(other).ok_or_else(|| corrupt(()))?),
        },
    }
    Ok(())
}

/// A document, marked as one where its members spell something else.
fn document(document: &RawDocument, numbers: Numbers, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    out.push(b'{');
    for (index, member) in document.iter().enumerate() {
        let (name, value) = member.map_err(corrupt)?;
        if index > 0 {
            out.push(b',');
        }
        string(name, out);
        out.push(b':');
        write(value, numbers, out)?;
    }
    out.push(b'}');
    let few = out[start..].starts_with(br#"{"$"#) && document.iter().nth(2).is_none();
    if few && encode::is_special(&out[start..], numbers) {
        let mark = format!(r#"{{"{}":"#, encode::LITERAL);
        out.splice(start..start, mark.into_bytes());
        out.push(b'}');
    }
    Ok(())
}

fn string(text: impl AsRef<str>, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, text.as_ref());
}

fn push(out: &mut Vec<u8>, text: impl std::fmt::Display) {
    let _ = write!(out, "{text}");
}

// The parser's message may show the bytes that it stumbled over.
fn corrupt<E>(_: E) -> Error {
    Error::new(ErrorKind::Corrupt, "the stored value is not well-formed BSON")
}

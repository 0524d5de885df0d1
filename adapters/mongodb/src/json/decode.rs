//! BSON -> JSON text.

use std::io::Write as _;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use larder_core::{Error, ErrorKind, Result};
use mongodb::bson::{Bson, DateTime, RawBsonRef, RawDocument};
use serde_json::json;

use super::{
    number::{self, MAX_SAFE},
    types,
};

/// How integers and doubles go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// A double and an integer stay apart: a double with no fraction is spelled `1.0`. An integer is
    /// stored as the smaller of int32 and int64 that holds it, also if it was an int64 before.
    AsStored,
    /// A double with no fraction is spelled `1`: in JavaScript they are the same number. It is stored as
    /// its driver does, an int32 or a double, whichever of int32, int64 and double it was before.
    JavaScript,
}

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
        RawBsonRef::Int32(value) => push(out, value),
        RawBsonRef::Int64(value) => long(value, numbers, out),
        RawBsonRef::Double(value) => double(value, numbers, out),
        RawBsonRef::Decimal128(value) => {
            let text = value.to_string();
            // A number alone would come back as a double where a double can hold it.
            if number::parse(&text, numbers) == Some(Bson::Decimal128(value)) {
                push(out, text);
            } else {
                push(out, json!({ "$numberDecimal": text }));
            }
        }
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
        foreign => push(out, foreign_type(foreign)?),
    }
    Ok(())
}

fn foreign_type(value: RawBsonRef<'_>) -> Result<serde_json::Value> {
    Ok(match value {
        RawBsonRef::ObjectId(id) => json!({ "$oid": id.to_hex() }),
        RawBsonRef::DateTime(at) => date(at),
        RawBsonRef::Symbol(name) => json!({ "$symbol": name }),
        RawBsonRef::JavaScriptCode(code) => json!({ "$code": code }),
        RawBsonRef::Binary(binary) => {
            let subtype = format!("{:02x}", u8::from(binary.subtype));
            json!({ "$binary": { "base64": BASE64.encode(binary.bytes), "subType": subtype } })
        }
        RawBsonRef::RegularExpression(regex) => {
            json!({ "$regularExpression": { "pattern": text(&regex.pattern), "options": text(&regex.options) } })
        }
        RawBsonRef::Timestamp(at) => json!({ "$timestamp": { "t": at.time, "i": at.increment } }),
        RawBsonRef::Undefined => json!({ "$undefined": true }),
        RawBsonRef::MinKey => json!({ "$minKey": 1 }),
        RawBsonRef::MaxKey => json!({ "$maxKey": 1 }),
        _ => {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the stored value has a BSON type (DBPointer, long deprecated) that has no JSON form",
            ));
        }
    })
}

/// A document, marked as one where its members spell something else.
fn document(document: &RawDocument, numbers: Numbers, out: &mut Vec<u8>) -> Result<()> {
    let start = out.len();
    object(document, numbers, out)?;
    if types::reads_as_another(document, &out[start..], numbers) {
        let mark = format!(r#"{{"{}":"#, types::LITERAL);
        out.splice(start..start, mark.into_bytes());
        out.push(b'}');
    }
    Ok(())
}

fn object(document: &RawDocument, numbers: Numbers, out: &mut Vec<u8>) -> Result<()> {
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
    Ok(())
}

fn long(value: i64, numbers: Numbers, out: &mut Vec<u8>) {
    let text = value.to_string();
    // Beyond what JavaScript counts to, its driver hands out an int64 as an object: it must not come
    // back as a double.
    let kept = numbers == Numbers::AsStored
        || value.unsigned_abs() <= MAX_SAFE
        || number::parse(&text, numbers) == Some(Bson::Int64(value));
    if kept {
        push(out, text);
    } else {
        push(out, json!({ "$numberLong": text }));
    }
}

fn double(value: f64, numbers: Numbers, out: &mut Vec<u8>) {
    if value.is_nan() || value.is_infinite() {
        let name = match value {
            f64::INFINITY => "Infinity",
            f64::NEG_INFINITY => "-Infinity",
            _ => "NaN",
        };
        return push(out, json!({ "$numberDouble": name }));
    }
    // As JSON.stringify: integers below 10^21 with all their digits and no point.
    let integer = value.fract() == 0.0 && value.abs() < 1e21 && !(value == 0.0 && value.is_sign_negative());
    if numbers == Numbers::JavaScript && integer {
        push(out, value);
    } else {
        // The shortest text that reads back as this double, with a point or an exponent.
        push(out, format_args!("{value:?}"));
    }
}

fn date(at: DateTime) -> serde_json::Value {
    let millis = at.timestamp_millis();
    // Relaxed Extended JSON spells the years 1970 to 9999 as text.
    let text = (0..253_402_300_800_000).contains(&millis).then(|| at.try_to_rfc3339_string().ok()).flatten();
    text.map_or_else(
        || json!({ "$date": { "$numberLong": millis.to_string() } }),
        |text| json!({ "$date": text }),
    )
}

// The driver's BSON has names as `&str` or, with its feature `bson-3`, as a type of their own.
fn text(text: &impl AsRef<str>) -> &str {
    text.as_ref()
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

//! BSON -> JSON text.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use larder_core::{Error, ErrorKind, Result};
use mongodb::bson::{DateTime, RawBsonRef, RawDocument};

/// How integers and doubles go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// A double and an integer stay apart: a double with no fraction is spelled `1.0`.
    AsStored,
    /// A double with no fraction is spelled `1`: in JavaScript they are the same, and its driver stores
    /// large integers as doubles.
    JavaScript,
}

/// Writes `value` as JSON. Types that JSON has not come as relaxed Extended JSON, such as
/// `{"$oid": "..."}` for an ObjectId.
///
/// # Errors
///
/// `Corrupt` if the bytes are not BSON.
pub(crate) fn to_json(value: RawBsonRef<'_>, numbers: Numbers, out: &mut Vec<u8>) -> Result<()> {
    match value {
        RawBsonRef::Null => out.extend_from_slice(b"null"),
        RawBsonRef::Boolean(value) => push(out, if value { "true" } else { "false" }),
        RawBsonRef::Int32(value) => push(out, &value.to_string()),
        RawBsonRef::Int64(value) => push(out, &value.to_string()),
        RawBsonRef::Double(value) => double(value, numbers, out),
        RawBsonRef::Decimal128(value) => match value.to_string() {
            number if number.ends_with(|c: char| c.is_ascii_digit()) => push(out, &number),
            special => wrapped("$numberDecimal", &special, out),
        },
        RawBsonRef::String(value) => string(value, out),
        RawBsonRef::Document(value) => object(value, numbers, out)?,
        RawBsonRef::Array(value) => {
            out.push(b'[');
            for (index, item) in value.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                to_json(item.map_err(corrupt)?, numbers, out)?;
            }
            out.push(b']');
        }
        foreign => foreign_type(foreign, numbers, out)?,
    }
    Ok(())
}

fn foreign_type(value: RawBsonRef<'_>, numbers: Numbers, out: &mut Vec<u8>) -> Result<()> {
    match value {
        RawBsonRef::ObjectId(id) => wrapped("$oid", &id.to_hex(), out),
        RawBsonRef::DateTime(at) => date(at, out),
        RawBsonRef::Symbol(text) => wrapped("$symbol", text, out),
        RawBsonRef::JavaScriptCode(code) => wrapped("$code", code, out),
        RawBsonRef::JavaScriptCodeWithScope(code) => {
            push(out, r#"{"$code":"#);
            string(code.code, out);
            push(out, r#","$scope":"#);
            object(code.scope, numbers, out)?;
            out.push(b'}');
        }
        RawBsonRef::Binary(binary) => {
            push(out, r#"{"$binary":{"base64":"#);
            string(BASE64.encode(binary.bytes), out);
            push(out, &format!(r#","subType":"{:02x}"}}}}"#, u8::from(binary.subtype)));
        }
        RawBsonRef::RegularExpression(regex) => {
            push(out, r#"{"$regularExpression":{"pattern":"#);
            string(regex.pattern, out);
            push(out, r#","options":"#);
            string(regex.options, out);
            push(out, "}}");
        }
        RawBsonRef::Timestamp(at) => {
            push(out, &format!(r#"{{"$timestamp":{{"t":{},"i":{}}}}}"#, at.time, at.increment));
        }
        RawBsonRef::Undefined => push(out, r#"{"$undefined":true}"#),
        RawBsonRef::MinKey => push(out, r#"{"$minKey":1}"#),
        RawBsonRef::MaxKey => push(out, r#"{"$maxKey":1}"#),
        _ => {
            return Err(Error::new(
                ErrorKind::Corrupt,
                "the stored value has a BSON type (DBPointer, long deprecated) that has no JSON form",
            ));
        }
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
        to_json(value, numbers, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn double(value: f64, numbers: Numbers, out: &mut Vec<u8>) {
    if value.is_nan() || value.is_infinite() {
        let name = match value {
            f64::INFINITY => "Infinity",
            f64::NEG_INFINITY => "-Infinity",
            _ => "NaN",
        };
        return wrapped("$numberDouble", name, out);
    }
    // As JSON.stringify: integers below 10^21 with all their digits and no point.
    let integer = value.fract() == 0.0 && value.abs() < 1e21 && !(value == 0.0 && value.is_sign_negative());
    if numbers == Numbers::JavaScript && integer {
        push(out, &value.to_string());
    } else {
        // The shortest text that reads back as this double, with a point or an exponent.
        push(out, &format!("{value:?}"));
    }
}

fn date(at: DateTime, out: &mut Vec<u8>) {
    let millis = at.timestamp_millis();
    // Relaxed Extended JSON spells the years 1970 to 9999 as text.
    let text = (0..253_402_300_800_000).contains(&millis).then(|| at.try_to_rfc3339_string().ok()).flatten();
    match text {
        Some(text) => wrapped("$date", &text, out),
        None => push(out, &format!(r#"{{"$date":{{"$numberLong":"{millis}"}}}}"#)),
    }
}

fn wrapped(name: &str, text: &str, out: &mut Vec<u8>) {
    push(out, &format!(r#"{{"{name}":"#));
    string(text, out);
    out.push(b'}');
}

// The driver's BSON has names as `&str` or, with its feature `bson-3`, as a type of their own.
fn string(text: impl AsRef<str>, out: &mut Vec<u8>) {
    let text = text.as_ref();
    out.push(b'"');
    let mut done = 0;
    for (at, byte) in text.bytes().enumerate() {
        let escape = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        push(out, &text[done..at]);
        if escape.is_empty() {
            push(out, &format!("\\u{byte:04x}"));
        } else {
            push(out, escape);
        }
        done = at + 1;
    }
    push(out, &text[done..]);
    out.push(b'"');
}

fn push(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

// The parser's message may show the bytes that it stumbled over.
fn corrupt<E>(_: E) -> Error {
    Error::new(ErrorKind::Corrupt, "the stored value is not well-formed BSON")
}

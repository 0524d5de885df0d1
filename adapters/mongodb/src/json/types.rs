//! Types that JSON does not have, spelled as MongoDB's relaxed Extended JSON.
//!
//! Reading and writing undo each other. An object stands for a type if and only if it is exactly what
//! reading that type gives. A stored document that only looks like one, such as `{$oid: "..."}` from a
//! program that stored just that, is read as `{"$literal": {"$oid": "..."}}`. Numbers are the exception:
//! see [`Numbers`].

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use mongodb::bson::{
    Binary, Bson, DateTime, Decimal128, Document, JavaScriptCodeWithScope, RawDocument, RawDocumentBuf,
    Regex, Timestamp, doc, oid::ObjectId,
};

use super::{Numbers, encode::members, to_json};

/// The name around a document that would be taken for a type. MongoDB's expressions use it alike.
pub(super) const LITERAL: &str = "$literal";

/// The BSON value that an object with these members stands for, if it is not a plain document.
pub(super) fn resolve(object: &Document, numbers: Numbers) -> Option<Bson> {
    let (name, value) = object.iter().next()?;
    match object.len() {
        1 if name == LITERAL => literal(value, numbers).map(Bson::Document),
        1 => typed(name, value).filter(|typed| spelling(typed, numbers).as_ref() == Some(object)),
        2 => match (object.get("$code")?, object.get("$scope")?) {
            (Bson::String(code), Bson::Document(scope)) => {
                let (code, scope) = (code.clone(), scope.clone());
                Some(Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code, scope }))
            }
            _ => None,
        },
        _ => None,
    }
}

/// Whether the text of a document's members would be taken for something else.
pub(super) fn reads_as_another(document: &RawDocument, text: &[u8], numbers: Numbers) -> bool {
    let few = text.starts_with(br#"{"$"#) && document.iter().nth(2).is_none();
    few && members(text, numbers).is_some_and(|members| resolve(&members, numbers).is_some())
}

/// The document that `{"$literal": value}` stands for.
fn literal(value: &Bson, numbers: Numbers) -> Option<Document> {
    match value {
        Bson::Document(members) => resolve(members, numbers).map(|other| doc! { LITERAL: other }),
        Bson::Array(_) | Bson::String(_) | Bson::Boolean(_) | Bson::Null | Bson::Int32(_) => None,
        other => spelling(other, numbers),
    }
}

/// The members of the object that reading `value` gives; `None` if it gives no object.
fn spelling(value: &Bson, numbers: Numbers) -> Option<Document> {
    let document = RawDocumentBuf::try_from(&doc! { "value": value }).ok()?;
    let text = to_json(document.get("value").ok()??, numbers).ok()?;
    members(&text, numbers)
}

/// The type that `{name: value}` names, in whatever spelling.
fn typed(name: &str, value: &Bson) -> Option<Bson> {
    Some(match (name, value) {
        ("$oid", Bson::String(hex)) => Bson::ObjectId(ObjectId::parse_str(hex).ok()?),
        ("$date", Bson::String(text)) => Bson::DateTime(DateTime::parse_rfc3339_str(text).ok()?),
        ("$date", Bson::Document(long)) => date(long.get_str("$numberLong").ok()?.parse().ok()?),
        // The inner object was taken for a type of its own.
        ("$date", Bson::Int64(millis)) => date(*millis),
        ("$numberDouble", Bson::String(text)) => Bson::Double(match text.as_str() {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            _ => return None,
        }),
        ("$numberDecimal", Bson::String(text)) => Bson::Decimal128(text.parse::<Decimal128>().ok()?),
        ("$numberLong", Bson::String(text)) => Bson::Int64(text.parse().ok()?),
        ("$symbol", Bson::String(text)) => Bson::Symbol(text.clone()),
        ("$code", Bson::String(code)) => Bson::JavaScriptCode(code.clone()),
        ("$binary", Bson::Document(binary)) => Bson::Binary(Binary {
            subtype: u8::from_str_radix(binary.get_str("subType").ok()?, 16).ok()?.into(),
            bytes: BASE64.decode(binary.get_str("base64").ok()?).ok()?,
        }),
        ("$regularExpression", Bson::Document(regex)) => {
            let (pattern, options) = (regex.get_str("pattern").ok()?, regex.get_str("options").ok()?);
            // BSON has the options in order.
            let in_order = options.as_bytes().is_sorted();
            Regex { pattern: part(pattern)?, options: part(options).filter(|_| in_order)? }.into()
        }
        ("$timestamp", Bson::Document(at)) => {
            Bson::Timestamp(Timestamp { time: count(at.get("t")?)?, increment: count(at.get("i")?)? })
        }
        ("$undefined", Bson::Boolean(true)) => Bson::Undefined,
        ("$minKey", Bson::Int32(1)) => Bson::MinKey,
        ("$maxKey", Bson::Int32(1)) => Bson::MaxKey,
        _ => return None,
    })
}

/// A part of a regular expression, which BSON ends with a NUL. The driver's BSON has it as a `String` or,
/// with its feature `bson-3`, as a type of its own.
fn part<T: TryFrom<String>>(text: &str) -> Option<T> {
    (!text.contains('\0')).then(|| T::try_from(text.to_owned()).ok()).flatten()
}

const fn date(millis: i64) -> Bson {
    Bson::DateTime(DateTime::from_millis(millis))
}

fn count(number: &Bson) -> Option<u32> {
    match number {
        Bson::Int32(number) => u32::try_from(*number).ok(),
        Bson::Int64(number) => u32::try_from(*number).ok(),
        // As large numbers are kept for JavaScript.
        Bson::Double(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

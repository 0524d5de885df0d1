//! Converts types that JSON lacks to and from MongoDB's relaxed Extended JSON.
//!
//! Reading and writing are inverse. An object represents a type if and only if it is exactly the object that reading
//! the type returns. A stored document that looks like this, such as `{$oid: "..."}`, is read as
//! `{"$literal": {"$oid": "..."}}`. Numbers are the exception: see [`Numbers`].

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use mongodb::bson::{Bson, RawBsonRef, RawDocumentBuf, doc};
use serde::Deserialize as _;
use serde_json::{Value, json, value::to_value};

use super::number::Numbers;

/// The member name that marks a document which looks like a type. It has the same meaning in MongoDB's expressions.
pub(super) const LITERAL: &str = "$literal";
/// The text before such a document.
pub(super) const MARK: &str = r#"{"$literal":"#;
/// The maximum depth of a document that represents a type, such as `{$timestamp: {t, i}}`.
pub(super) const LEVELS: usize = 2;

/// Returns the type that is read as this object, with numbers written as [`Numbers`] does.
pub(super) fn typed(text: &[u8], numbers: &dyn Numbers) -> Option<Bson> {
    let object: Value = serde_json::from_slice(text).ok()?;
    let typed = Bson::deserialize(&object).ok().filter(|typed| typed.as_document().is_none())?;
    let stored = RawDocumentBuf::try_from(&doc! { "": &typed }).ok()?;
    let stored = stored.get("").ok()??;
    (numbers.spell(stored).is_none() && spelling(stored)? == object).then_some(typed)
}

/// Returns the object that represents a value of a type that JSON lacks.
pub(super) fn spelling(value: RawBsonRef<'_>) -> Option<Value> {
    Some(match value {
        RawBsonRef::Int64(long) => json!({ "$numberLong": long.to_string() }),
        RawBsonRef::Double(double) => json!({ "$numberDouble": match double {
            f64::INFINITY => "Infinity",
            f64::NEG_INFINITY => "-Infinity",
            _ => "NaN",
        } }),
        // Relaxed Extended JSON writes the years 1970 to 9999 as text.
        RawBsonRef::DateTime(at) => match at.try_to_rfc3339_string() {
            Ok(text) if (0..253_402_300_800_000).contains(&at.timestamp_millis()) => json!({ "$date": text }),
            _ => json!({ "$date": { "$numberLong": at.timestamp_millis().to_string() } }),
        },
        RawBsonRef::Binary(binary) => {
            let subtype = format!("{:02x}", u8::from(binary.subtype));
            json!({ "$binary": { "base64": BASE64.encode(binary.bytes), "subType": subtype } })
        }
        // The driver converts the other types in the same way.
        other => to_value(other).ok()?,
    })
}

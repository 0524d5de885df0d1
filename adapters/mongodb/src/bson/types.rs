//! Types that JSON does not have, spelled as MongoDB's relaxed Extended JSON.
//!
//! Reading and writing undo each other. An object stands for a type if and only if it is exactly what
//! reading that type gives. A stored document that only looks like one, such as `{$oid: "..."}` from a
//! program that stored just that, is read as `{"$literal": {"$oid": "..."}}`. Numbers are the exception:
//! see [`Numbers`].

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use mongodb::bson::{Bson, RawBsonRef, RawDocumentBuf, doc};
use serde::Deserialize as _;
use serde_json::{Value, json, value::to_value};

use super::number::Numbers;

/// The name around a document that would be taken for a type. MongoDB's expressions use it alike.
pub(super) const LITERAL: &str = "$literal";
/// What precedes such a document.
pub(super) const MARK: &str = r#"{"$literal":"#;
/// How many levels the document that spells a type has at most, as `{$timestamp: {t, i}}`.
pub(super) const LEVELS: usize = 2;

/// The type that is read as this object, whose numbers are spelled as [`Numbers`] does.
pub(super) fn typed(text: &[u8], numbers: &dyn Numbers) -> Option<Bson> {
    let object: Value = serde_json::from_slice(text).ok()?;
    let typed = Bson::deserialize(&object).ok().filter(|typed| typed.as_document().is_none())?;
    let stored = RawDocumentBuf::try_from(&doc! { "": &typed }).ok()?;
    let stored = stored.get("").ok()??;
    (numbers.spell(stored).is_none() && spelling(stored)? == object).then_some(typed)
}

/// The object that a value is read as for which JSON has nothing.
pub(super) fn spelling(value: RawBsonRef<'_>) -> Option<Value> {
    Some(match value {
        RawBsonRef::Int64(long) => json!({ "$numberLong": long.to_string() }),
        RawBsonRef::Double(double) => json!({ "$numberDouble": match double {
            f64::INFINITY => "Infinity",
            f64::NEG_INFINITY => "-Infinity",
            _ => "NaN",
        } }),
        // Relaxed Extended JSON spells the years 1970 to 9999 as text.
        RawBsonRef::DateTime(at) => match at.try_to_rfc3339_string() {
            Ok(text) if (0..253_402_300_800_000).contains(&at.timestamp_millis()) => json!({ "$date": text }),
            _ => json!({ "$date": { "$numberLong": at.timestamp_millis().to_string() } }),
        },
        RawBsonRef::Binary(binary) => {
            let subtype = format!("{:02x}", u8::from(binary.subtype));
            json!({ "$binary": { "base64": BASE64.encode(binary.bytes), "subType": subtype } })
        }
        // The driver's BSON spells the others so by itself.
        other => to_value(other).ok()?,
    })
}

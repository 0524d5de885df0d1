//! Types that JSON does not have, spelled as MongoDB's relaxed Extended JSON.
//!
//! Reading and writing undo each other. An object stands for a type if and only if it is exactly what
//! reading that type gives. A stored document that only looks like one, such as `{$oid: "..."}` from a
//! program that stored just that, is read as `{"$literal": {"$oid": "..."}}`. Numbers are the exception:
//! see [`Numbers`].

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use mongodb::bson::{Bson, DateTime, RawBsonRef, RawDocumentBuf, doc};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{
    Value, json,
    value::{RawValue, to_value},
};

use super::number::{self, Numbers};

/// The name around a document that would be taken for a type. MongoDB's expressions use it alike.
pub(super) const LITERAL: &str = "$literal";

/// What an object stands for.
pub(super) enum Meaning<'a> {
    /// The document of its members.
    Plain,
    /// The document of the members of this object, which alone would stand for something else.
    Literal(&'a RawValue),
    /// Code with the scope of this object.
    Code(String, &'a RawValue),
    Type(Bson),
}

/// What the object `text` with these members stands for.
pub(super) fn meaning<'a>(text: &'a [u8], members: &Members<'a>, numbers: Numbers) -> Meaning<'a> {
    match members.0.as_slice() {
        [(name, inner)] if name == LITERAL => match meaning_of(inner.get().as_bytes(), numbers) {
            Meaning::Plain => Meaning::Plain,
            _ => Meaning::Literal(inner),
        },
        [(name, _)] if name.starts_with('$') => typed(text, numbers).map_or(Meaning::Plain, Meaning::Type),
        [(first, one), (second, other)] => match (first.as_str(), second.as_str()) {
            ("$code", "$scope") => code(one, other, numbers),
            ("$scope", "$code") => code(other, one, numbers),
            _ => Meaning::Plain,
        },
        _ => Meaning::Plain,
    }
}

/// The same of any text; [`Meaning::Plain`] of what is not an object.
pub(super) fn meaning_of(text: &[u8], numbers: Numbers) -> Meaning<'_> {
    serde_json::from_slice(text).map_or(Meaning::Plain, |members| meaning(text, &members, numbers))
}

fn code<'a>(code: &RawValue, scope: &'a RawValue, numbers: Numbers) -> Meaning<'a> {
    let scope = match meaning_of(scope.get().as_bytes(), numbers) {
        Meaning::Plain if scope.get().starts_with('{') => scope,
        Meaning::Literal(document) => document,
        _ => return Meaning::Plain,
    };
    serde_json::from_str(code.get()).map_or(Meaning::Plain, |code| Meaning::Code(code, scope))
}

/// The type that is read as this object.
fn typed(text: &[u8], numbers: Numbers) -> Option<Bson> {
    let mut object: Value = serde_json::from_slice(text).ok()?;
    if numbers == Numbers::JavaScript {
        whole_numbers(&mut object);
    }
    let typed = Bson::deserialize(&object).ok().filter(|typed| typed.as_document().is_none())?;
    let stored = RawDocumentBuf::try_from(&doc! { "": &typed }).ok()?;
    let stored = stored.get("").ok()??;
    (number::spell(stored, numbers).is_none() && spelling(stored)? == object).then_some(typed)
}

/// To JavaScript 1.0 and 1 are one number.
fn whole_numbers(value: &mut Value) {
    match value {
        Value::Object(members) => members.values_mut().for_each(whole_numbers),
        Value::Number(number) => {
            let whole = number.as_f64().and_then(|double| double.to_string().parse::<u32>().ok());
            *value = whole.map_or_else(|| number.clone().into(), Value::from);
        }
        _ => {}
    }
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
        RawBsonRef::DateTime(at) => date(at),
        RawBsonRef::Binary(binary) => {
            let subtype = format!("{:02x}", u8::from(binary.subtype));
            json!({ "$binary": { "base64": BASE64.encode(binary.bytes), "subType": subtype } })
        }
        // The driver's BSON spells the others so by itself.
        other => to_value(other).ok()?,
    })
}

fn date(at: DateTime) -> Value {
    let millis = at.timestamp_millis();
    // Relaxed Extended JSON spells the years 1970 to 9999 as text.
    let text = (0..253_402_300_800_000).contains(&millis).then(|| at.try_to_rfc3339_string().ok()).flatten();
    text.map_or_else(
        || json!({ "$date": { "$numberLong": millis.to_string() } }),
        |text| json!({ "$date": text }),
    )
}

/// The members of an object, in their order.
pub(super) struct Members<'a>(pub(super) Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Collect).map(Self)
    }
}

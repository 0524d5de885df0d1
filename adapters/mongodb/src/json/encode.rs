//! JSON text -> BSON.

use std::{fmt, str};

use larder_core::{Error, ErrorKind, Result};
use mongodb::bson::{Bson, Document};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{Numbers, number, types};

/// MongoDB takes 100 levels of nesting; the document around the value is one of them.
const MAX_DEPTH: usize = 99;

/// Parses `json` strictly (RFC 8259) into BSON of the same meaning. An object becomes a type that JSON
/// does not have if it is exactly what [`to_json`](super::to_json) makes of that type.
///
/// # Errors
///
/// `InvalidValue`, with the place and never the content, for text that is not JSON and for values that
/// BSON cannot hold: a member name twice in one object or with a NUL in it, a number beyond 34 digits,
/// more than 99 levels of nesting.
pub(crate) fn to_bson(json: &[u8], numbers: Numbers) -> Result<Bson> {
    parse(json, numbers, false)
}

/// The document that the members of the object `json` make, whatever the object itself stands for;
/// `None` if it is not an object.
pub(super) fn members(json: &[u8], numbers: Numbers) -> Option<Document> {
    match parse(json, numbers, true) {
        Ok(Bson::Document(members)) => Some(members),
        _ => None,
    }
}

fn parse(json: &[u8], numbers: Numbers, plain: bool) -> Result<Bson> {
    let text = str::from_utf8(json)
        .map_err(|error| invalid(&format!("the value is not UTF-8 at byte {}", error.valid_up_to())))?;
    let root: &RawValue = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        invalid(&format!("the value is not JSON at line {line}, column {column}"))
    })?;
    Parser { text, numbers, plain }.value(root, 0)
}

fn invalid(what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidValue,
        format!("{what}; values are stored as BSON here, which takes JSON (`values=binary` takes any bytes)"),
    )
}

/// Goes through a text that is known to be JSON, level by level. `serde_json` alone would make an `f64` of
/// a number, whose text decides how it is stored.
struct Parser<'a> {
    text: &'a str,
    numbers: Numbers,
    /// The outermost object is its members, whatever they spell.
    plain: bool,
}

impl<'a> Parser<'a> {
    fn value(&self, json: &'a RawValue, depth: usize) -> Result<Bson> {
        let text = json.get();
        // The grammar has been checked, so only a surrogate without its other half can still be wrong.
        let halved = |_| self.invalid("text with half a surrogate pair", json);
        if text.starts_with(['{', '[']) && depth == MAX_DEPTH {
            return Err(invalid(&format!("the value is nested more than {MAX_DEPTH} levels deep")));
        }
        match text.as_bytes().first() {
            Some(b'{') => {
                let members = self.members(serde_json::from_str(text).map_err(halved)?, depth)?;
                let plain = self.plain && depth == 0;
                let other = if plain { None } else { types::resolve(&members, self.numbers) };
                Ok(other.unwrap_or(Bson::Document(members)))
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).map_err(halved)?;
                items.into_iter().map(|item| self.value(item, depth + 1)).collect()
            }
            Some(b'"') => serde_json::from_str(text).map(Bson::String).map_err(halved),
            Some(b't' | b'f') => Ok(Bson::Boolean(text == "true")),
            Some(b'n') => Ok(Bson::Null),
            _ => number::parse(text, self.numbers).ok_or_else(|| {
                self.invalid("a number with more digits, or larger, than BSON can hold exactly", json)
            }),
        }
    }

    fn members(&self, members: Members<'a>, depth: usize) -> Result<Document> {
        let mut document = Document::new();
        for (name, json) in members.0 {
            if name.contains('\0') {
                return Err(self.invalid("a member name with a NUL, which BSON cannot hold, before", json));
            }
            if document.insert(name, self.value(json, depth + 1)?).is_some() {
                return Err(self.invalid("a member name for the second time in one object before", json));
            }
        }
        Ok(document)
    }

    fn invalid(&self, what: &str, json: &RawValue) -> Error {
        let at = json.get().as_ptr().addr() - self.text.as_ptr().addr();
        invalid(&format!("the value has {what} at byte {at}"))
    }
}

/// The members of an object, in their order.
struct Members<'a>(Vec<(String, &'a RawValue)>);

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

#[cfg(test)]
mod tests {
    use super::*;

    fn to_bson(json: &[u8]) -> Result<Bson> {
        super::to_bson(json, Numbers::AsStored)
    }

    #[test]
    fn what_is_not_json_is_refused_as_serde_json_does() {
        for text in [
            "",
            " ",
            "nul",
            "tru",
            "{",
            "[",
            "[1,]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "01",
            "1.",
            ".5",
            "-",
            "+1",
            "1e",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\n\"",
            "1 2",
            "[1}",
            "NaN",
            "\"\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud800\\u0041\"",
            "[1,,2]",
            "{,}",
            "\u{feff}1",
            "'a'",
            "--1",
            "1e+",
        ] {
            assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}");
            assert_eq!(to_bson(text.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidValue, "{text}");
        }
        assert_eq!(to_bson(b"\"\xff\"").unwrap_err().kind(), ErrorKind::InvalidValue);
    }

    #[test]
    fn what_bson_cannot_hold_is_refused_and_not_printed() {
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        for text in [r#"{"secret":1,"secret":2}"#, r#"{"secret\u0000":1}"#, &deep, &"9".repeat(60)] {
            let error = to_bson(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidValue);
            assert!(!error.message().contains("secret") && !error.message().contains("999"));
        }
        assert!(to_bson(format!("{}{}", "[".repeat(99), "]".repeat(99)).as_bytes()).is_ok());
    }
}

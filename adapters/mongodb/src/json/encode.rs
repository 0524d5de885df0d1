//! JSON text -> BSON.

use std::str;

use larder_core::{Error, ErrorKind, Result};
use mongodb::bson::{Bson, Document, JavaScriptCodeWithScope};
use serde_json::value::RawValue;

use super::{
    number::{self, Numbers},
    types::{self, Meaning, Members},
};

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
    let text = str::from_utf8(json)
        .map_err(|error| invalid(&format!("the value is not UTF-8 at byte {}", error.valid_up_to())))?;
    let root: &RawValue = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        invalid(&format!("the value is not JSON at line {line}, column {column}"))
    })?;
    Parser { text, numbers }.value(root, 0)
}

fn invalid(what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidValue,
        format!("{what}; values are stored as BSON here, which takes JSON (`values=binary` takes any bytes)"),
    )
}

fn check_depth(depth: usize) -> Result<()> {
    if depth < MAX_DEPTH {
        return Ok(());
    }
    Err(invalid(&format!("the value is nested more than {MAX_DEPTH} levels deep")))
}

/// Goes through a text that is known to be JSON, level by level. `serde_json` alone would make an `f64` of
/// a number, whose text decides how it is stored.
struct Parser<'a> {
    text: &'a str,
    numbers: Numbers,
}

impl<'a> Parser<'a> {
    fn value(&self, json: &'a RawValue, depth: usize) -> Result<Bson> {
        let text = json.get();
        // The grammar has been checked, so only a surrogate without its other half can still be wrong.
        let halved = |_| self.invalid("text with half a surrogate pair", json);
        if text.starts_with(['{', '[']) {
            check_depth(depth)?;
        }
        match text.as_bytes().first() {
            Some(b'{') => {
                let members = serde_json::from_str(text).map_err(halved)?;
                Ok(match types::meaning(text.as_bytes(), &members, self.numbers) {
                    Meaning::Plain => Bson::Document(self.document(members, depth)?),
                    Meaning::Literal(object) => Bson::Document(self.document_of(object, depth)?),
                    Meaning::Code(code, scope) => {
                        let scope = self.document_of(scope, depth + 1)?;
                        Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code, scope })
                    }
                    Meaning::Type(value) => value,
                })
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

    /// The document that an object spells, whatever else it would stand for.
    fn document_of(&self, object: &'a RawValue, depth: usize) -> Result<Document> {
        let halved = |_| self.invalid("text with half a surrogate pair", object);
        check_depth(depth)?;
        self.document(serde_json::from_str(object.get()).map_err(halved)?, depth)
    }

    fn document(&self, members: Members<'a>, depth: usize) -> Result<Document> {
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

//! Converts JSON text to BSON.

use std::str;

use larder_core::{Error, ErrorKind, Result};
use larder_kit::json_members;
use mongodb::bson::{Bson, Document, JavaScriptCodeWithScope, RawDocumentBuf, doc};
use serde_json::value::RawValue;

use super::{decode, number::Numbers, types};

/// The maximum depth: MongoDB allows 100 levels, and the document around the value is one of them.
const MAX_DEPTH: usize = 99;
/// The maximum depth in JSON: each document may have a `$literal` around it, and a type takes two levels.
const MAX_JSON_DEPTH: usize = 2 * MAX_DEPTH + 2;

/// Parses `json` strictly (RFC 8259) into BSON with the same meaning. An object becomes a type that JSON lacks if it is
/// exactly the object that [`to_json`](super::to_json) returns for that type.
///
/// # Errors
///
/// `InvalidValue` for text that is not JSON, and for values that BSON cannot represent: a repeated member name in one
/// object, a member name with a NUL, a number beyond 34 digits, or more than 99 levels of nesting. The message has the
/// position, and never the content.
pub(crate) fn from_json(json: &[u8], numbers: &dyn Numbers) -> Result<Bson> {
    let text = str::from_utf8(json)
        .map_err(|error| invalid(&format!("the value is not UTF-8 at byte {}", error.valid_up_to())))?;
    let root: &RawValue = serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        invalid(&format!("the value is not JSON at line {line}, column {column}"))
    })?;
    let value = Parser { text, numbers }.parse(root, 0)?.value;
    if depth(&value) > MAX_DEPTH { Err(too_deep()) } else { Ok(value) }
}

fn invalid(problem: &str) -> Error {
    Error::new(
        ErrorKind::InvalidValue,
        format!(
            "{problem}: this store accepts only JSON, which it stores as BSON (`values=bytes` accepts any bytes)"
        ),
    )
}

fn too_deep() -> Error {
    invalid(&format!("the value has more than {MAX_DEPTH} levels of nesting"))
}

/// Returns the depth of a value.
fn depth(value: &Bson) -> usize {
    match value {
        Bson::Array(items) => 1 + deepest(items),
        Bson::Document(document) => 1 + deepest(document.values()),
        Bson::JavaScriptCodeWithScope(code) => 2 + deepest(code.scope.values()),
        _ => 0,
    }
}

fn deepest<'a>(values: impl IntoIterator<Item = &'a Bson>) -> usize {
    values.into_iter().map(depth).max().unwrap_or(0)
}

/// The result of parsing a text.
struct Parsed {
    value: Bson,
    /// The document of its members, if the text is an object that represents something else.
    document: Option<Document>,
}

/// Parses a text that is known to be JSON, level by level. `serde_json` alone would convert a number to `f64`, but the
/// text of a number decides how it is stored.
struct Parser<'a> {
    text: &'a str,
    numbers: &'a dyn Numbers,
}

impl<'a> Parser<'a> {
    fn parse(&self, json: &'a RawValue, depth: usize) -> Result<Parsed> {
        if depth > MAX_JSON_DEPTH {
            return Err(too_deep());
        }
        let text = json.get();
        // The grammar has been checked, so the only remaining error is half of a surrogate pair.
        let halved = |_| self.invalid("text with half of a surrogate pair", json);
        let value = match text.as_bytes().first() {
            Some(b'{') => {
                let members = json_members(&mut serde_json::Deserializer::from_str(text));
                return self.object(members.map_err(halved)?, depth);
            }
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(text).map_err(halved)?;
                let items = items.into_iter().map(|item| Ok(self.parse(item, depth + 1)?.value));
                items.collect::<Result<_>>()?
            }
            Some(b'"') => Bson::String(serde_json::from_str(text).map_err(halved)?),
            Some(b't' | b'f') => Bson::Boolean(text == "true"),
            Some(b'n') => Bson::Null,
            _ => self
                .numbers
                .parse(text)
                .ok_or_else(|| self.invalid("a number that BSON cannot represent exactly", json))?,
        };
        Ok(Parsed { value, document: None })
    }

    fn object(&self, members: Vec<(String, &'a RawValue)>, depth: usize) -> Result<Parsed> {
        if let [(name, inner)] = members.as_slice()
            && name == types::LITERAL
        {
            let inner = self.parse(inner, depth + 1)?;
            let outer = doc! { types::LITERAL: inner.value };
            return Ok(match inner.document {
                Some(document) => Parsed { value: document.into(), document: Some(outer) },
                None => Parsed { value: outer.into(), document: None },
            });
        }
        let mut document = Document::new();
        for (name, json) in members {
            if name.contains('\0') {
                return Err(self.invalid("a member name with a NUL, which BSON does not allow, before", json));
            }
            if document.insert(name, self.parse(json, depth + 1)?.value).is_some() {
                return Err(self.invalid("a repeated member name before", json));
            }
        }
        let special = match document.len() {
            1 if document.keys().all(|name| name.starts_with('$')) => self.typed(&document),
            2 => code_with_scope(&document),
            _ => None,
        };
        Ok(match special {
            Some(value) => Parsed { value, document: Some(document) },
            None => Parsed { value: document.into(), document: None },
        })
    }

    /// Returns the type that the document's members represent.
    fn typed(&self, document: &Document) -> Option<Bson> {
        // Limits the depth, so that each level is parsed a few times instead of once per level around it.
        if 1 + deepest(document.values()) > types::LEVELS {
            return None;
        }
        let mut text = Vec::new();
        let document = RawDocumentBuf::try_from(document).ok()?;
        decode::members(&document, self.numbers, &mut text).ok()?;
        types::typed(&text, self.numbers)
    }

    fn invalid(&self, problem: &str, json: &RawValue) -> Error {
        let at = json.get().as_ptr().addr() - self.text.as_ptr().addr();
        invalid(&format!("the value has {problem} at byte {at}"))
    }
}

fn code_with_scope(document: &Document) -> Option<Bson> {
    let code = document.get_str("$code").ok()?.to_owned();
    let scope = document.get_document("$scope").ok()?.clone();
    Some(Bson::JavaScriptCodeWithScope(JavaScriptCodeWithScope { code, scope }))
}

#[cfg(test)]
mod tests {
    use super::{super::AsStored, *};

    fn from_json(json: &[u8]) -> Result<Bson> {
        super::from_json(json, &AsStored)
    }

    #[test]
    fn text_that_serde_json_rejects_is_rejected() {
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
            assert_eq!(from_json(text.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidValue, "{text}");
        }
        assert_eq!(from_json(b"\"\xff\"").unwrap_err().kind(), ErrorKind::InvalidValue);
    }

    #[test]
    fn values_beyond_bson_are_rejected_and_not_printed() {
        let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
        for text in [r#"{"secret":1,"secret":2}"#, r#"{"secret\u0000":1}"#, &deep, &"9".repeat(60)] {
            let error = from_json(text.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidValue);
            assert!(!error.message().contains("secret") && !error.message().contains("999"));
        }
        assert!(from_json(format!("{}{}", "[".repeat(99), "]".repeat(99)).as_bytes()).is_ok());
    }

    #[test]
    fn deep_nesting_of_any_kind_is_rejected() {
        for opening in ["[", r#"{"a":"#, r#"{"$literal":"#, r#"{"$date":"#, r#"{"$code":"x","$scope":"#] {
            let closing = if opening == "[" { "]" } else { "}" };
            let text = format!("{}{{}}{}", opening.repeat(20_000), closing.repeat(20_000));
            assert_eq!(from_json(text.as_bytes()).unwrap_err().kind(), ErrorKind::InvalidValue, "{opening}");
        }
    }
}

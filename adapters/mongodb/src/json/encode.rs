//! JSON text -> BSON.

use larder_core::{Error, ErrorKind, Result};
use mongodb::bson::{Bson, Document};

use super::{Numbers, number, types};

/// MongoDB takes 100 levels of nesting; the document around the value is one of them.
const MAX_DEPTH: usize = 99;

/// Parses `json` strictly (RFC 8259) into BSON that says the same. An object becomes a type that JSON
/// does not have if it is exactly what [`to_json`](super::to_json) makes of that type.
///
/// # Errors
///
/// `InvalidValue`, with the place and never the content, for what is not JSON and for what BSON
/// cannot hold: a member name twice in one object or with a NUL in it, a number beyond 34 digits,
/// more than 99 levels of nesting.
pub(crate) fn to_bson(json: &[u8], numbers: Numbers) -> Result<Bson> {
    let text = std::str::from_utf8(json)
        .map_err(|error| invalid(&format!("the value is not UTF-8 at byte {}", error.valid_up_to())))?;
    Parser { text, numbers, plain: false, at: 0, depth: 0 }.whole()
}

/// The document that the members of the object `json` make, whatever the object itself stands for;
/// `None` if it is not an object.
pub(super) fn members(json: &[u8], numbers: Numbers) -> Option<Document> {
    let text = std::str::from_utf8(json).ok()?;
    match (Parser { text, numbers, plain: true, at: 0, depth: 0 }).whole() {
        Ok(Bson::Document(members)) => Some(members),
        _ => None,
    }
}

fn invalid(what: &str) -> Error {
    Error::new(
        ErrorKind::InvalidValue,
        format!(
            "{what}; values are kept as BSON documents here, which takes JSON (`values=binary` takes any bytes)"
        ),
    )
}

struct Parser<'a> {
    text: &'a str,
    numbers: Numbers,
    /// The outermost object is its members, whatever they spell.
    plain: bool,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn whole(mut self) -> Result<Bson> {
        self.skip_space();
        let value = self.value()?;
        self.skip_space();
        if self.at < self.text.len() {
            return Err(self.unexpected("the end"));
        }
        Ok(value)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<()> {
        if self.take(byte) { Ok(()) } else { Err(self.unexpected(&format!("`{}`", char::from(byte)))) }
    }

    fn unexpected(&self, wanted: &str) -> Error {
        invalid(&format!("the value is not JSON: {wanted} is missing at byte {}", self.at))
    }

    fn value(&mut self) -> Result<Bson> {
        match self.peek() {
            Some(b'{') => {
                let members = self.nested(Self::object)?;
                let plain = self.plain && self.depth == 0;
                let other = if plain { None } else { types::resolve(&members, self.numbers) };
                Ok(other.unwrap_or(Bson::Document(members)))
            }
            Some(b'[') => self.nested(Self::array).map(Bson::Array),
            Some(b'"') => self.string().map(Bson::String),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') => self.word("true", Bson::Boolean(true)),
            Some(b'f') => self.word("false", Bson::Boolean(false)),
            Some(b'n') => self.word("null", Bson::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    fn word(&mut self, word: &str, value: Bson) -> Result<Bson> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(value);
        }
        Err(self.unexpected("a value"))
    }

    fn nested<T>(&mut self, parse: fn(&mut Self) -> Result<T>) -> Result<T> {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(invalid(&format!("the value is nested more than {MAX_DEPTH} levels deep")));
        }
        self.skip_space();
        let value = parse(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn array(&mut self) -> Result<Vec<Bson>> {
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(items);
        }
        loop {
            self.skip_space();
            items.push(self.value()?);
            self.skip_space();
            if !self.take(b',') {
                self.expect(b']')?;
                return Ok(items);
            }
        }
    }

    fn object(&mut self) -> Result<Document> {
        let mut members = Document::new();
        if self.take(b'}') {
            return Ok(members);
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(self.unexpected("a member's name"));
            }
            let start = self.at;
            let name = self.string()?;
            if name.contains('\0') {
                return Err(invalid(&format!(
                    "the member name at byte {start} contains a NUL, which BSON cannot hold"
                )));
            }
            self.skip_space();
            self.expect(b':')?;
            self.skip_space();
            let value = self.value()?;
            if members.insert(name, value).is_some() {
                return Err(invalid(&format!(
                    "the member name at byte {start} is there twice in one object"
                )));
            }
            self.skip_space();
            if !self.take(b',') {
                self.expect(b'}')?;
                return Ok(members);
            }
        }
    }

    fn digits(&mut self) -> Result<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.unexpected("a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<Bson> {
        let start = self.at;
        self.take(b'-');
        // No leading zero but zero itself.
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            if !self.take(b'+') {
                self.take(b'-');
            }
            self.digits()?;
        }
        number::parse(&self.text[start..self.at], self.numbers).ok_or_else(|| {
            invalid(&format!(
                "the number at byte {start} has more digits, or is larger, than BSON can hold exactly"
            ))
        })
    }

    fn string(&mut self) -> Result<String> {
        self.at += 1;
        let mut string = String::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            string.push_str(&self.text[start..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(string);
                }
                Some(b'\\') => {
                    self.at += 1;
                    string.push(self.escape()?);
                }
                Some(_) => return Err(self.unexpected("an escape for the control character")),
                None => return Err(self.unexpected("the end of a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<char> {
        let escaped = self.peek();
        self.at += 1;
        Ok(match escaped {
            Some(quoted @ (b'"' | b'\\' | b'/')) => char::from(quoted),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => {
                self.at -= 1;
                return Err(self.unexpected("a known escape"));
            }
        })
    }

    fn unicode(&mut self) -> Result<char> {
        let start = self.at;
        let lone = || invalid(&format!("the escape at byte {start} is half a surrogate pair"));
        let unit = self.hex()?;
        if !(0xd800..0xe000).contains(&unit) {
            return char::from_u32(unit).ok_or_else(lone);
        }
        if unit >= 0xdc00 || !self.take(b'\\') || !self.take(b'u') {
            return Err(lone());
        }
        let low = self.hex()?;
        if !(0xdc00..0xe000).contains(&low) {
            return Err(lone());
        }
        char::from_u32(0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00)).ok_or_else(lone)
    }

    fn hex(&mut self) -> Result<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let unit = digits
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| self.unexpected("four hexadecimal digits"))?;
        self.at += 4;
        Ok(unit)
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

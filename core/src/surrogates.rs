//! JSON with halves of characters.
//!
//! JavaScript's strings are UTF-16. A text that was cut in the middle of an emoji ends with one half of
//! it, a lone surrogate, which `JSON.stringify` writes as an escape such as `"\ud83c"`. A Rust string
//! cannot hold that.

/// A lone surrogate `unit` is kept as the private-use character `0x10_0000 + unit`.
const BASE: u32 = 0x10_0000;

/// How JSON with lone surrogates was made readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// Each is a private-use character that is nowhere else in the text. [`reveal`] turns it back.
    Reversibly,
    /// Each is U+FFFD.
    ForGood,
}

/// The same JSON with a character in the place of each lone surrogate; `None` if it has none.
///
/// Each becomes a character of U+10D800 to U+10DFFF (private use), which [`reveal`] turns back, or
/// U+FFFD if `reversibly` is `false` or the text has such a private-use character already.
#[must_use]
pub fn hide(json: &[u8], reversibly: bool) -> Option<(Vec<u8>, Hidden)> {
    let mut found = false;
    let mut taken = false;
    scan(json, |piece| match piece {
        Piece::Lone(_) => found = true,
        Piece::Pair(high) => taken |= matches!(high, 0xdbf6 | 0xdbf7),
        Piece::Byte(_) => {}
    });
    if !found {
        return None;
    }
    taken |= json.windows(4).any(is_hidden);
    let hidden = if reversibly && !taken { Hidden::Reversibly } else { Hidden::ForGood };
    let mut out = Vec::with_capacity(json.len());
    scan(json, |piece| match piece {
        Piece::Byte(byte) => out.push(byte),
        Piece::Pair(_) => {}
        Piece::Lone(unit) => {
            let character = match hidden {
                Hidden::Reversibly => char::from_u32(BASE + u32::from(unit)),
                Hidden::ForGood => None,
            };
            let mut buffer = [0; 4];
            let character = character.unwrap_or(char::REPLACEMENT_CHARACTER);
            out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
        }
    });
    Some((out, hidden))
}

/// JSON in which [`hide`] has hidden lone surrogates, with their escapes again.
#[must_use]
pub fn reveal(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some((&first, after)) = rest.split_first() {
        match rest.get(..4) {
            Some(character) if is_hidden(character) => {
                let unit = 0xd800 | (u16::from(character[2] & 0x1f) << 6) | u16::from(character[3] & 0x3f);
                out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                rest = &rest[4..];
            }
            _ => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

/// Whether these four bytes are a character of U+10D800 to U+10DFFF.
fn is_hidden(bytes: &[u8]) -> bool {
    matches!(bytes, [0xf4, 0x8d, 0xa0..=0xbf, 0x80..=0xbf])
}

enum Piece {
    Byte(u8),
    /// A whole character in two escapes begins; its bytes come too. This is its first half.
    Pair(u16),
    /// The escape of a lone surrogate; its bytes do not come.
    Lone(u16),
}

/// Takes JSON apart. An escape has a backslash that is not itself escaped.
fn scan(json: &[u8], mut each: impl FnMut(Piece)) {
    let mut at = 0;
    while at < json.len() {
        let length = match (escaped(json, at), escaped(json, at + 6)) {
            (Some(high @ 0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => {
                each(Piece::Pair(high));
                12
            }
            (Some(unit @ 0xd800..=0xdfff), _) => {
                each(Piece::Lone(unit));
                at += 6;
                continue;
            }
            _ if json[at] == b'\\' => 2,
            _ => 1,
        };
        let end = json.len().min(at + length);
        json[at..end].iter().for_each(|&byte| each(Piece::Byte(byte)));
        at = end;
    }
}

/// The UTF-16 code unit of an escape such as `\ud83c` that is at `at`.
fn escaped(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + 6)?.strip_prefix(b"\\u")?;
    let digits = std::str::from_utf8(digits).ok()?;
    if digits.starts_with('+') { None } else { u16::from_str_radix(digits, 16).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(json: &str) -> Option<(String, Hidden)> {
        let (text, hidden) = hide(json.as_bytes(), true)?;
        Some((String::from_utf8(text).unwrap(), hidden))
    }

    #[test]
    fn json_without_lone_surrogates_is_left_alone() {
        for json in [
            r#""""#,
            r#""🍕 \ud83c\udf55""#,
            r#""\\ud83c""#,
            r#""\\\\ud83c""#,
            r#""\ud83""#,
            r#""\u+123""#,
            r#"{"a":"\n"}"#,
            "\\",
        ] {
            assert_eq!(hidden(json), None, "{json}");
        }
    }

    #[test]
    fn lone_surrogate_is_hidden_and_revealed() {
        for json in
            [r#""\ud83c""#, r#""\udf55""#, r#"{"\ud800":["\\\udfff","\ud83c\ud83c\udf55","\ud83c\n\udf55"]}"#]
        {
            let (text, kind) = hidden(json).unwrap();
            assert_eq!(kind, Hidden::Reversibly);
            serde_json::from_str::<serde_json::Value>(&text).unwrap();
            assert_eq!(reveal(text.as_bytes()), json.as_bytes());
        }
    }

    #[test]
    fn lone_surrogate_is_replaced_where_its_stand_in_is_taken() {
        for taken in ["\u{10d83c}", r"\udbf6\udc3c"] {
            let (text, kind) = hidden(&format!(r#"["{taken}","\ud83c"]"#)).unwrap();
            assert_eq!(kind, Hidden::ForGood);
            assert_eq!(text, format!(r#"["{taken}","{}"]"#, char::REPLACEMENT_CHARACTER));
        }
    }
}

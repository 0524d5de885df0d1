//! JSON with lone surrogates.
//!
//! JavaScript's strings are UTF-16. A text that was cut in the middle of an emoji ends with one half of
//! it, a lone surrogate. `JSON.stringify` writes it as an escape such as `"\ud83c"`, which a Rust string
//! cannot represent.

use std::iter;

/// The length of an escape such as `\ud83c`.
const ESCAPE: usize = 6;

/// A lone surrogate `unit` becomes the private-use character `0x10_0000 + unit`.
const BASE: u32 = 0x10_0000;

/// How [`hide`] has replaced lone surrogates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hidden {
    /// By private-use characters that do not occur elsewhere in the text. [`reveal`] restores the escapes.
    Reversibly,
    /// By U+FFFD.
    Irreversibly,
}

/// Replaces each lone surrogate of the JSON by a character. Returns `None` if the JSON contains no lone surrogate.
///
/// The character is one of U+10D800 to U+10DFFF (private use), from which [`reveal`] restores the escape. It is
/// U+FFFD if `reversibly` is `false` or if the text already contains such a private-use character.
#[must_use]
pub fn hide(json: &[u8], reversibly: bool) -> Option<(Vec<u8>, Hidden)> {
    let (pairs, lone): (Vec<_>, Vec<_>) = surrogates(json).partition(|surrogate| surrogate.is_paired);
    if lone.is_empty() {
        return None;
    }
    let taken =
        json.windows(4).any(is_hidden) || pairs.iter().any(|pair| matches!(pair.unit, 0xdbf6 | 0xdbf7));
    let hidden = if reversibly && !taken { Hidden::Reversibly } else { Hidden::Irreversibly };
    let mut out = Vec::with_capacity(json.len());
    let mut copied = 0;
    for Surrogate { at, unit, .. } in lone {
        let stand_in = char::from_u32(BASE + u32::from(unit)).filter(|_| hidden == Hidden::Reversibly);
        let stand_in = stand_in.unwrap_or(char::REPLACEMENT_CHARACTER);
        out.extend_from_slice(&json[copied..at]);
        out.extend_from_slice(stand_in.encode_utf8(&mut [0; 4]).as_bytes());
        copied = at + ESCAPE;
    }
    out.extend_from_slice(&json[copied..]);
    Some((out, hidden))
}

/// Restores the escapes of the lone surrogates that [`hide`] has replaced.
#[must_use]
pub fn reveal(json: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(json.len());
    let mut rest = json;
    while let Some(at) = rest.windows(4).position(is_hidden) {
        let (before, character) = rest.split_at(at);
        let unit = 0xd800 | (u16::from(character[2] & 0x1f) << 6) | u16::from(character[3] & 0x3f);
        out.extend_from_slice(before);
        out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
        rest = &character[4..];
    }
    out.extend_from_slice(rest);
    out
}

/// Returns whether these four bytes encode a character of U+10D800 to U+10DFFF.
fn is_hidden(bytes: &[u8]) -> bool {
    matches!(bytes, [0xf4, 0x8d, 0xa0..=0xbf, 0x80..=0xbf])
}

/// The escape of a surrogate.
struct Surrogate {
    at: usize,
    unit: u16,
    /// Whether the escape of the other half of the character follows. The iterator skips that one.
    is_paired: bool,
}

/// Finds the surrogates. The backslash of an escape must not be escaped itself.
fn surrogates(json: &[u8]) -> impl Iterator<Item = Surrogate> {
    let mut next = 0;
    iter::from_fn(move || {
        while next < json.len() {
            let at = next;
            let (unit, is_paired) = match (escaped(json, at), escaped(json, at + ESCAPE)) {
                (Some(high @ 0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => (high, true),
                (Some(unit @ 0xd800..=0xdfff), _) => (unit, false),
                _ => {
                    next += if json[at] == b'\\' { 2 } else { 1 };
                    continue;
                }
            };
            next += if is_paired { 2 * ESCAPE } else { ESCAPE };
            return Some(Surrogate { at, unit, is_paired });
        }
        None
    })
}

/// Returns the UTF-16 code unit of an escape such as `\ud83c` at position `at`.
fn escaped(json: &[u8], at: usize) -> Option<u16> {
    let digits = json.get(at..at + ESCAPE)?.strip_prefix(b"\\u")?;
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
    fn json_without_lone_surrogates_is_not_changed() {
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
    fn a_lone_surrogate_is_hidden_and_revealed() {
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
    fn a_lone_surrogate_becomes_u_fffd_if_its_private_use_character_is_taken() {
        for taken in ["\u{10d83c}", r"\udbf6\udc3c"] {
            let (text, kind) = hidden(&format!(r#"["{taken}","\ud83c"]"#)).unwrap();
            assert_eq!(kind, Hidden::Irreversibly);
            assert_eq!(text, format!(r#"["{taken}","{}"]"#, char::REPLACEMENT_CHARACTER));
        }
    }
}

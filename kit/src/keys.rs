//! Keys in a store: ranges, and conversion from stored bytes.

use larder_core::{Error, ErrorKind, Key, Result};

/// Returns the smallest text that is greater than every text that begins with `prefix`, in the order of their
/// bytes. Returns `None` if such a text does not exist, for example for the empty prefix.
///
/// The keys that begin with `prefix` are the keys from `prefix` (inclusive) to this end (exclusive).
///
/// ```
/// assert_eq!(larder_kit::prefix_end("chat:").as_deref(), Some("chat;"));
/// assert_eq!(larder_kit::prefix_end(""), None);
/// ```
#[must_use]
pub fn prefix_end(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // UTF-8 sorts in the order of its characters. The range skips the surrogates, which are not characters.
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// Converts the bytes of a stored key to a key.
///
/// # Errors
///
/// [`InvalidKey`](ErrorKind::InvalidKey) if the bytes are not a valid key: another program has written them. The
/// error contains the bytes as its [stored name](Error::stored_name) and does not print them.
pub fn stored_key(bytes: impl AsRef<[u8]>) -> Result<Key> {
    let text = str::from_utf8(bytes.as_ref()).ok();
    text.and_then(|text| Key::new(text).ok()).ok_or_else(|| {
        let message = "the store contains a key that is not valid: it is empty, contains control characters, has \
                       more than 512 bytes, or is not UTF-8; Larder does not change this entry";
        Error::new(ErrorKind::InvalidKey, message).with_stored_name(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_stored_keys_are_errors_that_do_not_print_them() {
        assert_eq!(stored_key("chat:é").unwrap().as_str(), "chat:é");
        for bytes in [&b""[..], b"a\nb", b"hunter2\xff", &[b'a'; 513]] {
            let error = stored_key(bytes).unwrap_err();
            assert_eq!((error.kind(), error.stored_name()), (ErrorKind::InvalidKey, Some(bytes)));
            assert!(!format!("{error:?} {error}").contains("hunter2"));
        }
    }

    #[test]
    fn the_end_of_a_prefix_is_the_next_text() {
        for (prefix, end) in [
            ("app:", Some("app;")),
            ("a\u{d7ff}", Some("a\u{e000}")),
            ("a\u{10ffff}", Some("b")),
            ("\u{10ffff}\u{10ffff}", None),
            ("é", Some("ê")),
        ] {
            assert_eq!(prefix_end(prefix).as_deref(), end, "{prefix:?}");
        }
    }

    #[test]
    fn the_range_contains_exactly_the_texts_with_the_prefix() {
        let texts =
            ["a", "ab", "ab\u{10ffff}", "abc", "ac", "b", "\u{7f}", "\u{80}", "\u{ffff}", "\u{10000}"];
        for prefix in texts {
            let end = prefix_end(prefix);
            for text in texts {
                let in_range = text >= prefix && end.as_deref().is_none_or(|end| text < end);
                assert_eq!(in_range, text.starts_with(prefix), "{text:?} {prefix:?}");
            }
        }
    }
}

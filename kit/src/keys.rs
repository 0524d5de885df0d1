//! Keys in a store: their ranges, and what is stored in their place.

use larder_core::{Error, ErrorKind, Key, Result};

/// The least text that is greater than every text that begins with `prefix`, in the order of their
/// bytes; `None` if there is none, as for the empty prefix.
///
/// The keys that begin with `prefix` are those from `prefix` on and before this end.
///
/// ```
/// assert_eq!(larder_kit::prefix_end("chat:").as_deref(), Some("chat;"));
/// assert_eq!(larder_kit::prefix_end(""), None);
/// ```
#[must_use]
pub fn prefix_end(prefix: &str) -> Option<String> {
    let mut end = prefix.to_owned();
    while let Some(last) = end.pop() {
        // UTF-8 sorts as its characters do. The range skips the surrogates, which are not characters.
        if let Some(next) = (last..=char::MAX).nth(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

/// The key that a store returns as these bytes.
///
/// # Errors
///
/// [`InvalidKey`](ErrorKind::InvalidKey) if they are not a valid key, so that another program has written
/// them. The error keeps the bytes as its [stored name](Error::stored_name) and does not print them.
pub fn stored_key(bytes: impl AsRef<[u8]>) -> Result<Key> {
    let text = str::from_utf8(bytes.as_ref()).ok();
    text.and_then(|text| Key::new(text).ok()).ok_or_else(|| {
        let message = "there is a key that Larder cannot name: it is empty, has control characters or more than 512 \
                       bytes, or is not text in UTF-8; it is left alone";
        Error::new(ErrorKind::InvalidKey, message).with_stored_name(bytes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_keys() {
        assert_eq!(stored_key("chat:é").unwrap().as_str(), "chat:é");
        for bytes in [&b""[..], b"a\nb", b"hunter2\xff", &[b'a'; 513]] {
            let error = stored_key(bytes).unwrap_err();
            assert_eq!((error.kind(), error.stored_name()), (ErrorKind::InvalidKey, Some(bytes)));
            assert!(!format!("{error:?} {error}").contains("hunter2"));
        }
    }

    #[test]
    fn end_of_a_prefix() {
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
    fn range_holds_exactly_the_texts_with_the_prefix() {
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

//! Values of stores that hold JSON.

use larder_core::{Error, ErrorKind, Result};
use serde::de::IgnoredAny;

/// Checks that `value` is one JSON text in UTF-8 (RFC 8259).
///
/// # Errors
///
/// [`InvalidValue`](ErrorKind::InvalidValue) if it is not. The message does not contain the value.
pub fn check_json(value: &[u8]) -> Result<()> {
    let text = std::str::from_utf8(value).ok();
    if text.is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok()) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidValue, "the value is not valid JSON, which this storage requires"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_accepted() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        for value in ["{}", " [1, 2]\n", "\"é\"", "null", "1e400", "\"\\ud83c\"", &deep] {
            check_json(value.as_bytes()).unwrap();
        }
    }

    #[test]
    fn anything_else_is_refused_without_printing_it() {
        for value in [&b""[..], b"hunter2", b"{} {}", b"\"\xff\"", b"NaN", b"[1,]", b"\xef\xbb\xbf{}"] {
            let error = check_json(value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidValue);
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }
}

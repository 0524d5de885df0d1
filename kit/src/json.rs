//! The values of stores that hold JSON.

use std::{fmt, marker::PhantomData};

use larder_core::{Error, ErrorKind, Result};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

/// Checks that `value` is a single JSON text in UTF-8 (RFC 8259).
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

/// Reads the members of a JSON object, in their order. The list contains repeated names, so the caller can detect
/// them.
///
/// ```
/// let mut json = serde_json::Deserializer::from_str(r#"{"b": 1, "a": 2, "b": 3}"#);
/// let members: Vec<(String, u32)> = larder_kit::json_members(&mut json)?;
/// assert_eq!(members, [("b".to_owned(), 1), ("a".to_owned(), 2), ("b".to_owned(), 3)]);
/// # Ok::<(), serde_json::Error>(())
/// ```
///
/// # Errors
///
/// The errors of the deserializer, also if the JSON is not an object.
pub fn json_members<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<(String, V)>, D::Error> {
    struct Members<V>(PhantomData<V>);

    impl<'de, V: Deserialize<'de>> Visitor<'de> for Members<V> {
        type Value = Vec<(String, V)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            std::iter::from_fn(|| map.next_entry().transpose()).collect()
        }
    }

    deserializer.deserialize_map(Members(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_json_is_accepted() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        for value in ["{}", " [1, 2]\n", "\"é\"", "null", "1e400", "\"\\ud83c\"", &deep] {
            check_json(value.as_bytes()).unwrap();
        }
    }

    #[test]
    fn invalid_json_is_rejected_without_printing_it() {
        for value in [&b""[..], b"hunter2", b"{} {}", b"\"\xff\"", b"NaN", b"[1,]", b"\xef\xbb\xbf{}"] {
            let error = check_json(value).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidValue);
            assert!(!format!("{error:?}").contains("hunter2"));
        }
    }
}

//! The announcement that a session is moving to a key: a JSON array, which no session is.

use std::time::Duration;

use larder_core::{Bytes, Codec, Json, Result, unique};

/// The time to live of an announcement: much longer than a move takes.
pub const TIME_TO_LIVE: Duration = Duration::from_secs(60);

const MOVING: &str = "moving";

/// Returns an announcement. Each is unique, so that two have different versions in every store.
///
/// # Errors
///
/// None in practice.
pub fn new() -> Result<Bytes> {
    Json.encode(&(MOVING, format!("{:016x}", unique::id64())))
}

/// Returns whether the value is an announcement.
#[must_use]
pub fn is(value: &[u8]) -> bool {
    // Checked first, because most values are objects.
    value.trim_ascii_start().starts_with(b"[")
        && Json.decode::<(String, String)>(value).is_ok_and(|(kind, _)| kind == MOVING)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_unique_and_recognized() {
        let (one, other) = (new().unwrap(), new().unwrap());
        assert_ne!(one, other);
        assert!(is(&one) && is(br#" [ "moving" , "1" ] "#));
        for value in
            [r#"{"moving":"1"}"#, r#"["moving"]"#, r#"["moving","1",2]"#, r#"["moved","1"]"#, "[", ""]
        {
            assert!(!is(value.as_bytes()), "{value}");
        }
    }
}

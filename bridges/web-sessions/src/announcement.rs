//! The announcement that a session is moving from its plain id to its hashed id: a JSON array, which is not a session.
//!
//! A move has four steps: write the announcement under the new key, check that the session is still under the old one,
//! replace the announcement by the session, and delete the session from the old key. A deletion deletes the old key
//! first and the new one last. So if the second step finds the session, no deletion had ended before the announcement,
//! and one that ends later removes the announcement too. Then the third step fails, and the deleted session does not
//! return. A move that ends after any of its steps leaves the session under at least one of its keys, because an
//! announcement alone is not a session.
//!
//! The index of owners notes the new key before the second step, so that a deletion by owner, which has the same order,
//! finds it.

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

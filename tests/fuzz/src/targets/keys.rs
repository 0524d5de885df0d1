//! Keys.

use larder_core::{ErrorKind, Key};
use larder_kit::{prefix_end, stored_key};
use larder_session::SessionKey;

use super::parts;
use crate::{Verdict, laws::silent, refused};

pub(super) fn key(input: &[u8]) -> Verdict {
    let key = match stored_key(input) {
        Ok(key) => key,
        Err(error) => {
            assert_eq!(error.stored_name(), Some(input));
            if let Ok(text) = str::from_utf8(input) {
                refused(&Key::new(text).unwrap_err(), &[ErrorKind::InvalidKey]);
                end(text);
            }
            return refused(&error, &[ErrorKind::InvalidKey]);
        }
    };
    assert_eq!(key.as_bytes(), input);
    assert_eq!(key.to_string().parse::<Key>().unwrap(), key);
    silent(&format!("{key:?}{}", key.fingerprint()));
    end(key.as_str());
    Verdict::Accepted
}

/// The end of a prefix is after all keys with the prefix, and there is no smaller one.
fn end(prefix: &str) {
    let last = format!("{prefix}\u{10ffff}");
    match prefix_end(prefix) {
        None => assert!(prefix.chars().all(|letter| letter == char::MAX)),
        Some(end) => assert!(*last < *end && !end.starts_with(prefix) && end.len() <= prefix.len() + 1),
    }
}

/// The parts of a tuple can be read back from its key.
pub(super) fn session_key(input: &[u8]) -> Verdict {
    let [first, second, third] = parts::<3>(input).map(String::from_utf8_lossy);
    let key = SessionKey::from((&first, &second, &third));
    silent(&format!("{key:?}"));
    let Some(text) = key.as_str() else {
        assert!([&first, &second, &third].iter().any(|part| part.is_empty()));
        return Verdict::Refused;
    };
    let decoded: Vec<_> = text.split('/').map(|part| part.replace("%2F", "/").replace("%25", "%")).collect();
    assert_eq!(decoded, [first, second, third]);
    assert_eq!(SessionKey::from(text).as_str(), Some(text));
    Verdict::Accepted
}

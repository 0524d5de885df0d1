//! Converts Larder's keys to Redis keys, and back.

use larder_core::{Key, Result};
use larder_kit::stored_key;

/// The text before every key: the escaped prefix and a colon, or nothing.
///
/// The first colon of a Redis key ends the prefix, because colons in a prefix are escaped. So keys of different
/// prefixes never collide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keyspace(String);

impl Keyspace {
    /// Makes the keyspace of `prefix`; an empty prefix leaves keys unchanged.
    pub(crate) fn new(prefix: &str) -> Self {
        let escaped = prefix.replace('%', "%25").replace(':', "%3A");
        Self(if prefix.is_empty() { String::new() } else { format!("{escaped}:") })
    }

    /// Returns the text before every key.
    pub(crate) fn prefix(&self) -> &str {
        &self.0
    }

    /// Returns the Redis key of `key`.
    pub(crate) fn full(&self, key: &Key) -> Vec<u8> {
        [self.0.as_bytes(), key.as_bytes()].concat()
    }

    /// Returns the key of the Redis key `full`: `None` if it has another prefix, an error if it is not a valid [`Key`].
    pub(crate) fn parse(&self, full: &[u8]) -> Option<Result<Key>> {
        full.strip_prefix(self.0.as_bytes()).map(stored_key)
    }

    /// Returns the glob pattern for all keys that begin with `start`.
    pub(crate) fn pattern(&self, start: &str) -> Vec<u8> {
        let mut pattern = Vec::with_capacity(self.0.len() + start.len() + 1);
        for &byte in self.0.as_bytes().iter().chain(start.as_bytes()) {
            if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^' | b'-') {
                pattern.push(b'\\');
            }
            pattern.push(byte);
        }
        pattern.push(b'*');
        pattern
    }
}

/// The node of a cluster that a command goes to. Ignored for a single server.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code))]
pub(crate) enum Route<'a> {
    /// The master that has the key.
    Key(&'a [u8]),
    /// The master that has the slot.
    Slot(u16),
    /// Any node.
    Any,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(prefix: &str, key: &str) -> Vec<u8> {
        Keyspace::new(prefix).full(&Key::new(key).unwrap())
    }

    #[test]
    fn prefixes_do_not_collide() {
        assert_eq!(full("app", "k"), b"app:k");
        assert_eq!(full("", "k:1"), b"k:1");
        assert_eq!(full("app", "x:k"), b"app:x:k");
        assert_eq!(full("app:x", "k"), b"app%3Ax:k");
        assert_eq!(full("app%3Ax", "k"), b"app%253Ax:k");
        assert!(Keyspace::new("app").parse(b"app-one:k").is_none());
        assert!(Keyspace::new("app").parse(b"app%3Ax:k").is_none());
    }

    #[test]
    fn keys_survive_a_round_trip() {
        for prefix in ["", "app", "a:b%c", "名前"] {
            for key in ["k", "a:b", "%3A", "a*b?[c]", " "] {
                let parsed = Keyspace::new(prefix).parse(&full(prefix, key));
                assert_eq!(parsed.unwrap().unwrap(), Key::new(key).unwrap());
            }
        }
        // Keys of other programs under the prefix that are not valid.
        for key in [&b"app:"[..], b"app:\xff"] {
            let error = Keyspace::new("app").parse(key).unwrap().unwrap_err();
            assert_eq!(error.kind(), larder_core::ErrorKind::InvalidKey);
        }
    }

    #[test]
    fn glob_characters_are_data() {
        assert_eq!(Keyspace::new("a*").pattern("[x]?\\^-z"), br"a\*:\[x\]\?\\\^\-z*");
        assert_eq!(Keyspace::new("").pattern(""), b"*");
    }
}

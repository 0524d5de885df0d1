//! How Larder's keys become Redis keys, and back.

use larder_core::{Key, Result};
use larder_kit::stored_key;

/// What stands before every key: the escaped prefix and a colon, or nothing.
///
/// The first colon of a Redis key ends the prefix, since a prefix has its own colons escaped. So no
/// prefix reaches into another one's keys, whatever the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keyspace(String);

impl Keyspace {
    /// The keys of `prefix`; the empty prefix leaves keys as they are.
    pub(crate) fn new(prefix: &str) -> Self {
        let escaped = prefix.replace('%', "%25").replace(':', "%3A");
        Self(if prefix.is_empty() { String::new() } else { format!("{escaped}:") })
    }

    /// What stands before every key.
    pub(crate) fn prefix(&self) -> &str {
        &self.0
    }

    /// The Redis key of `key`.
    pub(crate) fn full(&self, key: &Key) -> Vec<u8> {
        [self.0.as_bytes(), key.as_bytes()].concat()
    }

    /// The key that `full` stands for; `None` if it has another prefix, an error if no [`Key`] can
    /// name it.
    pub(crate) fn parse(&self, full: &[u8]) -> Option<Result<Key>> {
        full.strip_prefix(self.0.as_bytes()).map(stored_key)
    }

    /// The glob pattern for all keys that begin with `start`.
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

/// Which node of a cluster a command goes to. One server takes them all.
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
    fn keys_come_back() {
        for prefix in ["", "app", "a:b%c", "名前"] {
            for key in ["k", "a:b", "%3A", "a*b?[c]", " "] {
                let parsed = Keyspace::new(prefix).parse(&full(prefix, key));
                assert_eq!(parsed.unwrap().unwrap(), Key::new(key).unwrap());
            }
        }
        // What others left under the prefix and no key can name.
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

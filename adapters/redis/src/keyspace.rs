//! How Larder's keys become Redis keys, and back.

use std::io::Write as _;

use larder_core::{Key, Result};
use larder_kit::stored_key;
use redis::{RedisWrite, ToRedisArgs};

/// What stands before every key: the escaped prefix and a colon, or nothing.
///
/// The first colon of a Redis key ends the prefix, since a prefix has its own colons escaped. So no
/// prefix reaches into another one's keys, whatever the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keyspace(Vec<u8>);

impl Keyspace {
    /// The keys of `prefix`; the empty prefix leaves keys as they are.
    pub(crate) fn new(prefix: &str) -> Self {
        let escaped = prefix.replace('%', "%25").replace(':', "%3A");
        Self(if prefix.is_empty() { Vec::new() } else { format!("{escaped}:").into_bytes() })
    }

    /// The Redis key of `key`, not yet put together.
    pub(crate) fn full<'a>(&'a self, key: &'a Key) -> FullKey<'a> {
        FullKey { prefix: &self.0, key: key.as_bytes() }
    }

    /// The key that `full` stands for; `None` if it has another prefix, an error if no [`Key`] can
    /// name it.
    pub(crate) fn parse(&self, full: &[u8]) -> Option<Result<Key>> {
        let key = full.strip_prefix(self.0.as_slice())?;
        Some(stored_key(key))
    }

    /// The glob pattern for all keys that begin with `start`.
    pub(crate) fn pattern(&self, start: &str) -> Vec<u8> {
        let mut pattern = Vec::with_capacity(self.0.len() + start.len() + 1);
        for &byte in self.0.iter().chain(start.as_bytes()) {
            if matches!(byte, b'*' | b'?' | b'[' | b']' | b'\\' | b'^' | b'-') {
                pattern.push(b'\\');
            }
            pattern.push(byte);
        }
        pattern.push(b'*');
        pattern
    }
}

/// A Redis key in two parts; written into a command without being put together first.
#[derive(Clone, Copy)]
pub(crate) struct FullKey<'a> {
    prefix: &'a [u8],
    key: &'a [u8],
}

impl FullKey<'_> {
    /// The length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.prefix.len() + self.key.len()
    }

    /// The key in one piece, for what needs to see all of it.
    #[cfg(feature = "cluster")]
    pub(crate) fn to_vec(self) -> Vec<u8> {
        [self.prefix, self.key].concat()
    }
}

impl ToRedisArgs for FullKey<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        let mut argument = out.writer_for_next_arg();
        // The writer is a buffer in memory: writing to it cannot fail.
        let _ = argument.write_all(self.prefix).and_then(|()| argument.write_all(self.key));
    }
}

/// Which node of a cluster a command goes to. One server takes them all.
#[derive(Clone, Copy)]
#[cfg_attr(not(feature = "cluster"), allow(dead_code))]
pub(crate) enum Route<'a> {
    /// The master that has the key.
    Key(FullKey<'a>),
    /// The master that has the slot.
    Slot(u16),
    /// Any node.
    Any,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(prefix: &str, key: &str) -> Vec<u8> {
        let key = Key::new(key).unwrap();
        let mut command = redis::Cmd::new();
        command.arg(Keyspace::new(prefix).full(&key));
        match command.args_iter().next() {
            Some(redis::Arg::Simple(argument)) => argument.to_vec(),
            _ => panic!("one argument"),
        }
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

//! Tells at a glance the sessions that can be nothing else.

use std::sync::LazyLock;

use memchr::{memchr, memmem::Finder};

/// What the names begin with that Larder and grammY's envelope give to members.
static UNDERSCORES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("__"));

/// Whether `bytes` have neither a member of that kind nor an escape, which could spell one or be half of a
/// character. Nearly all sessions are plain and need no closer look. The searches for each name and each escape
/// took about a seventh of an update in memory, by `perf`.
pub(crate) fn is_plain(bytes: &[u8]) -> bool {
    memchr(b'\\', bytes).is_none() && UNDERSCORES.find(bytes).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_sessions() {
        for plain in [&b""[..], b"{}", br#"{"a_b":"_"}"#, "\"m\u{11b}\"".as_bytes(), b"\x81\xa1a\xff"] {
            assert!(is_plain(plain));
        }
        for other in [&br#"{"__d":1}"#[..], br#"{"__larder":1}"#, br#"{"\u005f_d":1}"#, br#""\ud83c""#] {
            assert!(!is_plain(other));
        }
    }
}

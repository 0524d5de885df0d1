//! A fast check for values that are neither markers nor envelopes.

use std::sync::LazyLock;

use memchr::{memchr, memmem::Finder};

/// The start of the member names that Larder and grammY's envelope use.
static UNDERSCORES: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("__"));

/// Whether `bytes` contain neither such a name nor an escape, which could spell one or be a lone surrogate.
/// Nearly all sessions are plain and skip the slower checks, which took about a seventh of an update in
/// memory, measured with `perf`.
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

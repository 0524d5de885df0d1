//! The names and the values of the entries.

use larder_core::{Error, ErrorKind, Key, Result};
use serde::{Deserialize, Serialize};

const HELD: &str = "held:";
const COUNTER: &str = "token:";

/// The value of the entry that exists while a key is leased.
#[derive(Serialize, Deserialize)]
pub(super) struct Held {
    /// The acquisition that wrote it.
    pub(super) holder: String,
    /// The fencing token; `None` while the lease is being acquired.
    pub(super) token: Option<u64>,
}

/// The value of the counter from which tokens are drawn.
#[derive(Serialize, Deserialize)]
pub(super) struct Counter {
    /// The last token that was drawn, handed out or not.
    pub(super) token: u64,
}

/// The keys of the two entries.
pub(super) struct Names {
    pub(super) held: Key,
    pub(super) counter: Key,
}

impl Names {
    /// The names for `key`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if `prefix` and `key` together are too long, or the prefix has a
    /// control character.
    pub(super) fn new(prefix: &str, key: &Key) -> Result<Self> {
        let most = Key::MAX_BYTES.saturating_sub(prefix.len() + HELD.len().max(COUNTER.len()));
        let length = key.as_bytes().len();
        if length > most {
            return Err(Error::new(
                ErrorKind::InvalidKey,
                format!(
                    "with this prefix a key that is leased has at most {most} bytes; this one has {length}"
                ),
            ));
        }
        let name = |kind: &str| Key::new(format!("{prefix}{kind}{key}"));
        Ok(Self { held: name(HELD)?, counter: name(COUNTER)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_key_fits_and_a_longer_one_is_refused_by_its_own_length() {
        let key = |length| Key::new("k".repeat(length)).unwrap();
        let names = Names::new("lease:", &key(500)).unwrap();
        assert_eq!(names.counter.as_bytes().len(), Key::MAX_BYTES);
        let error = Names::new("lease:", &key(501)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidKey);
        assert!(error.message().contains("at most 500 bytes; this one has 501"), "{error}");
    }

    #[test]
    fn a_prefix_that_no_key_has_is_refused() {
        let key = Key::new("k").unwrap();
        for prefix in ["line\n".to_owned(), "p".repeat(600)] {
            let error = Names::new(&prefix, &key).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
        }
    }
}

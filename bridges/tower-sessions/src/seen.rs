//! The versions of sessions that this process has seen last.

use std::fmt;

use hashlink::LruCache;
use larder_core::{Bytes, Key, Version};
use parking_lot::Mutex;

/// The number of remembered versions. A forgotten version costs a read before the next save of its session.
const REMEMBERED: usize = 1_000;

/// The longest remembered content, in bytes, for stores whose versions are the content. All versions together take at
/// most 4 MB.
const LONGEST: usize = 4_096;

/// The last seen version of each session. The storage compares a version with the stored one, so an old version is
/// never harmful: the write fails, and the session is read again.
pub(crate) struct Seen(Mutex<LruCache<Key, Version>>);

impl Seen {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }

    /// Returns the last seen version of a session.
    pub(crate) fn get(&self, key: &Key) -> Option<Version> {
        self.0.lock().get(key).cloned()
    }

    /// Remembers the version of a session; `None` forgets it.
    pub(crate) fn set(&self, key: &Key, version: Option<Version>) {
        let short = |version: &Version| version.as_content().map_or(0, Bytes::len) <= LONGEST;
        let mut versions = self.0.lock();
        match version.filter(short) {
            Some(version) => drop(versions.insert(key.clone(), version)),
            None => drop(versions.remove(key)),
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Seen").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded() {
        let seen = Seen::new();
        let key = |number: usize| Key::new(number.to_string()).unwrap();
        for number in 0..=REMEMBERED {
            seen.set(&key(number), Some(Version::from_token(1)));
        }
        assert_eq!(seen.get(&key(0)), None);
        assert_eq!(seen.get(&key(1)), Some(Version::from_token(1)));
        let content = |length| Version::from_content(vec![0; length].into());
        seen.set(&key(1), Some(content(LONGEST)));
        assert_eq!(seen.get(&key(1)), Some(content(LONGEST)));
        seen.set(&key(1), Some(content(LONGEST + 1)));
        assert_eq!(seen.get(&key(1)), None, "the old version is forgotten too");
    }
}

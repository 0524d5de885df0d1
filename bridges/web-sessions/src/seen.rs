//! The sessions that this process has seen last.

use std::fmt;

use hashlink::LruCache;
use larder_core::{Bytes, Key, Version};
use larder_owners::Indexed;
use parking_lot::Mutex;

/// The number of remembered sessions. A forgotten one costs a read before its next save.
const REMEMBERED: usize = 1_000;

/// The longest remembered content, in bytes, for stores whose versions are the content. All versions together take at
/// most 4 MB.
const LONGEST: usize = 4_096;

/// A session in the store, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) version: Version,
    pub(crate) indexed: Indexed,
}

/// The last seen version of each session. The store compares a version with the stored one, so an old version is
/// never harmful: the write fails, and the session is read again.
pub(crate) struct Seen(Mutex<LruCache<Key, Live>>);

impl Seen {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }

    /// Returns the session as it was seen last.
    pub(crate) fn get(&self, key: &Key) -> Option<Live> {
        self.0.lock().get(key).cloned()
    }

    /// Remembers a session; `None` forgets it.
    pub(crate) fn set(&self, key: &Key, live: Option<Live>) {
        let short = |live: &Live| live.version.as_content().map_or(0, Bytes::len) <= LONGEST;
        let mut seen = self.0.lock();
        match live.filter(short) {
            Some(live) => drop(seen.insert(key.clone(), live)),
            None => drop(seen.remove(key)),
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
        let live = |version| Some(Live { version, indexed: Indexed::NONE });
        for number in 0..=REMEMBERED {
            seen.set(&key(number), live(Version::from_token(1)));
        }
        assert_eq!(seen.get(&key(0)), None);
        assert_eq!(seen.get(&key(1)), live(Version::from_token(1)));
        let content = |length| live(Version::from_content(vec![0; length].into()));
        seen.set(&key(1), content(LONGEST));
        assert_eq!(seen.get(&key(1)), content(LONGEST));
        seen.set(&key(1), content(LONGEST + 1));
        assert_eq!(seen.get(&key(1)), None, "the old version is forgotten too");
    }
}

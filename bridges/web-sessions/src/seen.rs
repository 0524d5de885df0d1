//! The sessions that this process has seen last.

use std::fmt;

use hashlink::LruCache;
use larder_core::{Bytes, Key, Version};
use larder_owners::{Indexed, Owner};
use parking_lot::Mutex;

/// The number of remembered sessions. A forgotten one costs a read before its next save.
const REMEMBERED: usize = 1_000;

/// The maximum size of a remembered session, in bytes. All together take at most 4 MB.
const LONGEST: usize = 4_096;

/// A session in the store, without its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) version: Version,
    pub(crate) indexed: Indexed,
}

impl Live {
    /// Returns the size in bytes. In some stores, the version is the content.
    fn size(&self) -> usize {
        let content = self.version.as_content().map_or(0, Bytes::len);
        let owner = |owner: &Owner| owner.id.len() + owner.device.as_ref().map_or(0, String::len);
        content + self.indexed.owner.as_ref().map_or(0, owner)
    }
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
        let mut seen = self.0.lock();
        match live.filter(|live| live.size() <= LONGEST) {
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
        let device = |length| {
            let owner = Owner { id: "ann".to_owned(), device: Some("d".repeat(length - 3)) };
            let indexed = Indexed { owner: Some(owner), ..Indexed::NONE };
            Some(Live { version: Version::from_token(1), indexed })
        };
        for of_size in [&content as &dyn Fn(usize) -> Option<Live>, &device] {
            seen.set(&key(1), of_size(LONGEST));
            assert_eq!(seen.get(&key(1)), of_size(LONGEST));
            seen.set(&key(1), of_size(LONGEST + 1));
            assert_eq!(seen.get(&key(1)), None, "the old version is forgotten too");
        }
    }
}

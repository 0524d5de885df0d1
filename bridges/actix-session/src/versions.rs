//! The versions of the sessions that running requests have loaded.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use larder_core::{Key, Version};
use parking_lot::Mutex;

/// The number of remembered versions. More requests at a time only cost some of them another read.
const SLOTS: usize = 256;
/// The maximal size of a remembered version, in bytes. Where versions are contents, it bounds the memory.
const LARGEST: usize = 4 << 10;

type Slot = Mutex<Option<(Key, Version)>>;

/// Saves the read before a write: actix-session loads a session without a place for its version, so the version
/// waits here for the update. A version that is missing or outdated costs a read, and nothing else.
#[derive(Clone, Debug)]
pub(crate) struct Versions {
    slots: Arc<[Slot]>,
    hasher: RandomState,
}

impl Versions {
    pub(crate) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    pub(crate) fn remember(&self, key: &Key, version: Version) {
        let fits = version.as_content().is_none_or(|content| content.len() <= LARGEST);
        *self.slot(key).lock() = fits.then(|| (key.clone(), version));
    }

    /// Returns the version of the session, and forgets it.
    pub(crate) fn take(&self, key: &Key) -> Option<Version> {
        self.slot(key).lock().take_if(|(remembered, _)| remembered == key).map(|(_, version)| version)
    }

    fn slot(&self, key: &Key) -> &Slot {
        &self.slots[self.hasher.hash_one(key) as usize % SLOTS]
    }
}

#[cfg(test)]
mod tests {
    use larder_core::Bytes;

    use super::*;

    #[test]
    fn a_version_is_returned_once_and_only_for_its_key() {
        let versions = Versions::new();
        let keys: Vec<_> = (0..10 * SLOTS).map(|count| Key::new(count.to_string()).unwrap()).collect();
        for (token, key) in keys.iter().enumerate() {
            versions.remember(key, Version::from_token(token as u64));
        }
        let mut remembered = 0;
        for (token, key) in keys.iter().enumerate() {
            if let Some(version) = versions.take(key) {
                assert_eq!(version.as_token(), Some(token as u64));
                remembered += 1;
            }
            assert_eq!(versions.take(key), None);
        }
        assert!((1..=SLOTS).contains(&remembered), "{remembered}");
    }

    #[test]
    fn large_contents_are_not_kept() {
        let (versions, key) = (Versions::new(), Key::new("key").unwrap());
        for (size, is_kept) in [(LARGEST, true), (LARGEST + 1, false)] {
            versions.remember(&key, Version::from_content(Bytes::from(vec![0; size])));
            assert_eq!(versions.take(&key).is_some(), is_kept, "{size}");
        }
        // An older version of the same session is forgotten too.
        versions.remember(&key, Version::from_token(1));
        versions.remember(&key, Version::from_content(Bytes::from(vec![0; LARGEST + 1])));
        assert_eq!(versions.take(&key), None);
    }
}

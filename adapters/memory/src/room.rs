//! The limits on entries and bytes.

use parking_lot::Mutex;

use crate::config::Config;

/// The space left for the entries of all maps together.
pub(crate) struct Room {
    pub(crate) limits: Config,
    /// The entries and bytes in use, if there are limits.
    taken: Mutex<(u64, u64)>,
}

impl Room {
    pub(crate) const fn new(limits: Config) -> Self {
        Self { limits, taken: Mutex::new((0, 0)) }
    }

    /// Reserves the space for an entry of this weight if it fits. The entry replaces one of weight `replaced`, if
    /// any.
    pub(crate) fn take(&self, replaced: Option<u64>, weight: u64) -> bool {
        if !self.limits.is_bounded() || replaced == Some(weight) {
            return true;
        }
        let mut taken = self.taken.lock();
        let entries = taken.0 + u64::from(replaced.is_none());
        let bytes = taken.1 + weight - replaced.unwrap_or(0);
        let fits = self.limits.allows(entries, bytes);
        if fits {
            *taken = (entries, bytes);
        }
        fits
    }

    pub(crate) fn give_back(&self, entries: u64, bytes: u64) {
        if self.limits.is_bounded() {
            let mut taken = self.taken.lock();
            *taken = (taken.0 - entries, taken.1 - bytes);
        }
    }
}

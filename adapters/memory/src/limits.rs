//! How much there is, and how much there may be.

use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::Key;

use crate::config::{MemoryBuilder, WhenFull};

/// What an entry takes besides the bytes of its key and value, as `max_bytes` counts it: about what
/// the map, the two allocations and the list of uses take.
pub const ENTRY_OVERHEAD: u64 = 192;

/// What one entry counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    entries: u64,
    bytes: u64,
}

impl Weight {
    pub(crate) fn of(key: &Key, value: &[u8]) -> Self {
        let bytes = key.as_bytes().len().saturating_add(value.len());
        Self { entries: 1, bytes: u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(ENTRY_OVERHEAD) }
    }
}

/// The bounds, and what counts towards them.
#[derive(Debug)]
pub(crate) struct Limits {
    entries: Counter,
    bytes: Counter,
    when_full: WhenFull,
}

#[derive(Debug)]
struct Counter {
    most: Option<u64>,
    now: AtomicU64,
}

impl Counter {
    fn new(most: Option<u64>) -> Self {
        Self { most, now: AtomicU64::new(0) }
    }

    /// Replaces `old` by `new` in the count; `false` if that is more than there may be and `strict`.
    fn exchange(&self, old: u64, new: u64, strict: bool) -> bool {
        let Some(most) = self.most else {
            // Nobody asks for a count with no bound, and a shared counter is not free.
            return true;
        };
        if new <= old {
            self.now.fetch_sub(old - new, Ordering::Relaxed);
            return true;
        }
        let more = new - old;
        if strict {
            let add = |now: u64| now.checked_add(more).filter(|&sum| sum <= most);
            self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
        } else {
            self.now.fetch_add(more, Ordering::Relaxed);
            true
        }
    }

    fn exceeded(&self) -> bool {
        self.most.is_some_and(|most| self.now.load(Ordering::Relaxed) > most)
    }
}

impl Limits {
    pub(crate) fn new(builder: &MemoryBuilder) -> Self {
        Self {
            entries: Counter::new(builder.max_entries),
            bytes: Counter::new(builder.max_bytes),
            when_full: builder.when_full,
        }
    }

    /// Whether entries are evicted, so that their use has to be recorded.
    pub(crate) fn evicts(&self) -> bool {
        self.when_full == WhenFull::Evict && (self.entries.most.is_some() || self.bytes.most.is_some())
    }

    /// The largest value that fits even under the longest key.
    pub(crate) fn max_value(&self) -> Option<u64> {
        let longest = u64::try_from(Key::MAX_BYTES).unwrap_or(u64::MAX);
        self.bytes.most.map(|most| most.saturating_sub(ENTRY_OVERHEAD.saturating_add(longest)))
    }

    /// An entry of weight `new` takes the place of `old`. Where entries are refused rather than
    /// evicted it says whether there is room; if not, nothing is counted.
    pub(crate) fn exchange(&self, old: Weight, new: Weight) -> bool {
        let strict = self.when_full == WhenFull::Refuse;
        if !self.entries.exchange(old.entries, new.entries, strict) {
            return false;
        }
        if !self.bytes.exchange(old.bytes, new.bytes, strict) {
            self.entries.exchange(new.entries, old.entries, false);
            return false;
        }
        true
    }

    /// An entry of that weight is gone.
    pub(crate) fn release(&self, weight: Weight) {
        self.exchange(weight, Weight::default());
    }

    /// Whether there is more than there may be.
    pub(crate) fn exceeded(&self) -> bool {
        self.entries.exceeded() || self.bytes.exceeded()
    }
}

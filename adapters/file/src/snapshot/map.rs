//! The entries in memory.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;
use larder_core::{Entry, Expiry, Key, Record, Version};

/// An entry in memory.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) value: Bytes,
    pub(super) token: u64,
    pub(super) deadline: Option<i64>,
}

/// All entries, and how often they have changed.
#[derive(Debug, Default)]
pub(super) struct Map {
    slots: BTreeMap<Key, Slot>,
    changes: u64,
}

impl Slot {
    pub(super) fn is_alive(&self, now: i64) -> bool {
        Expiry::until(self.deadline, now).is_some()
    }

    pub(super) fn version(&self) -> Version {
        Version::from_token(self.token)
    }

    pub(super) fn record(&self) -> Record {
        Record::at(self.value.clone(), self.version())
    }
}

impl Map {
    pub(super) fn new(slots: BTreeMap<Key, Slot>) -> Self {
        Self { slots, changes: 0 }
    }

    /// A number that is another one after every change.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The entry under `key`, unless it has expired.
    pub(super) fn get(&self, key: &Key, now: i64) -> Option<&Slot> {
        self.slots.get(key).filter(|slot| slot.is_alive(now))
    }

    pub(super) fn set(&mut self, key: &Key, value: &[u8], expiry: Expiry, now: i64) -> Version {
        let version = Version::unique();
        if expiry.is_elapsed() {
            self.remove(key, now);
            return version;
        }
        let slot = Slot {
            // The value may be a slice of something larger, which is not ours to keep alive.
            value: Bytes::copy_from_slice(value),
            token: version.as_token().unwrap_or_default(),
            deadline: expiry.deadline(now),
        };
        self.slots.insert(key.clone(), slot);
        self.changes += 1;
        version
    }

    pub(super) fn remove(&mut self, key: &Key, now: i64) -> bool {
        let Some(slot) = self.slots.remove(key) else {
            return false;
        };
        self.changes += 1;
        slot.is_alive(now)
    }

    pub(super) fn touch(&mut self, key: &Key, expiry: Expiry, now: i64) -> bool {
        if expiry.is_elapsed() {
            return self.remove(key, now);
        }
        let Some(slot) = self.slots.get_mut(key).filter(|slot| slot.is_alive(now)) else {
            return false;
        };
        slot.deadline = expiry.deadline(now);
        self.changes += 1;
        true
    }

    /// Removes what has expired. A snapshot leaves it out anyway, so that this is no change.
    pub(super) fn purge(&mut self, now: i64) -> u64 {
        let before = self.slots.len();
        self.slots.retain(|_, slot| slot.is_alive(now));
        (before - self.slots.len()) as u64
    }

    /// Removes everything under `prefix`; returns how many entries that were.
    pub(super) fn clear(&mut self, prefix: &str, now: i64) -> u64 {
        let mut cleared = 0;
        self.slots.retain(|key, slot| {
            let goes = key.as_str().starts_with(prefix);
            cleared += u64::from(goes && slot.is_alive(now));
            !goes
        });
        self.changes += 1;
        cleared
    }

    /// Up to `limit` entries under `prefix` in the order of their keys, after `last`; expired ones are
    /// left out. Beside them the last key that was looked at, to go on from; `None` at the end.
    pub(super) fn page(
        &self,
        prefix: &str,
        last: Option<&Key>,
        limit: usize,
        now: i64,
    ) -> (Vec<(Key, Slot)>, Option<Key>) {
        let start = last.map_or(Bound::Included(prefix), |last| Bound::Excluded(last.as_str()));
        let mut page = Vec::new();
        let mut reached = None;
        let slots = self.slots.range::<str, _>((start, Bound::Unbounded));
        for (key, slot) in slots.take_while(|(key, _)| key.as_str().starts_with(prefix)).take(limit) {
            reached = Some(key.clone());
            if slot.is_alive(now) {
                page.push((key.clone(), slot.clone()));
            }
        }
        (page, reached)
    }
}

/// An entry as a listing returns it; `None` if it has expired.
pub(super) fn entry((key, slot): (Key, Slot), now: i64) -> Option<Entry> {
    Expiry::until(slot.deadline, now).map(|expiry| Entry::new(key, slot.record(), expiry))
}

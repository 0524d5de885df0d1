//! The entries in memory.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use larder_core::{
    Action, Applied, Change, Entry, Key, ListOptions, ReadOptions, Record, Result, Version, Written,
};

use crate::format::Stored;

/// The number of entries in a page of a listing.
const PAGE: usize = 256;

/// All entries, in the order of their keys.
pub(super) type Slots = BTreeMap<Key, Stored>;

/// The entries, and the number of changes to them.
pub(super) struct Map {
    /// Shared with a running save: the next change then copies it.
    pub(super) slots: Arc<Slots>,
    pub(super) changes: u64,
}

impl Map {
    pub(super) fn new(slots: Slots) -> Self {
        Self { slots: Arc::new(slots), changes: 0 }
    }

    /// Reads the entry under `key`, and touches it if the options ask for it.
    pub(super) fn read(&mut self, key: &Key, options: &ReadOptions, now: i64) -> Result<Option<Record>> {
        if let Some(expiry) = options.touch {
            self.apply(Change::touch(key.clone(), expiry), now)?;
        }
        Ok(self.slots.get(key).and_then(|slot| slot.clone().record(options.ttl, now)))
    }

    /// Makes a change if its condition holds.
    pub(super) fn apply(&mut self, change: Change, now: i64) -> Result<Applied> {
        let Change { key, action, condition, .. } = change;
        let current = self.slots.get(&key).filter(|slot| slot.is_alive(now)).map(|slot| &slot.version);
        let exists = current.is_some();
        condition.check(current)?;
        match action {
            Action::Put(value, expiry) => {
                let version = Version::unique();
                // Copied because the value may be a slice of a larger buffer, which a clone would keep in memory.
                let value = Bytes::copy_from_slice(&value);
                let stored = Stored { value, version: version.clone(), deadline: expiry.deadline(now) };
                self.change().insert(key, stored);
                Ok(Applied::Put(Written::at(version)))
            }
            Action::Delete => {
                if exists {
                    self.change().remove(&key);
                }
                Ok(Applied::Deleted(exists))
            }
            Action::Touch(expiry) => {
                if exists && let Some(slot) = self.change().get_mut(&key) {
                    slot.deadline = expiry.deadline(now);
                }
                Ok(Applied::Touched(exists))
            }
        }
    }

    /// Returns the entries for a change, and counts the change.
    fn change(&mut self) -> &mut Slots {
        self.changes += 1;
        Arc::make_mut(&mut self.slots)
    }

    /// Removes expired entries. Returns their number. This does not count as a change, because a snapshot does not
    /// contain them anyway.
    pub(super) fn purge(&mut self, now: i64) -> u64 {
        self.remove_if(|_, slot| !slot.is_alive(now))
    }

    /// Removes all entries whose keys begin with `prefix`. Returns their number.
    pub(super) fn clear(&mut self, prefix: &str, now: i64) -> u64 {
        self.purge(now);
        let cleared = self.remove_if(|key, _| key.as_str().starts_with(prefix));
        self.changes += cleared;
        cleared
    }

    fn remove_if(&mut self, goes: impl Fn(&Key, &Stored) -> bool) -> u64 {
        // Checked first, because a removal copies the table during a save.
        if !self.slots.iter().any(|(key, slot)| goes(key, slot)) {
            return 0;
        }
        let before = self.slots.len();
        Arc::make_mut(&mut self.slots).retain(|key, slot| !goes(key, slot));
        (before - self.slots.len()) as u64
    }

    /// Returns the next entries of a listing, in the order of the keys; none at the end.
    pub(super) fn page(&self, options: &ListOptions, now: i64) -> Vec<Entry> {
        let prefix = options.prefix.as_str();
        let start = match &options.start_after {
            Some(last) if last.as_str() >= prefix => Bound::Excluded(last.as_str()),
            _ => Bound::Included(prefix),
        };
        let slots = self.slots.range::<str, _>((start, Bound::Unbounded));
        let entries =
            slots.take_while(|(key, _)| key.as_str().starts_with(prefix)).filter_map(|(key, slot)| {
                let record = slot.clone().record(true, now)?;
                let key = key.clone();
                Some(if options.values { Entry::new(key, record) } else { Entry::key(key) })
            });
        entries.take(options.page(PAGE)).collect()
    }
}

//! The entries in memory.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use larder_core::{
    Condition, Entry, Error, Expiry, Key, ListOptions, ReadOptions, Record, Result, Version, WriteOptions,
    Written,
};

use crate::format::Stored;

/// All entries, in the order of their keys.
pub(super) type Slots = BTreeMap<Key, Stored>;

/// The entries, and how often they have changed.
pub(super) struct Map {
    /// Shared with a save that is under way: the next change copies it.
    pub(super) slots: Arc<Slots>,
    pub(super) changes: u64,
}

impl Map {
    pub(super) fn new(slots: Slots) -> Self {
        Self { slots: Arc::new(slots), changes: 0 }
    }

    /// Reads the entry under `key`.
    pub(super) fn read(&self, key: &Key, options: &ReadOptions, now: i64) -> Option<Record> {
        self.slots.get(key)?.clone().record(options.ttl, now)
    }

    /// Writes the entry under `key` if the condition holds.
    pub(super) fn write(
        &mut self,
        key: &Key,
        value: &[u8],
        options: &WriteOptions,
        now: i64,
    ) -> Result<Written> {
        self.check(key, &options.condition, now)?;
        let version = Version::unique();
        // The value may be a slice of a larger buffer, which should not be kept alive.
        let value = Bytes::copy_from_slice(value);
        let deadline = options.expiry.deadline(now);
        self.change().insert(key.clone(), Stored { value, version: version.clone(), deadline });
        Ok(Written::at(version))
    }

    /// Deletes the entry under `key` if the condition holds; returns whether there was one.
    pub(super) fn delete(&mut self, key: &Key, condition: &Condition, now: i64) -> Result<bool> {
        let existed = self.check(key, condition, now)?;
        if existed {
            self.change().remove(key);
        }
        Ok(existed)
    }

    /// Gives the entry under `key` another expiry if the condition holds; returns whether there is one.
    pub(super) fn touch(
        &mut self,
        key: &Key,
        expiry: Expiry,
        condition: &Condition,
        now: i64,
    ) -> Result<bool> {
        let existed = self.check(key, condition, now)?;
        if existed && let Some(slot) = self.change().get_mut(key) {
            slot.deadline = expiry.deadline(now);
        }
        Ok(existed)
    }

    /// Whether there is an entry under `key`; an error if the condition does not hold.
    fn check(&self, key: &Key, condition: &Condition, now: i64) -> Result<bool> {
        let current = self.slots.get(key).filter(|slot| slot.is_alive(now)).map(|slot| &slot.version);
        if condition.holds(current) { Ok(current.is_some()) } else { Err(Error::conflict()) }
    }

    /// The entries, for a change.
    fn change(&mut self) -> &mut Slots {
        self.changes += 1;
        Arc::make_mut(&mut self.slots)
    }

    /// Removes expired entries; returns how many there were. A snapshot leaves them out anyway, so this does not
    /// count as a change.
    pub(super) fn purge(&mut self, now: i64) -> u64 {
        self.remove_if(|_, slot| !slot.is_alive(now))
    }

    /// Removes all entries whose keys begin with `prefix`; returns how many there were.
    pub(super) fn clear(&mut self, prefix: &str, now: i64) -> u64 {
        self.purge(now);
        let cleared = self.remove_if(|key, _| key.as_str().starts_with(prefix));
        self.changes += cleared;
        cleared
    }

    fn remove_if(&mut self, goes: impl Fn(&Key, &Stored) -> bool) -> u64 {
        // The table is copied while it is being saved.
        if !self.slots.iter().any(|(key, slot)| goes(key, slot)) {
            return 0;
        }
        let before = self.slots.len();
        Arc::make_mut(&mut self.slots).retain(|key, slot| !goes(key, slot));
        (before - self.slots.len()) as u64
    }

    /// Looks at up to `limit` entries of a listing, in the order of their keys. Returns those that have not
    /// expired, and the last key that was looked at; `None` at the end.
    pub(super) fn page(&self, options: &ListOptions, limit: usize, now: i64) -> (Vec<Entry>, Option<Key>) {
        let prefix = options.prefix.as_str();
        let start = match &options.start_after {
            Some(last) if last.as_str() >= prefix => Bound::Excluded(last.as_str()),
            _ => Bound::Included(prefix),
        };
        let mut page = Vec::new();
        let mut reached = None;
        let slots = self.slots.range::<str, _>((start, Bound::Unbounded));
        for (key, slot) in slots.take_while(|(key, _)| key.as_str().starts_with(prefix)).take(limit) {
            reached = Some(key.clone());
            if let Some(record) = slot.clone().record(true, now) {
                let key = key.clone();
                page.push(if options.values { Entry::new(key, record) } else { Entry::key(key) });
            }
        }
        (page, reached)
    }
}

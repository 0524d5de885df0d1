//! The entries in memory.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use bytes::Bytes;
use larder_core::{
    Action, Applied, Change, Entry, Error, Expiry, Key, ListOptions, ReadOptions, Record, Result, Version,
    Written,
};

/// An entry in memory.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) value: Bytes,
    pub(super) token: u64,
    pub(super) deadline: Option<i64>,
}

/// All entries, in the order of their keys.
pub(super) type Slots = BTreeMap<Key, Slot>;

/// The entries, and how often they have changed.
#[derive(Debug)]
pub(super) struct Map {
    /// Shared with a save that is under way: the next change copies it.
    slots: Arc<Slots>,
    changes: u64,
}

impl Slot {
    pub(super) fn is_alive(&self, now: i64) -> bool {
        Expiry::until(self.deadline, now).is_some()
    }

    fn version(&self) -> Version {
        Version::from_token(self.token)
    }

    fn record(&self) -> Record {
        Record::at(self.value.clone(), self.version())
    }
}

impl Map {
    pub(super) fn new(slots: Slots) -> Self {
        Self { slots: Arc::new(slots), changes: 0 }
    }

    /// Counts the changes.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The entries as they are now, whatever changes afterwards.
    pub(super) fn slots(&self) -> Arc<Slots> {
        Arc::clone(&self.slots)
    }

    /// The entry under `key`, unless it has expired.
    fn get(&self, key: &Key, now: i64) -> Option<&Slot> {
        self.slots.get(key).filter(|slot| slot.is_alive(now))
    }

    /// Reads the entry under `key`.
    pub(super) fn read(&self, key: &Key, options: &ReadOptions, now: i64) -> Option<Record> {
        let slot = self.slots.get(key)?;
        let expiry = Expiry::until(slot.deadline, now)?;
        Some(if options.ttl { slot.record().expires(expiry) } else { slot.record() })
    }

    /// Applies a change if its condition holds.
    pub(super) fn apply(&mut self, change: Change, now: i64) -> Result<Applied> {
        let Change { key, action, condition, .. } = change;
        let current = self.get(&key, now).map(Slot::version);
        if !condition.holds(current.as_ref()) {
            return Err(Error::conflict());
        }
        match action {
            Action::Delete if current.is_none() => return Ok(Applied::Deleted(false)),
            Action::Touch(_) if current.is_none() => return Ok(Applied::Touched(false)),
            _ => {}
        }
        let slots = Arc::make_mut(&mut self.slots);
        self.changes += 1;
        Ok(match action {
            Action::Put(value, expiry) => {
                let version = Version::unique();
                let token = version.as_token().unwrap_or_default();
                // The value may be a slice of a larger buffer, which should not be kept alive.
                let value = Bytes::copy_from_slice(&value);
                slots.insert(key, Slot { value, token, deadline: expiry.deadline(now) });
                Applied::Put(Written::at(version))
            }
            Action::Delete => {
                slots.remove(&key);
                Applied::Deleted(true)
            }
            Action::Touch(expiry) => {
                slots.entry(key).and_modify(|slot| slot.deadline = expiry.deadline(now));
                Applied::Touched(true)
            }
        })
    }

    /// Removes expired entries. A snapshot leaves them out anyway, so this does not count as a change.
    pub(super) fn purge(&mut self, now: i64) -> u64 {
        // The table is copied while it is being saved.
        if self.slots.values().all(|slot| slot.is_alive(now)) {
            return 0;
        }
        let before = self.slots.len();
        Arc::make_mut(&mut self.slots).retain(|_, slot| slot.is_alive(now));
        (before - self.slots.len()) as u64
    }

    /// Removes all entries whose keys begin with `prefix`; returns how many there were.
    pub(super) fn clear(&mut self, prefix: &str, now: i64) -> u64 {
        if !self.slots.keys().any(|key| key.as_str().starts_with(prefix)) {
            return 0;
        }
        let mut cleared = 0;
        Arc::make_mut(&mut self.slots).retain(|key, slot| {
            let goes = key.as_str().starts_with(prefix);
            cleared += u64::from(goes && slot.is_alive(now));
            !goes
        });
        self.changes += 1;
        cleared
    }

    /// Looks at up to `limit` entries of a listing, in the order of their keys, after `last`. Returns those
    /// that have not expired, and the last key that was looked at; `None` at the end.
    pub(super) fn page(
        &self,
        options: &ListOptions,
        last: Option<&Key>,
        limit: usize,
        now: i64,
    ) -> (Vec<Entry>, Option<Key>) {
        let prefix = options.prefix.as_str();
        let start = match last {
            Some(last) if last.as_str() >= prefix => Bound::Excluded(last.as_str()),
            _ => Bound::Included(prefix),
        };
        let mut page = Vec::new();
        let mut reached = None;
        let slots = self.slots.range::<str, _>((start, Bound::Unbounded));
        for (key, slot) in slots.take_while(|(key, _)| key.as_str().starts_with(prefix)).take(limit) {
            reached = Some(key.clone());
            let Some(expiry) = Expiry::until(slot.deadline, now) else {
                continue;
            };
            let record = options.values.then(|| slot.record().expires(expiry));
            page.push(
                record.map_or_else(|| Entry::key(key.clone()), |record| Entry::new(key.clone(), record)),
            );
        }
        (page, reached)
    }
}

//! The entries in memory.

use std::{collections::BTreeMap, ops::Bound};

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

/// All entries, and how often they have changed.
#[derive(Debug, Default)]
pub(super) struct Map {
    slots: BTreeMap<Key, Slot>,
    changes: u64,
    frozen: Option<Frozen>,
}

/// The entries as they were at one moment, for a save that takes some time: the map, except for the
/// keys that have changed since.
///
/// It holds at most one slot for each key that changes during the save and that the save has not
/// reached yet. The values are shared with the map or were in it when the save began.
#[derive(Debug)]
struct Frozen {
    /// The moment, which decides about expiry.
    now: i64,
    /// The save is past this key.
    passed: Option<Key>,
    /// The slots of changed keys at that moment; `None` for a key that had no entry.
    kept: BTreeMap<Key, Option<Slot>>,
}

impl Frozen {
    /// Preserves the slot of a key that is about to change, unless an earlier change did so or the
    /// save is past the key.
    fn keep(&mut self, key: &Key, slot: Option<&Slot>) {
        if self.passed.as_ref().is_none_or(|passed| key > passed) && !self.kept.contains_key(key) {
            self.kept.insert(key.clone(), slot.cloned());
        }
    }
}

impl Slot {
    fn is_alive(&self, now: i64) -> bool {
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
    pub(super) fn new(slots: BTreeMap<Key, Slot>) -> Self {
        Self { slots, changes: 0, frozen: None }
    }

    /// Counts the changes.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Preserves the entries as they are now for [`frozen_page`](Self::frozen_page), whatever changes
    /// until [`thaw`](Self::thaw). Returns the number of changes up to now.
    pub(super) fn freeze(&mut self, now: i64) -> u64 {
        self.frozen = Some(Frozen { now, passed: None, kept: BTreeMap::new() });
        self.changes
    }

    /// Ends a [`freeze`](Self::freeze).
    pub(super) fn thaw(&mut self) {
        self.frozen = None;
    }

    /// The next entries as they were when the map was frozen, in the order of their keys, without
    /// those that had expired. Looks at up to `limit` entries; `None` at the end.
    pub(super) fn frozen_page(&mut self, limit: usize) -> Option<Vec<(Key, Slot)>> {
        let Frozen { now, passed, kept } = self.frozen.as_mut()?;
        let start = passed.as_ref().map_or(Bound::Unbounded, |passed| Bound::Excluded(passed.as_str()));
        let mut current = self.slots.range::<str, _>((start, Bound::Unbounded)).peekable();
        let mut page = Vec::new();
        let mut reached = None;
        for _ in 0..limit {
            let first_kept = kept.keys().next();
            let unchanged = current.next_if(|(key, _)| first_kept.is_none_or(|kept| *key < kept));
            let (key, slot) = match unchanged {
                Some((key, slot)) => (key.clone(), Some(slot.clone())),
                None => {
                    let Some((key, slot)) = kept.pop_first() else {
                        break;
                    };
                    current.next_if(|(changed, _)| **changed == key);
                    (key, slot)
                }
            };
            reached = Some(key.clone());
            page.extend(slot.filter(|slot| slot.is_alive(*now)).map(|slot| (key, slot)));
        }
        *passed = Some(reached?);
        Some(page)
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
        let Self { slots, changes, frozen } = self;
        if let Some(frozen) = frozen {
            frozen.keep(&key, slots.get(&key));
        }
        *changes += 1;
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
        let before = self.slots.len();
        self.retain(|_, slot| slot.is_alive(now));
        (before - self.slots.len()) as u64
    }

    /// Removes all entries whose keys begin with `prefix`; returns how many there were.
    pub(super) fn clear(&mut self, prefix: &str, now: i64) -> u64 {
        let mut cleared = 0;
        self.retain(|key, slot| {
            let goes = key.as_str().starts_with(prefix);
            cleared += u64::from(goes && slot.is_alive(now));
            !goes
        });
        self.changes += 1;
        cleared
    }

    fn retain(&mut self, mut stays: impl FnMut(&Key, &Slot) -> bool) {
        let Self { slots, frozen, .. } = self;
        slots.retain(|key, slot| {
            let stays = stays(key, slot);
            if let (false, Some(frozen)) = (stays, &mut *frozen) {
                frozen.keep(key, Some(slot));
            }
            stays
        });
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Map, Slot};
    use larder_core::{Bytes, Expiry, Key};

    #[derive(Clone, Debug)]
    enum Change {
        Set(usize, u8, Expiry),
        Remove(usize),
        Touch(usize, Expiry),
        Clear(usize),
        Purge,
        /// The save takes its next page.
        Page(usize),
    }

    fn key(index: usize) -> Key {
        Key::new(format!("{index:02}")).unwrap()
    }

    fn apply(map: &mut Map, change: &Change, now: i64) {
        match *change {
            Change::Set(at, value, expiry) => {
                drop(map.apply(super::Change::put(key(at), vec![value], expiry), now));
            }
            Change::Remove(at) => drop(map.apply(super::Change::delete(key(at)), now)),
            Change::Touch(at, expiry) => drop(map.apply(super::Change::touch(key(at), expiry), now)),
            Change::Clear(tens) => drop(map.clear(&tens.to_string(), now)),
            Change::Purge => drop(map.purge(now)),
            Change::Page(_) => {}
        }
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let expiry = || {
            prop_oneof![
                Just(Expiry::Never),
                Just(Expiry::after_millis(1)),
                Just(Expiry::after_millis(10)),
                Just(Expiry::after_millis(90)),
            ]
        };
        let change = prop_oneof![
            4 => (0..40usize, any::<u8>(), expiry()).prop_map(|(at, value, expiry)| Change::Set(at, value, expiry)),
            3 => (0..40usize).prop_map(Change::Remove),
            2 => (0..40usize, expiry()).prop_map(|(at, expiry)| Change::Touch(at, expiry)),
            1 => (0..4usize).prop_map(Change::Clear),
            1 => Just(Change::Purge),
            3 => (1..9usize).prop_map(Change::Page),
        ];
        proptest::collection::vec(change, 0..80)
    }

    type Seen = Vec<(Key, Bytes, u64, Option<i64>)>;

    fn seen(entries: impl IntoIterator<Item = (Key, Slot)>) -> Seen {
        entries.into_iter().map(|(key, slot)| (key, slot.value, slot.token, slot.deadline)).collect()
    }

    proptest! {
        #[test]
        fn frozen_map_shows_the_moment_of_the_freeze(before in changes(), during in changes()) {
            let mut map = Map::default();
            for (now, change) in before.iter().enumerate() {
                apply(&mut map, change, i64::try_from(now).unwrap());
            }
            let moment = i64::try_from(before.len()).unwrap();
            let expected = seen(map.slots.clone().into_iter().filter(|(_, slot)| slot.is_alive(moment)));
            prop_assert_eq!(map.freeze(moment), map.changes());

            let mut saved = Vec::new();
            for (later, change) in during.iter().enumerate() {
                if let Change::Page(limit) = change {
                    saved.extend(map.frozen_page(*limit).into_iter().flatten());
                }
                apply(&mut map, change, moment + i64::try_from(later).unwrap());
                let frozen = map.frozen.as_ref().unwrap();
                prop_assert!(frozen.kept.keys().all(|kept| frozen.passed.as_ref().is_none_or(|passed| kept > passed)));
            }
            while let Some(page) = map.frozen_page(7) {
                saved.extend(page);
            }
            prop_assert_eq!(seen(saved), expected);

            // Without a save nothing is preserved.
            map.thaw();
            for change in &during {
                apply(&mut map, change, moment);
            }
            prop_assert!(map.frozen.is_none() && map.frozen_page(7).is_none());
        }
    }
}

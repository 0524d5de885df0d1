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
        Self { slots, changes: 0, frozen: None }
    }

    /// A number that is another one after every change.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Preserves the entries as they are now for [`frozen_page`](Self::frozen_page), whatever changes
    /// until [`thaw`](Self::thaw). Returns the number of changes up to now.
    pub(super) fn freeze(&mut self, now: i64) -> u64 {
        self.frozen = Some(Frozen { now, passed: None, kept: BTreeMap::new() });
        self.changes
    }

    /// Ends what [`freeze`](Self::freeze) began.
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

    /// To be called before a change of the slot under `key`.
    fn before_change(&mut self, key: &Key) {
        if let Some(frozen) = &mut self.frozen {
            frozen.keep(key, self.slots.get(key));
        }
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
        self.before_change(key);
        self.slots.insert(key.clone(), slot);
        self.changes += 1;
        version
    }

    pub(super) fn remove(&mut self, key: &Key, now: i64) -> bool {
        self.before_change(key);
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
        self.before_change(key);
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
        self.retain(|_, slot| slot.is_alive(now));
        (before - self.slots.len()) as u64
    }

    /// Removes everything under `prefix`; returns how many entries that were.
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
            Change::Set(at, value, expiry) => drop(map.set(&key(at), &[value], expiry, now)),
            Change::Remove(at) => drop(map.remove(&key(at), now)),
            Change::Touch(at, expiry) => drop(map.touch(&key(at), expiry, now)),
            Change::Clear(tens) => drop(map.clear(&tens.to_string(), now)),
            Change::Purge => drop(map.purge(now)),
            Change::Page(_) => {}
        }
    }

    fn changes() -> impl Strategy<Value = Vec<Change>> {
        let expiry = || {
            prop_oneof![
                Just(Expiry::Never),
                Just(Expiry::after_millis(0)),
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

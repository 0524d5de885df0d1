//! The entries, in maps that are locked one by one.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use hashlink::{DefaultHashBuilder, LinkedHashMap, linked_hash_map::RawEntryMut};
use larder_core::{
    Bytes, Condition, Error, ErrorKind, Expiry, Key, ReadOptions, Record, Result, Version, WriteOptions,
    Written,
};
use larder_kit::{Configure, Sweeper};
use parking_lot::RwLock;

use crate::{
    config::{Config, ENTRY_OVERHEAD},
    room::Room,
};

/// How many maps there are: a power of two.
const SHARDS: u64 = 64;

/// How many there are if entries are evicted, which looks at the least recently used one of each map.
const EVICTING_SHARDS: u64 = 8;

/// How many keys a listing looks at under the lock of a map.
pub(crate) const PAGE: usize = 256;

/// All entries. No method waits for anything but a lock, which is held for one operation on one map.
pub(crate) struct Table {
    pub(crate) shards: Box<[RwLock<Shard>]>,
    /// Picks the map of a key. The maps have hashers of their own, which are slower and resist collisions that
    /// are made on purpose.
    hasher: DefaultHashBuilder,
    pub(crate) room: Arc<Room>,
    pub(crate) sweeper: Sweeper,
}

pub(crate) struct Shard {
    /// If entries are evicted, in the order of use, the least recently used first.
    pub(crate) rows: LinkedHashMap<Key, Row, RandomState>,
    /// The keys by the [IDs](Row::id) of their rows, for listings. An entry keeps its place for as long as
    /// it stays, so a listing can go on from where it was.
    keys: BTreeMap<u64, Key>,
    /// The version that was given last. Each map counts in steps of its own, so that two entries never
    /// have the same version.
    version: u64,
    room: Arc<Room>,
}

pub(crate) struct Row {
    /// The first version under the key.
    id: u64,
    value: Bytes,
    version: u64,
    /// On the monotonic clock: setting the time of day does not make entries expire.
    deadline: Option<Instant>,
    /// When it was last read or written, if entries are evicted.
    used: Instant,
    /// What the entry counts towards `max_bytes`.
    weight: u64,
}

impl Table {
    pub(crate) fn new(limits: Config) -> Arc<Self> {
        let sweep = limits.sweep;
        let shards = if limits.evicts() { EVICTING_SHARDS } else { SHARDS };
        let room = Arc::new(Room::new(limits));
        let shards = (0..shards).map(|version| RwLock::new(Shard::new(version, &room))).collect();
        let purge = |table: Arc<Self>| async move { Ok(table.purge()) };
        Arc::new_cyclic(|table| {
            let sweeper = Sweeper::start(Config::ADAPTER, table.clone(), sweep, purge);
            Self { shards, hasher: DefaultHashBuilder::default(), room, sweeper }
        })
    }

    /// The map of the key. The sweeper starts with the first operation within a runtime.
    #[inline]
    pub(crate) fn shard(&self, key: &Key) -> &RwLock<Shard> {
        self.sweeper.ensure_running();
        let hash = (self.hasher.hash_one(key) >> 32) as usize;
        &self.shards[hash & (self.shards.len() - 1)]
    }

    /// Writes an entry, and makes the room that it needs. Expired entries are removed before an entry is
    /// refused.
    pub(crate) fn write(&self, key: &Key, mut value: Bytes, options: &WriteOptions) -> Result<Written> {
        let limits = &self.room.limits;
        let mut purged = false;
        loop {
            // The lock is let go before the row that was replaced gives back its memory.
            let written = self.shard(key).write().write(key, &mut value, options)?;
            if let Some((written, _replaced)) = written {
                return Ok(written);
            }
            if purged || !limits.allows(1, weight(key, &value)) {
                let message =
                    "there is no room for the entry; delete others, or raise `max_entries` or `max_bytes`";
                return Err(Error::new(ErrorKind::StorageFull, message).not_applied());
            }
            purged = !limits.evicts();
            if purged {
                self.purge();
            } else {
                self.evict();
            }
        }
    }

    /// Evicts the least recently used entry, unless another task uses it just now.
    fn evict(&self) {
        let oldest = |shard: &RwLock<Shard>| shard.read().rows.front().map(|(_, row)| row.used);
        let shards = self.shards.iter().filter_map(|shard| Some((oldest(shard)?, shard)));
        if let Some((used, shard)) = shards.min_by_key(|(used, _)| *used) {
            shard.write().evict(used);
        }
    }

    /// Removes the expired entries, and returns how many there were.
    pub(crate) fn purge(&self) -> u64 {
        self.shards.iter().map(|shard| shard.write().purge(Instant::now())).sum()
    }
}

impl Shard {
    fn new(version: u64, room: &Arc<Room>) -> Self {
        let (rows, keys) = (LinkedHashMap::default(), BTreeMap::new());
        Self { rows, keys, version, room: Arc::clone(room) }
    }

    #[inline]
    fn live(&self, key: &Key, now: Instant) -> Option<&Row> {
        self.rows.get(key).filter(|row| row.is_live(now))
    }

    /// The entry, which is used now.
    fn used(&mut self, key: &Key, now: Instant) -> Option<&mut Row> {
        let RawEntryMut::Occupied(mut entry) = self.rows.raw_entry_mut().from_key(key) else {
            return None;
        };
        if !entry.get().is_live(now) {
            return None;
        }
        entry.to_back();
        let row = entry.into_mut();
        row.used = now;
        Some(row)
    }

    /// Reads without counting it as a use, and without a touch.
    #[inline]
    pub(crate) fn peek(&self, key: &Key, value: bool, ttl: bool) -> Option<Record> {
        let now = Instant::now();
        self.live(key, now).map(|row| row.record(value, ttl, now))
    }

    /// Reads, counts it as a use, and touches the entry if the options say so.
    pub(crate) fn read(&mut self, key: &Key, options: &ReadOptions) -> Option<Record> {
        let now = Instant::now();
        let row = self.used(key, now)?;
        if let Some(expiry) = options.touch {
            row.deadline = deadline(expiry, now);
        }
        Some(row.record(options.value, options.ttl, now))
    }

    /// Up to `count` keys that begin with `prefix`, from the ID `from` on, and the ID to go on from; `None`
    /// at the end.
    pub(crate) fn page(&self, prefix: &str, from: u64, count: usize) -> (Vec<Key>, Option<u64>) {
        let mut next = None;
        let looked_at = self.keys.range(from..).take(PAGE).inspect(|(id, _)| next = Some(*id + 1));
        let keys = looked_at.map(|(_, key)| key).filter(|key| key.as_str().starts_with(prefix));
        (keys.take(count).cloned().collect(), next)
    }

    /// Whether there is an entry; an error if the condition does not hold.
    fn check(&self, key: &Key, condition: &Condition, now: Instant) -> Result<bool> {
        let current = self.live(key, now).map(Row::version);
        condition.check(current.as_ref()).map(|()| current.is_some())
    }

    /// Writes an entry and takes its value, or returns `None` if there is no room. Also returns the row that it
    /// replaces, whose memory the caller gives back.
    #[inline]
    fn write(
        &mut self,
        key: &Key,
        value: &mut Bytes,
        options: &WriteOptions,
    ) -> Result<Option<(Written, Option<Row>)>> {
        let now = Instant::now();
        if options.condition != Condition::Any {
            self.check(key, &options.condition, now)?;
        }
        let evicts = self.room.limits.evicts();
        let weight = weight(key, value);
        let mut entry = self.rows.raw_entry_mut().from_key(key);
        let replaced = match &mut entry {
            RawEntryMut::Occupied(entry) => {
                if evicts {
                    // Not to be evicted itself: it would lose its place in a listing.
                    entry.to_back();
                    entry.get_mut().used = now;
                }
                Some(entry.get())
            }
            RawEntryMut::Vacant(_) => None,
        };
        if !self.room.take(replaced.map(|row| row.weight), weight) {
            return Ok(None);
        }
        self.version += SHARDS;
        let (id, version) = (replaced.map_or(self.version, |row| row.id), self.version);
        let (value, deadline) = (mem::take(value), deadline(options.expiry, now));
        let row = Row { id, value, version, deadline, used: now, weight };
        let written = Written::at(row.version());
        let replaced = match entry {
            RawEntryMut::Occupied(mut entry) => Some(entry.replace_value(row)),
            RawEntryMut::Vacant(entry) => {
                self.keys.insert(id, key.clone());
                entry.insert(key.clone(), row);
                None
            }
        };
        Ok(Some((written, replaced)))
    }

    /// Deletes an entry; returns whether there was one, and the row that is removed.
    #[inline]
    pub(crate) fn delete(&mut self, key: &Key, condition: &Condition) -> Result<(bool, Option<Row>)> {
        let existed = self.check(key, condition, Instant::now())?;
        let removed = self.rows.remove(key).inspect(|row| self.removed(row));
        Ok((existed, removed))
    }

    pub(crate) fn touch(&mut self, key: &Key, expiry: Expiry, condition: &Condition) -> Result<bool> {
        let now = Instant::now();
        self.check(key, condition, now)?;
        Ok(self.used(key, now).map(|row| row.deadline = deadline(expiry, now)).is_some())
    }

    /// Removes the live entries that begin with `prefix`, and returns how many there were.
    pub(crate) fn clear(&mut self, prefix: &str) -> u64 {
        self.purge(Instant::now());
        self.remove_if(|key, _| key.as_str().starts_with(prefix))
    }

    /// Removes all entries and gives back the memory of the map. A listing that is under way finds no more
    /// keys.
    pub(crate) fn release(&mut self) {
        self.room.give_back(self.rows.len() as u64, self.rows.values().map(|row| row.weight).sum());
        *self = Self::new(self.version, &self.room);
    }

    /// Evicts the least recently used entry, if it was used then.
    fn evict(&mut self, used: Instant) {
        let is_it = self.rows.front().is_some_and(|(_, row)| row.used == used);
        if is_it && let Some((_, row)) = self.rows.pop_front() {
            self.removed(&row);
        }
    }

    /// What is left to do once a row has been removed.
    fn removed(&mut self, row: &Row) {
        self.keys.remove(&row.id);
        self.room.give_back(1, row.weight);
    }

    fn remove_if(&mut self, gone: impl Fn(&Key, &Row) -> bool) -> u64 {
        let (mut entries, mut bytes) = (0, 0);
        self.rows.retain(|key, row| {
            let gone = gone(key, row);
            if gone {
                self.keys.remove(&row.id);
                (entries, bytes) = (entries + 1, bytes + row.weight);
            }
            !gone
        });
        self.room.give_back(entries, bytes);
        entries
    }

    fn purge(&mut self, now: Instant) -> u64 {
        self.remove_if(|_, row| !row.is_live(now))
    }
}

impl Row {
    fn is_live(&self, now: Instant) -> bool {
        self.deadline.is_none_or(|deadline| now < deadline)
    }

    fn version(&self) -> Version {
        Version::from_token(self.version)
    }

    #[inline]
    fn record(&self, value: bool, ttl: bool, now: Instant) -> Record {
        let value = if value { self.value.clone() } else { Bytes::new() };
        let mut record = Record::at(value, self.version());
        if ttl {
            record.expiry = Some(self.deadline.map(|deadline| deadline.duration_since(now)).into());
        }
        record
    }
}

/// What an entry counts towards `max_bytes`.
fn weight(key: &Key, value: &Bytes) -> u64 {
    (key.as_bytes().len() + value.len()) as u64 + ENTRY_OVERHEAD
}

fn deadline(expiry: Expiry, now: Instant) -> Option<Instant> {
    expiry.as_millis().and_then(|millis| now.checked_add(Duration::from_millis(millis)))
}

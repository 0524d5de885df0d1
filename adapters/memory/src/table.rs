//! The entries, in maps with separate locks.

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

/// The number of maps: a power of two.
const SHARDS: u64 = 64;

/// The number of maps with eviction, which looks at the least recently used entry of each map.
const EVICTING_SHARDS: u64 = 8;

/// The number of keys that a listing looks at under one lock.
pub(crate) const PAGE: usize = 256;

/// All entries. Methods wait for locks only. A lock is held for one operation on one map.
pub(crate) struct Table {
    pub(crate) shards: Box<[RwLock<Shard>]>,
    /// Chooses the map of a key. The maps themselves use another hasher, which is slower and resists deliberate
    /// collisions.
    hasher: DefaultHashBuilder,
    pub(crate) room: Arc<Room>,
    pub(crate) sweeper: Sweeper,
}

pub(crate) struct Shard {
    /// With eviction, in the order of use: the least recently used row is the first.
    pub(crate) rows: LinkedHashMap<Key, Row, RandomState>,
    /// The keys by the [ids](Row::id) of their rows, for listings. A row keeps its id while the entry exists, so a
    /// listing can continue after an id.
    keys: BTreeMap<u64, Key>,
    /// The version of the last write. Each map starts at its own number and adds [`SHARDS`] each time, so no two
    /// entries have the same version.
    version: u64,
    room: Arc<Room>,
}

pub(crate) struct Row {
    /// The version of the first write of the entry.
    id: u64,
    value: Bytes,
    version: u64,
    /// On the monotonic clock: changing the system time does not make entries expire.
    deadline: Option<Instant>,
    /// The time of the last read or write, if entries are evicted.
    used: Instant,
    /// The number of bytes that the entry adds to `max_bytes`.
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

    /// Returns the map of the key. Starts the sweeper if this is the first operation inside a runtime.
    #[inline]
    pub(crate) fn shard(&self, key: &Key) -> &RwLock<Shard> {
        self.sweeper.ensure_running();
        let hash = (self.hasher.hash_one(key) >> 32) as usize;
        &self.shards[hash & (self.shards.len() - 1)]
    }

    /// Writes an entry. If it does not fit, evicts other entries; without eviction, removes expired entries and tries
    /// once more.
    pub(crate) fn write(&self, key: &Key, mut value: Bytes, options: &WriteOptions) -> Result<Written> {
        let limits = &self.room.limits;
        let mut purged = false;
        loop {
            // The lock is released before the replaced row frees its memory.
            let written = self.shard(key).write().write(key, &mut value, options)?;
            if let Some((written, _replaced)) = written {
                return Ok(written);
            }
            if purged || !limits.allows(1, weight(key, &value)) {
                let message = "the storage is full: delete entries, or raise `max_entries` or `max_bytes`";
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

    /// Evicts the least recently used entry, unless another task has used it in the meantime.
    fn evict(&self) {
        let oldest = |shard: &RwLock<Shard>| shard.read().rows.front().map(|(_, row)| row.used);
        let shards = self.shards.iter().filter_map(|shard| Some((oldest(shard)?, shard)));
        if let Some((used, shard)) = shards.min_by_key(|(used, _)| *used) {
            shard.write().evict(used);
        }
    }

    /// Removes the expired entries. Returns their number.
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

    /// Returns the entry and records that it was used now.
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

    /// Reads without recording a use or touching the entry.
    #[inline]
    pub(crate) fn peek(&self, key: &Key, value: bool, ttl: bool) -> Option<Record> {
        let now = Instant::now();
        self.live(key, now).map(|row| row.record(value, ttl, now))
    }

    /// Reads, records a use, and touches the entry if the options ask for it.
    pub(crate) fn read(&mut self, key: &Key, options: &ReadOptions) -> Option<Record> {
        let now = Instant::now();
        let row = self.used(key, now)?;
        if let Some(expiry) = options.touch {
            row.deadline = deadline(expiry, now);
        }
        Some(row.record(options.value, options.ttl, now))
    }

    /// Returns up to `count` keys that begin with `prefix`, starting at the id `from`, and the id to continue from
    /// (`None` at the end).
    pub(crate) fn page(&self, prefix: &str, from: u64, count: usize) -> (Vec<Key>, Option<u64>) {
        let mut next = None;
        let looked_at = self.keys.range(from..).take(PAGE).inspect(|(id, _)| next = Some(*id + 1));
        let keys = looked_at.map(|(_, key)| key).filter(|key| key.as_str().starts_with(prefix));
        (keys.take(count).cloned().collect(), next)
    }

    /// Returns whether the entry exists, or an error if the condition does not hold.
    fn check(&self, key: &Key, condition: &Condition, now: Instant) -> Result<bool> {
        let current = self.live(key, now).map(Row::version);
        condition.check(current.as_ref()).map(|()| current.is_some())
    }

    /// Writes an entry and takes its value, or returns `None` if it does not fit. Also returns the replaced row, so
    /// that the caller frees its memory after releasing the lock.
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
                    // Moved to the back so that this write does not evict the entry itself: that would change its id,
                    // and a listing could miss it.
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

    /// Deletes an entry. Returns whether it existed, and the removed row.
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

    /// Removes the live entries whose keys begin with `prefix`. Returns their number.
    pub(crate) fn clear(&mut self, prefix: &str) -> u64 {
        self.purge(Instant::now());
        self.remove_if(|key, _| key.as_str().starts_with(prefix))
    }

    /// Removes all entries and frees the memory of the map. A running listing then ends without further keys.
    pub(crate) fn release(&mut self) {
        self.room.give_back(self.rows.len() as u64, self.rows.values().map(|row| row.weight).sum());
        *self = Self::new(self.version, &self.room);
    }

    /// Evicts the least recently used entry if its last use was at `used`.
    fn evict(&mut self, used: Instant) {
        let is_it = self.rows.front().is_some_and(|(_, row)| row.used == used);
        if is_it && let Some((_, row)) = self.rows.pop_front() {
            self.removed(&row);
        }
    }

    /// Updates the listing order and the space in use after a row has been removed.
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

/// Returns the number of bytes that an entry adds to `max_bytes`.
fn weight(key: &Key, value: &Bytes) -> u64 {
    (key.as_bytes().len() + value.len()) as u64 + ENTRY_OVERHEAD
}

fn deadline(expiry: Expiry, now: Instant) -> Option<Instant> {
    expiry.as_millis().and_then(|millis| now.checked_add(Duration::from_millis(millis)))
}

//! The entries, in maps that are locked one by one.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use hashlink::LinkedHashMap;
use larder_core::{
    Bytes, Condition, Error, ErrorKind, Expiry, Key, ReadOptions, Record, Result, Version, WriteOptions,
    Written,
};
use larder_kit::{Configure, Sweeper};
use parking_lot::RwLock;

use crate::config::{Config, ENTRY_OVERHEAD, WhenFull};

/// How many maps there are, if there are no bounds: a power of two.
const SHARDS: u64 = 64;

/// How many keys a listing looks at under the lock of a map.
pub(crate) const PAGE: usize = 256;

/// All entries. No method waits for anything but a lock, which is held for one operation on one map.
pub(crate) struct Table {
    /// 64, or one if there are bounds, so that they hold for all entries together.
    pub(crate) shards: Box<[RwLock<Shard>]>,
    hasher: RandomState,
    pub(crate) limits: Config,
    pub(crate) sweeper: Sweeper,
}

#[derive(Default)]
pub(crate) struct Shard {
    /// In the order of use, the least recently used first.
    pub(crate) rows: LinkedHashMap<Key, Row, RandomState>,
    /// The keys by the [IDs](Row::id) of their rows, for listings. An entry keeps its place for as long as
    /// it stays, so a listing can go on from where it was.
    keys: BTreeMap<u64, Key>,
    /// What the rows count towards `max_bytes`.
    bytes: u64,
    /// The version that was given last. Each map counts in steps of its own, so that two entries never
    /// have the same version.
    version: u64,
}

pub(crate) struct Row {
    /// The first version under the key.
    id: u64,
    value: Bytes,
    version: u64,
    /// On the monotonic clock: setting the time of day does not make entries expire.
    deadline: Option<Instant>,
    /// What the entry counts towards `max_bytes`.
    weight: u64,
}

impl Table {
    pub(crate) fn new(limits: Config) -> Arc<Self> {
        let shards = if limits.is_bounded() { 1 } else { SHARDS };
        let shard = |version| RwLock::new(Shard { version, ..Shard::default() });
        let shards = (0..shards).map(shard).collect();
        let purge = |table: Arc<Self>| async move { Ok(table.purge()) };
        Arc::new_cyclic(|table| {
            let sweeper = Sweeper::start(Config::ADAPTER, table.clone(), limits.sweep, purge);
            Self { shards, hasher: RandomState::new(), limits, sweeper }
        })
    }

    /// The map of the key. The sweeper starts with the first operation within a runtime.
    #[inline]
    pub(crate) fn shard(&self, key: &Key) -> &RwLock<Shard> {
        self.sweeper.ensure_running();
        // The maps themselves use the lowest and the topmost bits of the hash.
        let hash = (self.hasher.hash_one(key) >> 32) as usize;
        &self.shards[hash & (self.shards.len() - 1)]
    }

    /// Removes the expired entries, and returns how many there were.
    pub(crate) fn purge(&self) -> u64 {
        self.shards.iter().map(|shard| shard.write().purge(Instant::now())).sum()
    }
}

impl Shard {
    #[inline]
    fn live(&self, key: &Key, now: Instant) -> Option<&Row> {
        self.rows.get(key).filter(|row| row.is_live(now))
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
        self.live(key, now)?;
        let row = self.rows.to_back(key)?;
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

    /// Writes an entry; returns the row that it replaces, too, whose memory the caller gives back.
    #[inline]
    pub(crate) fn write(
        &mut self,
        key: &Key,
        value: Bytes,
        options: &WriteOptions,
        limits: &Config,
    ) -> Result<(Written, Option<Row>)> {
        let now = Instant::now();
        if options.condition != Condition::Any {
            self.check(key, &options.condition, now)?;
        }
        let weight = (key.as_bytes().len() + value.len()) as u64 + ENTRY_OVERHEAD;
        if limits.is_bounded() {
            self.make_room(limits, key, weight, now)?;
        }
        self.version += SHARDS;
        let (mut id, version) = (self.version, self.version);
        self.bytes += weight;
        match self.rows.get(key) {
            Some(replaced) => {
                id = replaced.id;
                self.bytes -= replaced.weight;
            }
            None => drop(self.keys.insert(id, key.clone())),
        }
        let row = Row { id, value, version, deadline: deadline(options.expiry, now), weight };
        Ok((Written::at(row.version()), self.rows.insert(key.clone(), row)))
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
        let existed = self.check(key, condition, now)?;
        if existed && let Some(row) = self.rows.to_back(key) {
            row.deadline = deadline(expiry, now);
        }
        Ok(existed)
    }

    /// Removes the live entries that begin with `prefix`, and returns how many there were.
    pub(crate) fn clear(&mut self, prefix: &str) -> u64 {
        self.purge(Instant::now());
        self.remove_if(|key, _| key.as_str().starts_with(prefix))
    }

    /// Removes all entries and gives back the memory of the map. A listing that is under way finds no more
    /// keys.
    pub(crate) fn release(&mut self) {
        *self = Self { version: self.version, ..Self::default() };
    }

    /// What is left to do once a row has been removed.
    fn removed(&mut self, row: &Row) {
        self.keys.remove(&row.id);
        self.bytes -= row.weight;
    }

    fn remove_if(&mut self, gone: impl Fn(&Key, &Row) -> bool) -> u64 {
        let before = self.rows.len();
        let Self { rows, keys, bytes, .. } = self;
        rows.retain(|key, row| {
            let gone = gone(key, row);
            if gone {
                keys.remove(&row.id);
                *bytes -= row.weight;
            }
            !gone
        });
        (before - self.rows.len()) as u64
    }

    fn purge(&mut self, now: Instant) -> u64 {
        self.remove_if(|_, row| !row.is_live(now))
    }

    /// Makes the room that the entry needs, or refuses it. Expired entries are removed before an entry is
    /// refused.
    fn make_room(&mut self, limits: &Config, key: &Key, weight: u64, now: Instant) -> Result<()> {
        if limits.when_full == WhenFull::Evict {
            // Not itself: it would lose its place in a listing.
            self.rows.to_back(key);
        }
        loop {
            let replaced = self.rows.get(key);
            let entries = self.rows.len() as u64 + u64::from(replaced.is_none());
            let bytes = self.bytes + weight - replaced.map_or(0, |row| row.weight);
            if limits.allows(entries, bytes) {
                return Ok(());
            }
            let made = match limits.when_full {
                WhenFull::Refuse => self.purge(now) > 0,
                // The least recently used.
                WhenFull::Evict => self.rows.pop_front().map(|(_, row)| self.removed(&row)).is_some(),
            };
            if !made {
                let message =
                    "there is no room for the entry; delete others, or raise `max_entries` or `max_bytes`";
                return Err(Error::new(ErrorKind::StorageFull, message).not_applied());
            }
        }
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

fn deadline(expiry: Expiry, now: Instant) -> Option<Instant> {
    expiry.as_millis().and_then(|millis| now.checked_add(Duration::from_millis(millis)))
}

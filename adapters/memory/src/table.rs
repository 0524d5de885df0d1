//! The entries, in maps that are locked one by one.

use std::{
    collections::BTreeMap,
    fmt,
    hash::{BuildHasher, RandomState},
    iter,
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use hashlink::LinkedHashMap;
use larder_core::{
    Bytes, Condition, Entry, Error, ErrorKind, Expiry, Key, ListOptions, ReadOptions, Record, Result,
    Version, Written,
};
use parking_lot::RwLock;

use crate::config::{ENTRY_OVERHEAD, MemoryBuilder, WhenFull};

/// How many maps there are, if there are no bounds: a power of two.
const SHARDS: u64 = 64;

/// How many keys a listing looks at under the lock of a map.
const PAGE: usize = 256;

/// All entries. No method waits for anything but a lock, which is held for one operation on one map.
pub(crate) struct Table {
    /// 64, or one if there are bounds, so that they hold for all entries together.
    shards: Box<[RwLock<Shard>]>,
    hasher: RandomState,
    pub(crate) limits: MemoryBuilder,
}

#[derive(Default)]
struct Shard {
    /// In the order of use, the least recently used first.
    rows: LinkedHashMap<Key, Row, RandomState>,
    /// The keys by the [IDs](Row::id) of their rows, for listings. An entry keeps its place for as long as
    /// it stays, so a listing can go on from where it was.
    keys: BTreeMap<u64, Key>,
    /// What the rows count towards `max_bytes`.
    bytes: u64,
    /// The version that was given last. Each map counts in steps of its own, so that two entries never
    /// have the same version.
    version: u64,
}

struct Row {
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
    pub(crate) fn new(limits: MemoryBuilder) -> Self {
        let shards = if limits.is_bounded() { 1 } else { SHARDS };
        let shard = |version| RwLock::new(Shard { version, ..Shard::default() });
        Self { shards: (0..shards).map(shard).collect(), hasher: RandomState::new(), limits }
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().rows.len()).sum()
    }

    fn shard(&self, key: &Key) -> &RwLock<Shard> {
        // The maps themselves use the lowest and the topmost bits of the hash.
        let hash = (self.hasher.hash_one(key) >> 32) as usize;
        &self.shards[hash & (self.shards.len() - 1)]
    }

    pub(crate) fn read(&self, key: &Key, options: &ReadOptions) -> Option<Record> {
        let is_use = options.value && self.limits.evicts();
        if !is_use && options.touch.is_none() {
            return self.peek(key, options);
        }
        let mut shard = self.shard(key).write();
        let now = Instant::now();
        shard.live(key, now)?;
        let row = shard.rows.to_back(key)?;
        if let Some(expiry) = options.touch {
            row.deadline = deadline(expiry, now);
        }
        Some(row.record(options, now))
    }

    /// Reads without counting it as a use.
    fn peek(&self, key: &Key, options: &ReadOptions) -> Option<Record> {
        let shard = self.shard(key).read();
        let now = Instant::now();
        shard.live(key, now).map(|row| row.record(options, now))
    }

    pub(crate) fn write(
        &self,
        key: &Key,
        value: &[u8],
        expiry: Expiry,
        condition: &Condition,
    ) -> Result<Written> {
        // A copy, made without the lock: `value` may be a slice of a larger buffer, which would be kept
        // alive with it.
        let value = Bytes::copy_from_slice(value);
        let mut shard = self.shard(key).write();
        let now = Instant::now();
        if *condition != Condition::Any {
            shard.check(key, condition, now)?;
        }
        shard.version += SHARDS;
        let (id, version) = (shard.version, shard.version);
        let weight = (key.as_bytes().len() + value.len()) as u64 + ENTRY_OVERHEAD;
        let row = Row { id, value, version, deadline: deadline(expiry, now), weight };
        if self.limits.is_bounded() {
            shard.make_room(&self.limits, key, &row, now)?;
        }
        let written = Written::at(row.version());
        let replaced = shard.insert(key, row);
        // In this order, so that the memory is given back without the lock.
        drop(shard);
        drop(replaced);
        Ok(written)
    }

    pub(crate) fn delete(&self, key: &Key, condition: &Condition) -> Result<bool> {
        let mut shard = self.shard(key).write();
        let existed = shard.check(key, condition, Instant::now())?;
        let removed = shard.rows.remove(key).inspect(|row| shard.removed(row));
        drop(shard);
        drop(removed);
        Ok(existed)
    }

    pub(crate) fn touch(&self, key: &Key, expiry: Expiry, condition: &Condition) -> Result<bool> {
        let mut shard = self.shard(key).write();
        let now = Instant::now();
        let existed = shard.check(key, condition, now)?;
        if existed && let Some(row) = shard.rows.to_back(key) {
            row.deadline = deadline(expiry, now);
        }
        Ok(existed)
    }

    /// The entries, in no order. It takes a page of keys at a time, and looks up each of them once it is
    /// asked for.
    pub(crate) fn list(self: Arc<Self>, options: ListOptions) -> impl Iterator<Item = Entry> + Send {
        let read =
            if options.values { ReadOptions::new().with_ttl() } else { ReadOptions::new().without_value() };
        let table = Arc::clone(&self);
        let page = options.page(PAGE);
        let (mut shard, mut last) = (0, 0);
        let pages = iter::from_fn(move || {
            loop {
                let keys = table.shards.get(shard)?.read().page(&options.prefix, &mut last, page);
                if keys.is_some() {
                    return keys;
                }
                (shard, last) = (shard + 1, 0);
            }
        });
        pages.flatten().filter_map(move |key| {
            let record = self.peek(&key, &read)?;
            Some(if read.value { Entry::new(key, record) } else { Entry::key(key) })
        })
    }

    /// Removes the live entries that begin with `prefix`, and returns how many there were.
    pub(crate) fn clear(&self, prefix: &str) -> u64 {
        let clear = |shard: &RwLock<Shard>| {
            let mut shard = shard.write();
            shard.purge(Instant::now());
            shard.remove_if(|key, _| key.as_str().starts_with(prefix))
        };
        self.shards.iter().map(clear).sum()
    }

    /// Removes the expired entries, and returns how many there were.
    pub(crate) fn purge(&self) -> u64 {
        self.shards.iter().map(|shard| shard.write().purge(Instant::now())).sum()
    }

    /// Removes all entries and gives back the memory of the maps.
    pub(crate) fn release(&self) {
        for shard in &self.shards {
            let mut shard = shard.write();
            // A listing that is under way finds no more keys.
            *shard = Shard { version: shard.version, ..Shard::default() };
        }
    }
}

impl Shard {
    fn live(&self, key: &Key, now: Instant) -> Option<&Row> {
        self.rows.get(key).filter(|row| row.is_live(now))
    }

    /// Up to `count` keys that begin with `prefix`, after the ID `last`; `None` at the end.
    fn page(&self, prefix: &str, last: &mut u64, count: usize) -> Option<Vec<Key>> {
        let after = (Bound::Excluded(*last), Bound::Unbounded);
        let look = |(id, key): (&u64, _)| {
            *last = *id;
            key
        };
        let mut keys = self.keys.range(after).map(look).peekable();
        keys.peek()?;
        let begins = |key: &&Key| key.as_str().starts_with(prefix);
        Some(keys.take(PAGE).filter(begins).take(count).cloned().collect())
    }

    /// Whether there is an entry; an error if the condition does not hold.
    fn check(&self, key: &Key, condition: &Condition, now: Instant) -> Result<bool> {
        let current = self.live(key, now).map(Row::version);
        if condition.holds(current.as_ref()) { Ok(current.is_some()) } else { Err(Error::conflict()) }
    }

    fn insert(&mut self, key: &Key, mut row: Row) -> Option<Row> {
        self.bytes += row.weight;
        match self.rows.get(key) {
            Some(replaced) => {
                row.id = replaced.id;
                self.bytes -= replaced.weight;
            }
            None => drop(self.keys.insert(row.id, key.clone())),
        }
        self.rows.insert(key.clone(), row)
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
    fn make_room(&mut self, limits: &MemoryBuilder, key: &Key, row: &Row, now: Instant) -> Result<()> {
        if limits.when_full == WhenFull::Evict {
            // Not itself: it would lose its place in a listing.
            self.rows.to_back(key);
        }
        loop {
            let replaced = self.rows.get(key);
            let entries = self.rows.len() as u64 + u64::from(replaced.is_none());
            let bytes = self.bytes + row.weight - replaced.map_or(0, |row| row.weight);
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

    fn record(&self, options: &ReadOptions, now: Instant) -> Record {
        let value = if options.value { self.value.clone() } else { Bytes::new() };
        let record = Record::at(value, self.version());
        if !options.ttl {
            return record;
        }
        record.expires(self.deadline.map(|deadline| deadline.duration_since(now)).into())
    }
}

fn deadline(expiry: Expiry, now: Instant) -> Option<Instant> {
    expiry.as_millis().and_then(|millis| now.checked_add(Duration::from_millis(millis)))
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("limits", &self.limits).finish_non_exhaustive()
    }
}

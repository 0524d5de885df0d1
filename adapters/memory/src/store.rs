//! The entries, spread over maps that are locked one by one.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use hashlink::LinkedHashMap;
use larder_core::{
    Condition, Error, ErrorKind, Expiry, Key, Operation, Record, Result, Storage, Version, async_trait,
};
use parking_lot::RwLock;

use crate::{
    config::MemoryBuilder,
    limits::{Limits, Weight},
    storage::NAME,
};

/// How many maps there are. More than that many cores are rare, and a listing copies the keys of
/// one map at a time.
pub(crate) const SHARDS: usize = 64;

/// One entry's value and state.
pub(crate) struct Slot {
    value: Bytes,
    version: u64,
    /// Since the store was made; `None`: never.
    pub(crate) deadline: Option<Duration>,
    /// The tick of the last use; kept only where entries are evicted.
    used: u64,
}

impl Slot {
    pub(crate) fn is_live(&self, now: Duration) -> bool {
        self.deadline.is_none_or(|deadline| now < deadline)
    }

    fn record(&self) -> Record {
        Record::at(self.value.clone(), Version::from_token(self.version))
    }

    pub(crate) fn left(&self, now: Duration) -> Expiry {
        self.deadline.map_or(Expiry::Never, |deadline| Expiry::After(deadline.saturating_sub(now)))
    }
}

/// In order of use where entries are evicted, the least recently used first.
pub(crate) type Entries = LinkedHashMap<Key, Slot, RandomState>;

struct Shard {
    entries: RwLock<Entries>,
    /// The tick at which the first entry was last used; `u64::MAX` if there is none.
    oldest: AtomicU64,
}

/// All entries.
pub(crate) struct Store {
    shards: Box<[Shard]>,
    hasher: RandomState,
    limits: Limits,
    /// Where deadlines are counted from.
    origin: Instant,
    /// Numbers versions and uses.
    ticks: AtomicU64,
    closed: AtomicBool,
}

impl Store {
    pub(crate) fn new(builder: &MemoryBuilder) -> Self {
        let hasher = RandomState::new();
        let shard = || Shard {
            entries: RwLock::new(Entries::with_hasher(hasher.clone())),
            oldest: AtomicU64::new(u64::MAX),
        };
        Self {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher,
            limits: Limits::new(builder),
            origin: Instant::now(),
            ticks: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn max_value(&self) -> Option<u64> {
        self.limits.max_value()
    }

    pub(crate) fn check_open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            Err(Error::closed().with_adapter(NAME).with_operation(operation))
        } else {
            Ok(())
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    fn tick(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    fn shard(&self, key: &Key) -> &Shard {
        // The maps themselves use the lowest and the topmost bits of the hash.
        let index = (self.hasher.hash_one(key) >> 32) as usize % SHARDS;
        &self.shards[index]
    }

    /// Looks at the entry under `key`, if it is live. `uses` says whether that counts as use.
    pub(crate) fn look<T>(&self, key: &Key, uses: bool, see: impl FnOnce(&Slot, Duration) -> T) -> Option<T> {
        let shard = self.shard(key);
        if !uses || !self.limits.evicts() {
            let entries = shard.entries.read();
            let now = self.now();
            return entries.get(key).filter(|slot| slot.is_live(now)).map(|slot| see(slot, now));
        }
        let mut entries = shard.entries.write();
        let now = self.now();
        entries.get(key).filter(|slot| slot.is_live(now))?;
        let slot = entries.to_back(key)?;
        slot.used = self.tick();
        let seen = see(slot, now);
        self.note_oldest(shard, &entries);
        Some(seen)
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Record> {
        self.look(key, true, |slot, _| slot.record())
    }

    pub(crate) fn get_with_expiry(&self, key: &Key) -> Option<(Record, Expiry)> {
        self.look(key, false, |slot, now| (slot.record(), slot.left(now)))
    }

    /// Stores a copy of `value`, if `condition` holds; returns the new version.
    pub(crate) fn put(
        &self,
        key: &Key,
        value: &[u8],
        expiry: Expiry,
        condition: Option<&Condition>,
        operation: Operation,
    ) -> Result<Version> {
        if self.max_value().is_some_and(|most| u64::try_from(value.len()).unwrap_or(u64::MAX) > most) {
            return Err(refusal(
                ErrorKind::TooLarge,
                "the value is larger than `max_bytes` has room for",
                operation,
            ));
        }
        // A copy of our own, made before the lock is taken: the caller's bytes may be a slice of
        // something larger, which would stay in memory with it.
        let value = Bytes::copy_from_slice(value);
        let weight = Weight::of(key, &value);
        if let Some(version) = self.try_put(key, &value, weight, expiry, condition, operation)? {
            return Ok(version);
        }
        // No room. What has expired has no right to it.
        self.purge();
        self.try_put(key, &value, weight, expiry, condition, operation)?.ok_or_else(|| {
            let message =
                "there is no room for the entry: delete some, or raise `max_entries` or `max_bytes`";
            refusal(ErrorKind::StorageFull, message, operation)
        })
    }

    /// The same; `None` if there is no room.
    fn try_put(
        &self,
        key: &Key,
        value: &Bytes,
        weight: Weight,
        expiry: Expiry,
        condition: Option<&Condition>,
        operation: Operation,
    ) -> Result<Option<Version>> {
        let shard = self.shard(key);
        let mut entries = shard.entries.write();
        let now = self.now();
        let found = entries.get(key);
        let live = found.filter(|slot| slot.is_live(now));
        if !condition.is_none_or(|condition| holds(condition, live)) {
            return Err(Error::conflict().with_adapter(NAME).with_operation(operation));
        }
        let version = self.tick();
        let deadline = expiry.as_millis().map(|millis| now.saturating_add(Duration::from_millis(millis)));
        // Freed once the lock is released.
        let old = if deadline.is_some_and(|deadline| deadline <= now) {
            self.take(&mut entries, key)
        } else {
            let replaced = found.map_or_else(Weight::default, |slot| Weight::of(key, &slot.value));
            if !self.limits.exchange(replaced, weight) {
                return Ok(None);
            }
            let slot = Slot { value: value.clone(), version, deadline, used: version };
            entries.insert(key.clone(), slot)
        };
        self.note_oldest(shard, &entries);
        drop(entries);
        drop(old);
        self.evict();
        Ok(Some(Version::from_token(version)))
    }

    /// Removes the entry under `key`, if `condition` holds; returns whether there was one.
    pub(crate) fn remove(&self, key: &Key, version: Option<&Version>, operation: Operation) -> Result<bool> {
        let shard = self.shard(key);
        let mut entries = shard.entries.write();
        let now = self.now();
        let live = entries.get(key).filter(|slot| slot.is_live(now));
        let there = live.is_some();
        let other = |version: &Version| live.is_none_or(|slot| version.as_token() != Some(slot.version));
        if version.is_some_and(other) {
            return Err(Error::conflict().with_adapter(NAME).with_operation(operation));
        }
        let old = self.take(&mut entries, key);
        self.note_oldest(shard, &entries);
        drop(entries);
        drop(old);
        Ok(there)
    }

    /// Gives the entry a new deadline; whether there was one.
    pub(crate) fn touch(&self, key: &Key, expiry: Expiry) -> bool {
        let shard = self.shard(key);
        let mut entries = shard.entries.write();
        let now = self.now();
        if !entries.get(key).is_some_and(|slot| slot.is_live(now)) {
            return false;
        }
        if expiry.is_elapsed() {
            let old = self.take(&mut entries, key);
            self.note_oldest(shard, &entries);
            drop(entries);
            drop(old);
            return true;
        }
        if let Some(slot) = entries.to_back(key) {
            slot.deadline =
                expiry.as_millis().map(|millis| now.saturating_add(Duration::from_millis(millis)));
            slot.used = self.tick();
        }
        self.note_oldest(shard, &entries);
        true
    }

    fn take(&self, entries: &mut Entries, key: &Key) -> Option<Slot> {
        let slot = entries.remove(key)?;
        self.limits.release(Weight::of(key, &slot.value));
        Some(slot)
    }

    /// Removes the entries of a shard that `gone` names; how many of them were live, and how many
    /// expired.
    fn sift(&self, shard: &Shard, mut gone: impl FnMut(&Key, &Slot, Duration) -> bool) -> (u64, u64) {
        let mut entries = shard.entries.write();
        let now = self.now();
        let (mut live, mut expired) = (0, 0);
        entries.retain(|key, slot| {
            if !gone(key, slot, now) {
                return true;
            }
            *(if slot.is_live(now) { &mut live } else { &mut expired }) += 1;
            self.limits.release(Weight::of(key, &slot.value));
            false
        });
        self.note_oldest(shard, &entries);
        (live, expired)
    }

    /// Removes what begins with `prefix`; how many live entries there were.
    pub(crate) fn clear(&self, prefix: &str) -> u64 {
        let begins = |key: &Key, _: &Slot, _| key.as_str().starts_with(prefix);
        self.shards.iter().map(|shard| self.sift(shard, begins).0).sum()
    }

    /// Removes what has expired; how many entries.
    pub(crate) fn purge(&self) -> u64 {
        let expired = |_: &Key, slot: &Slot, now| !slot.is_live(now);
        self.shards.iter().map(|shard| self.sift(shard, expired).1).sum()
    }

    /// Removes everything and refuses whatever comes.
    pub(crate) fn shut(&self) {
        self.closed.store(true, Ordering::Release);
        for shard in &self.shards {
            let entries =
                std::mem::replace(&mut *shard.entries.write(), Entries::with_hasher(self.hasher.clone()));
            drop(entries);
        }
    }

    /// The live keys of shard `index` that begin with `prefix`, each with its deadline.
    pub(crate) fn keys_of(&self, index: usize, prefix: &str) -> Option<Vec<(Key, Option<Duration>)>> {
        let entries = self.shards.get(index)?.entries.read();
        let now = self.now();
        let found =
            entries.iter().filter(|(key, slot)| key.as_str().starts_with(prefix) && slot.is_live(now));
        Some(found.map(|(key, slot)| (key.clone(), slot.deadline)).collect())
    }

    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.entries.read().len()).sum()
    }

    fn note_oldest(&self, shard: &Shard, entries: &Entries) {
        if self.limits.evicts() {
            let oldest = entries.front().map_or(u64::MAX, |(_, slot)| slot.used);
            shard.oldest.store(oldest, Ordering::Release);
        }
    }

    /// Removes what was not used for the longest time, over all shards, until the bounds hold. The
    /// caller holds no lock.
    fn evict(&self) {
        while self.limits.evicts() && self.limits.exceeded() {
            let oldest = self.shards.iter().min_by_key(|shard| shard.oldest.load(Ordering::Acquire));
            let Some(shard) = oldest else { return };
            let mut entries = shard.entries.write();
            let evicted = entries.pop_front();
            if let Some((key, slot)) = &evicted {
                self.limits.release(Weight::of(key, &slot.value));
            }
            self.note_oldest(shard, &entries);
            drop(entries);
            if evicted.is_none() && self.shards.iter().all(|shard| shard.entries.read().is_empty()) {
                return;
            }
        }
    }
}

fn holds(condition: &Condition, live: Option<&Slot>) -> bool {
    match condition {
        Condition::Absent => live.is_none(),
        Condition::At(version) => live.is_some_and(|slot| version.as_token() == Some(slot.version)),
    }
}

fn refusal(kind: ErrorKind, message: &'static str, operation: Operation) -> Error {
    Error::new(kind, message).with_adapter(NAME).with_operation(operation)
}

/// What the sweeper needs, which holds the store and not a handle on it.
#[async_trait]
impl Storage for Store {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.check_open(Operation::Read)?;
        Ok(self.get(key))
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.check_open(Operation::Write)?;
        self.put(key, &value, expiry, None, Operation::Write).map(drop)
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.check_open(Operation::Delete)?;
        self.remove(key, None, Operation::Delete)
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.check_open(Operation::PurgeExpired)?;
        Ok(self.purge())
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("limits", &self.limits)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

//! Entries that go too early, too late, or not at all.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::{Duration, Instant},
};

use larder_core::{
    Bytes, Capabilities, Condition, Entry, EntryStream, Expiry, Key, Record, Result, Storage, Version, Write,
    async_trait,
};
use larder_memory::MemoryStorage;

use crate::{Fault, fault, twist::Twist};

/// A time to live goes through a function first.
struct Lives(fn(Duration) -> Expiry);

impl Lives {
    fn expiry(&self, expiry: Expiry) -> Expiry {
        match expiry {
            Expiry::After(ttl) => (self.0)(ttl),
            Expiry::Never => Expiry::Never,
        }
    }
}

#[async_trait]
impl Twist for Lives {
    async fn write(&self, inner: &MemoryStorage, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        inner.write(key, value, self.expiry(expiry)).await
    }

    async fn write_if(
        &self,
        inner: &MemoryStorage,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        inner.write_if(key, value, self.expiry(expiry), condition).await
    }

    async fn touch(&self, inner: &MemoryStorage, key: &Key, expiry: Expiry) -> Result<bool> {
        inner.touch(key, self.expiry(expiry)).await
    }

    async fn write_many(&self, inner: &MemoryStorage, writes: &[Write]) -> Result<()> {
        for write in writes {
            inner.write(&write.key, write.value.clone(), self.expiry(write.expiry)).await?;
        }
        Ok(())
    }
}

/// One time to live for all, also for those that should stay.
struct OneLifeForAll;

#[async_trait]
impl Twist for OneLifeForAll {
    async fn write(&self, inner: &MemoryStorage, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        let ttl = Expiry::after_millis(200);
        inner.write(key, value, if expiry == Expiry::Never { ttl } else { expiry }).await
    }
}

/// Only the first write says how long the entry lives.
struct FirstLifeStays;

#[async_trait]
impl Twist for FirstLifeStays {
    async fn write(&self, inner: &MemoryStorage, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        let left = inner.ttl(key).await?;
        inner.write(key, value, left.unwrap_or(expiry)).await
    }
}

/// A conflict prolongs the life of the entry that is there.
struct ConflictTouches;

#[async_trait]
impl Twist for ConflictTouches {
    async fn write_if(
        &self,
        inner: &MemoryStorage,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        inner.touch(key, expiry).await?;
        inner.write_if(key, value, expiry, condition).await
    }
}

/// Says how long the entry was given, not how long it has left.
struct TtlIsWhatWasGiven;

#[async_trait]
impl Twist for TtlIsWhatWasGiven {
    async fn ttl(&self, inner: &MemoryStorage, key: &Key) -> Result<Option<Expiry>> {
        Ok(inner.ttl(key).await?.map(|_| Expiry::after_secs(60)))
    }

    fn entries<'a>(&'a self, inner: &'a MemoryStorage, prefix: &'a str) -> EntryStream<'a> {
        use futures_util::{StreamExt, TryStreamExt};
        inner.entries(prefix).map_ok(|entry| Entry::new(entry.key, entry.record, Expiry::Never)).boxed()
    }
}

struct TouchRewrites;

#[async_trait]
impl Twist for TouchRewrites {
    async fn touch(&self, inner: &MemoryStorage, key: &Key, expiry: Expiry) -> Result<bool> {
        let Some(record) = inner.read(key).await? else { return Ok(false) };
        inner.write(key, record.value, expiry).await.map(|()| true)
    }
}

struct TouchCreates;

#[async_trait]
impl Twist for TouchCreates {
    async fn touch(&self, inner: &MemoryStorage, key: &Key, expiry: Expiry) -> Result<bool> {
        let value = inner.read(key).await?.map(|record| record.value).unwrap_or_default();
        inner.write(key, value, expiry).await.map(|()| true)
    }
}

struct TouchDoesNothing;

#[async_trait]
impl Twist for TouchDoesNothing {
    async fn touch(&self, inner: &MemoryStorage, key: &Key, _: Expiry) -> Result<bool> {
        inner.contains(key).await
    }
}

/// Takes a time to live, but does not claim to.
struct IgnoresLives;

#[async_trait]
impl Twist for IgnoresLives {
    fn capabilities(&self, _: &MemoryStorage) -> Capabilities {
        Capabilities::minimal()
    }

    async fn write(&self, inner: &MemoryStorage, key: &Key, value: Bytes, _: Expiry) -> Result<()> {
        inner.write(key, value, Expiry::Never).await
    }
}

/// Keeps its own deadlines, and looks at them in reads only.
#[derive(Default)]
struct OnlyReadsLook(Mutex<HashMap<Key, Instant>>);

impl OnlyReadsLook {
    fn note(&self, key: &Key, expiry: Expiry) {
        let mut deadlines = self.0.lock().unwrap();
        match expiry {
            Expiry::Never => drop(deadlines.remove(key)),
            Expiry::After(ttl) => drop(deadlines.insert(key.clone(), Instant::now() + ttl.min(Expiry::MAX))),
        }
    }

    fn left(&self, key: &Key) -> Option<Duration> {
        let deadlines = self.0.lock().unwrap();
        deadlines.get(key).map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

#[async_trait]
impl Twist for OnlyReadsLook {
    async fn read(&self, inner: &MemoryStorage, key: &Key) -> Result<Option<Record>> {
        if self.left(key) == Some(Duration::ZERO) { Ok(None) } else { inner.read(key).await }
    }

    async fn write(&self, inner: &MemoryStorage, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.note(key, expiry);
        inner.write(key, value, Expiry::Never).await
    }

    async fn write_if(
        &self,
        inner: &MemoryStorage,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        let version = inner.write_if(key, value, Expiry::Never, condition).await?;
        self.note(key, expiry);
        Ok(version)
    }

    async fn touch(&self, inner: &MemoryStorage, key: &Key, expiry: Expiry) -> Result<bool> {
        self.note(key, expiry);
        inner.contains(key).await
    }

    async fn ttl(&self, inner: &MemoryStorage, key: &Key) -> Result<Option<Expiry>> {
        Ok(inner.contains(key).await?.then(|| self.left(key).into()))
    }
}

/// Notices that an entry has expired once it has handed it out.
#[derive(Default)]
struct NoticesTooLate(Mutex<HashMap<Key, Record>>);

#[async_trait]
impl Twist for NoticesTooLate {
    async fn read(&self, inner: &MemoryStorage, key: &Key) -> Result<Option<Record>> {
        let record = inner.read(key).await?;
        let mut kept = self.0.lock().unwrap();
        if record.is_some() { Ok(record) } else { Ok(kept.remove(key)) }
    }

    async fn write(&self, inner: &MemoryStorage, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.0.lock().unwrap().insert(key.clone(), Record::new(value.clone()));
        inner.write(key, value, expiry).await
    }
}

/// Purges what was to expire once, though it was written anew.
#[derive(Default)]
struct PurgesByOldDeadlines(Mutex<HashSet<Key>>);

#[async_trait]
impl Twist for PurgesByOldDeadlines {
    async fn write(&self, inner: &MemoryStorage, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        if expiry != Expiry::Never {
            self.0.lock().unwrap().insert(key.clone());
        }
        inner.write(key, value, expiry).await
    }

    async fn purge_expired(&self, inner: &MemoryStorage) -> Result<u64> {
        let due: Vec<Key> = self.0.lock().unwrap().drain().collect();
        inner.delete_many(&due).await
    }
}

/// The change that leaves an entry's old deadline in the index that a purge goes by.
#[derive(PartialEq)]
enum Leaves {
    Touch,
    Write,
}

/// Purges by an index of deadlines that is not always brought up to date.
struct StaleIndex(Leaves, Mutex<Vec<(Instant, Key)>>);

impl StaleIndex {
    fn new(leaves: Leaves) -> Self {
        Self(leaves, Mutex::default())
    }

    fn note(&self, by: Leaves, key: &Key, expiry: Expiry) {
        let mut index = self.1.lock().unwrap();
        if self.0 != by {
            index.retain(|(_, other)| other != key);
        }
        if let Expiry::After(ttl) = expiry {
            index.push((Instant::now() + ttl.min(Expiry::MAX), key.clone()));
        }
    }
}

#[async_trait]
impl Twist for StaleIndex {
    async fn write(&self, inner: &MemoryStorage, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        inner.write(key, value, expiry).await?;
        self.note(Leaves::Write, key, expiry);
        Ok(())
    }

    async fn touch(&self, inner: &MemoryStorage, key: &Key, expiry: Expiry) -> Result<bool> {
        let touched = inner.touch(key, expiry).await?;
        self.note(Leaves::Touch, key, expiry);
        Ok(touched)
    }

    async fn purge_expired(&self, inner: &MemoryStorage) -> Result<u64> {
        let purged = inner.purge_expired().await?;
        let due: Vec<Key> = {
            let mut index = self.1.lock().unwrap();
            let now = Instant::now();
            index.extract_if(.., |(deadline, _)| *deadline <= now).map(|(_, key)| key).collect()
        };
        inner.delete_many(&due).await?;
        Ok(purged)
    }
}

/// Purges what was written with the life it still has.
#[derive(Default)]
struct PurgesUntouchedOnly(Mutex<HashSet<Key>>);

#[async_trait]
impl Twist for PurgesUntouchedOnly {
    async fn touch(&self, inner: &MemoryStorage, key: &Key, expiry: Expiry) -> Result<bool> {
        self.0.lock().unwrap().insert(key.clone());
        inner.touch(key, expiry).await
    }

    async fn purge_expired(&self, inner: &MemoryStorage) -> Result<u64> {
        let kept = self.0.lock().unwrap().len() as u64;
        Ok(inner.purge_expired().await?.saturating_sub(kept))
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault(
            "is late",
            || Lives(|ttl| Expiry::After(ttl + Duration::from_millis(250))),
            &[
                "expires_within_milliseconds",
                "expires_after_more_than_a_second",
                "a_write_replaces_the_time_to_live",
                "write_if_sets_the_time_to_live",
                "touch_extends",
                "touch_shortens",
                "each_write_of_a_batch_has_its_own_time_to_live",
            ],
        ),
        fault(
            "is early",
            || Lives(|ttl| Expiry::After(ttl.mul_f64(0.7))),
            &[
                "expires_within_milliseconds",
                "expires_after_more_than_a_second",
                "write_if_sets_the_time_to_live",
                "ttl_says_what_remains",
                "touch_extends",
            ],
        ),
        fault(
            "counts in whole seconds",
            || Lives(|ttl| Expiry::after_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0))),
            &["expires_within_milliseconds", "expires_after_more_than_a_second"],
        ),
        fault(
            "takes a time to live of zero for none",
            || Lives(|ttl| if ttl.is_zero() { Expiry::Never } else { Expiry::After(ttl) }),
            &[
                "a_time_to_live_of_zero_leaves_the_key_absent",
                "write_if_with_a_time_to_live_of_zero_leaves_the_key_absent",
                "touch_with_a_time_to_live_of_zero_removes",
            ],
        ),
        fault(
            "counts milliseconds in 32 bits",
            || Lives(|ttl| Expiry::after_millis(ttl.as_millis() as u64 & 0xffff_ffff)),
            &["a_time_to_live_of_centuries_is_kept"],
        ),
        fault(
            "has one time to live for all",
            || OneLifeForAll,
            &["without_a_time_to_live_entries_stay", "a_write_without_a_time_to_live_makes_it_stay"],
        ),
        fault(
            "keeps the first time to live",
            || FirstLifeStays,
            &["a_write_without_a_time_to_live_makes_it_stay", "a_write_replaces_the_time_to_live"],
        ),
        fault("touches in a conflict", || ConflictTouches, &["a_conflict_leaves_the_time_to_live"]),
        fault(
            "does not know what remains",
            || TtlIsWhatWasGiven,
            &["ttl_says_what_remains", "entries_carry_value_version_and_remaining_time"],
        ),
        fault("rewrites in a touch", || TouchRewrites, &["touch_keeps_value_and_version"]),
        fault(
            "creates in a touch",
            || TouchCreates,
            &["touch_of_a_missing_entry_returns_false", "expired_entries_are_absent_to_touch"],
        ),
        fault(
            "does nothing in a touch",
            || TouchDoesNothing,
            &[
                "touch_extends",
                "touch_shortens",
                "touch_makes_an_entry_stay",
                "touch_with_a_time_to_live_of_zero_removes",
            ],
        ),
        fault("ignores a time to live", || IgnoresLives, &["without_expiry_a_time_to_live_is_unsupported"]),
        fault(
            "looks at deadlines in reads only",
            OnlyReadsLook::default,
            &[
                "expired_entries_are_absent_to_contains_and_ttl",
                "expired_entries_are_absent_to_read_many",
                "expired_entries_are_absent_to_listings",
                "expired_entries_are_absent_to_deletes",
                "expired_entries_are_absent_to_clear",
                "expired_entries_are_absent_to_touch",
                "expired_entries_are_absent_to_write_if",
                "expired_entries_are_absent_to_delete_if",
                "purging_counts_what_has_expired",
            ],
        ),
        fault("notices too late", NoticesTooLate::default, &["expired_entries_are_absent_to_reads"]),
        fault(
            "purges by old deadlines",
            PurgesByOldDeadlines::default,
            &["an_expired_key_can_be_written_again"],
        ),
        fault(
            "leaves the old deadline in an index after a touch",
            || StaleIndex::new(Leaves::Touch),
            &["a_purge_keeps_what_was_given_a_longer_life"],
        ),
        fault(
            "leaves the old deadline in an index after a write",
            || StaleIndex::new(Leaves::Write),
            &["a_purge_keeps_what_was_given_a_longer_life"],
        ),
        fault(
            "does not purge what was touched",
            PurgesUntouchedOnly::default,
            &["a_purge_removes_what_was_given_a_shorter_life"],
        ),
    ]
}

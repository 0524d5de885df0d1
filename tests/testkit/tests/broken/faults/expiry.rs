//! Entries that expire too early, too late, or never.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{
    Applied, Bytes, Change, Condition, EntryStream, Expiry, Key, ListOptions, ReadOptions, Record, Result,
    Store, TouchOptions, WriteOptions, Written, async_trait,
};

use crate::{Fault, fault, twist::Twist};

/// Changes times to live by means of the function `0`.
struct Lives(fn(Duration) -> Expiry);

impl Lives {
    fn expiry(&self, expiry: Expiry) -> Expiry {
        match expiry {
            Expiry::After(ttl) => (self.0)(ttl),
            _ => expiry,
        }
    }
}

#[async_trait]
impl Twist for Lives {
    const SINGLE: bool = true;

    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        inner.write_with(key, value, &options.clone().expiry(self.expiry(options.expiry))).await
    }

    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        inner.touch_with(key, self.expiry(expiry), options).await
    }
}

/// Gives entries without a time to live one of 200 ms.
struct OneLifeForAll;

#[async_trait]
impl Twist for OneLifeForAll {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let mut options = options.clone();
        if options.expiry == Expiry::Never {
            options.expiry = Expiry::after_millis(200);
        }
        inner.write_with(key, value, &options).await
    }
}

/// Keeps the expiry of the first write.
struct FirstLifeStays;

#[async_trait]
impl Twist for FirstLifeStays {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let left = inner.ttl(key).await?.unwrap_or(options.expiry);
        inner.write_with(key, value, &options.clone().expiry(left)).await
    }
}

/// Touches the entry in a conflict.
struct ConflictTouches;

#[async_trait]
impl Twist for ConflictTouches {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        if options.condition != Condition::Any {
            inner.touch(key, options.expiry).await?;
        }
        inner.write_with(key, value, options).await
    }
}

/// Returns the original time to live, not the remaining one.
struct TtlIsWhatWasGiven;

#[async_trait]
impl Twist for TtlIsWhatWasGiven {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let record = inner.read_with(key, options).await?;
        Ok(record.map(|record| if options.ttl { record.expires(Expiry::after_secs(60)) } else { record }))
    }

    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        let forget = |mut entry: larder_core::Entry| {
            entry.record = entry.record.map(|record| record.expires(Expiry::Never));
            entry
        };
        inner.list(options).map_ok(forget).boxed()
    }
}

struct TouchRewrites;

#[async_trait]
impl Twist for TouchRewrites {
    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, _: &TouchOptions) -> Result<bool> {
        let Some(record) = inner.read(key).await? else { return Ok(false) };
        inner.write(key, record.value).expiry(expiry).await.map(|_| true)
    }
}

struct TouchCreates;

#[async_trait]
impl Twist for TouchCreates {
    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, _: &TouchOptions) -> Result<bool> {
        let value = inner.read(key).await?.map(|record| record.value).unwrap_or_default();
        inner.write(key, value).expiry(expiry).await.map(|_| true)
    }
}

struct TouchDoesNothing;

#[async_trait]
impl Twist for TouchDoesNothing {
    async fn touch(&self, inner: &Store, key: &Key, _: Expiry, _: &TouchOptions) -> Result<bool> {
        inner.contains(key).await
    }
}

/// Keeps its own deadlines, but checks them only in reads of values.
#[derive(Default)]
struct OnlyReadsLook(Mutex<HashMap<Key, Instant>>);

impl OnlyReadsLook {
    fn note(&self, key: &Key, expiry: Expiry) {
        let mut deadlines = self.0.lock().unwrap();
        match expiry {
            Expiry::After(ttl) => drop(deadlines.insert(key.clone(), Instant::now() + ttl.min(Expiry::MAX))),
            _ => drop(deadlines.remove(key)),
        }
    }

    fn left(&self, key: &Key) -> Option<Duration> {
        let deadlines = self.0.lock().unwrap();
        deadlines.get(key).map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

#[async_trait]
impl Twist for OnlyReadsLook {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let left = self.left(key);
        if options.value && left == Some(Duration::ZERO) {
            return Ok(None);
        }
        let record = inner.read_with(key, options).await?;
        Ok(record.map(|record| if options.ttl { record.expires(left.into()) } else { record }))
    }

    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let written = inner.write_with(key, value, &options.clone().expiry(Expiry::Never)).await?;
        self.note(key, options.expiry);
        Ok(written)
    }

    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, _: &TouchOptions) -> Result<bool> {
        self.note(key, expiry);
        inner.contains(key).await
    }
}

/// Returns an expired entry once before it treats the entry as absent.
#[derive(Default)]
struct NoticesTooLate(Mutex<HashMap<Key, Record>>);

#[async_trait]
impl Twist for NoticesTooLate {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let record = inner.read_with(key, options).await?;
        let mut kept = self.0.lock().unwrap();
        if record.is_some() { Ok(record) } else { Ok(kept.remove(key)) }
    }

    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.0.lock().unwrap().insert(key.clone(), Record::new(value.clone()));
        inner.write_with(key, value, options).await
    }
}

/// Deletes `keys`, one after the other.
async fn delete_all(inner: &Store, keys: Vec<Key>) -> u64 {
    let results = inner.apply(keys.into_iter().map(Change::delete).collect()).await;
    results.into_iter().filter(|result| matches!(result, Ok(Applied::Deleted(true)))).count() as u64
}

/// Purges entries by the deadline of an earlier write, even if they were written again.
#[derive(Default)]
struct PurgesByOldDeadlines(Mutex<HashSet<Key>>);

#[async_trait]
impl Twist for PurgesByOldDeadlines {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        if options.expiry != Expiry::Never {
            self.0.lock().unwrap().insert(key.clone());
        }
        inner.write_with(key, value, options).await
    }

    async fn purge_expired(&self, inner: &Store) -> Result<u64> {
        let due: Vec<Key> = self.0.lock().unwrap().drain().collect();
        Ok(delete_all(inner, due).await)
    }
}

/// The kind of change that leaves an entry's old deadline in the index that a purge uses.
#[derive(PartialEq)]
enum Leaves {
    Touch,
    Write,
}

/// Purges by an index of deadlines that is not always updated.
struct StaleIndex(Leaves, Mutex<Vec<(Instant, Key)>>);

impl StaleIndex {
    fn new(leaves: Leaves) -> Self {
        Self(leaves, Mutex::default())
    }

    fn note(&self, change: Leaves, key: &Key, expiry: Expiry) {
        let mut index = self.1.lock().unwrap();
        if self.0 != change {
            index.retain(|(_, other)| other != key);
        }
        if let Expiry::After(ttl) = expiry {
            index.push((Instant::now() + ttl.min(Expiry::MAX), key.clone()));
        }
    }
}

#[async_trait]
impl Twist for StaleIndex {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let written = inner.write_with(key, value, options).await?;
        self.note(Leaves::Write, key, options.expiry);
        Ok(written)
    }

    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let touched = inner.touch_with(key, expiry, options).await?;
        self.note(Leaves::Touch, key, expiry);
        Ok(touched)
    }

    async fn purge_expired(&self, inner: &Store) -> Result<u64> {
        let purged = inner.purge_expired().await?;
        let due: Vec<Key> = {
            let mut index = self.1.lock().unwrap();
            let now = Instant::now();
            index.extract_if(.., |(deadline, _)| *deadline <= now).map(|(_, key)| key).collect()
        };
        delete_all(inner, due).await;
        Ok(purged)
    }
}

/// Does not count touched entries in a purge.
#[derive(Default)]
struct PurgesUntouchedOnly(Mutex<HashSet<Key>>);

#[async_trait]
impl Twist for PurgesUntouchedOnly {
    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.0.lock().unwrap().insert(key.clone());
        inner.touch_with(key, expiry, options).await
    }

    async fn purge_expired(&self, inner: &Store) -> Result<u64> {
        let kept = self.0.lock().unwrap().len() as u64;
        Ok(inner.purge_expired().await?.saturating_sub(kept))
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault(
            "expires entries late",
            || Lives(|ttl| Expiry::After(ttl + Duration::from_millis(250))),
            &[
                "expires_within_milliseconds",
                "expires_after_more_than_a_second",
                "a_write_replaces_the_time_to_live",
                "conditional_write_sets_the_time_to_live",
                "touch_extends",
                "touch_shortens",
                "each_write_of_a_batch_has_its_own_time_to_live",
            ],
        ),
        fault(
            "expires entries early",
            || Lives(|ttl| Expiry::After(ttl.mul_f64(0.7))),
            &[
                "expires_within_milliseconds",
                "expires_after_more_than_a_second",
                "conditional_write_sets_the_time_to_live",
                "ttl_returns_the_remaining_time",
                "touch_extends",
            ],
        ),
        fault(
            "counts in whole seconds",
            || Lives(|ttl| Expiry::after_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0))),
            &["expires_within_milliseconds", "expires_after_more_than_a_second"],
        ),
        fault(
            "counts milliseconds in 32 bits",
            || Lives(|ttl| Expiry::after_millis(ttl.as_millis() as u64 & 0xffff_ffff)),
            &["a_time_to_live_of_centuries_is_kept"],
        ),
        fault(
            "gives every entry a time to live",
            || OneLifeForAll,
            &["without_a_time_to_live_entries_stay", "a_write_without_a_time_to_live_removes_the_expiry"],
        ),
        fault(
            "keeps the first time to live",
            || FirstLifeStays,
            &["a_write_without_a_time_to_live_removes_the_expiry", "a_write_replaces_the_time_to_live"],
        ),
        fault("touches in a conflict", || ConflictTouches, &["a_conflict_leaves_the_time_to_live"]),
        fault(
            "returns the original time to live instead of the remaining one",
            || TtlIsWhatWasGiven,
            &["ttl_returns_the_remaining_time", "entries_carry_value_version_and_remaining_time"],
        ),
        fault("rewrites the value in a touch", || TouchRewrites, &["touch_keeps_value_and_version"]),
        fault(
            "creates an entry in a touch",
            || TouchCreates,
            &["touch_of_a_missing_entry_returns_false", "expired_entries_are_absent_to_touch"],
        ),
        fault(
            "does nothing in a touch",
            || TouchDoesNothing,
            &["touch_extends", "touch_shortens", "touch_can_remove_the_expiry"],
        ),
        fault(
            "checks deadlines only in reads",
            OnlyReadsLook::default,
            &[
                "expired_entries_are_absent_to_contains_and_ttl",
                "expired_entries_are_absent_to_read_many",
                "expired_entries_are_absent_to_listings",
                "expired_entries_are_absent_to_deletes",
                "expired_entries_are_absent_to_clear",
                "expired_entries_are_absent_to_touch",
                "expired_entries_are_absent_to_conditional_writes",
                "expired_entries_are_absent_to_conditional_deletes",
                "a_purge_counts_expired_entries",
            ],
        ),
        fault(
            "returns an expired entry once",
            NoticesTooLate::default,
            &["expired_entries_are_absent_to_reads"],
        ),
        fault(
            "purges by old deadlines",
            PurgesByOldDeadlines::default,
            &["an_expired_key_can_be_written_again"],
        ),
        fault(
            "leaves the old deadline in an index after a touch",
            || StaleIndex::new(Leaves::Touch),
            &["a_purge_keeps_entries_with_a_later_expiry"],
        ),
        fault(
            "leaves the old deadline in an index after a write",
            || StaleIndex::new(Leaves::Write),
            &["a_purge_keeps_entries_with_a_later_expiry"],
        ),
        fault(
            "does not count touched entries in a purge",
            PurgesUntouchedOnly::default,
            &["a_purge_removes_entries_with_an_earlier_expiry"],
        ),
    ]
}

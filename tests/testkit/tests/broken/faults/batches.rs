//! Batches that get lost, mixed up or miscounted.

use larder_core::{
    Bytes, Capabilities, Error, ErrorKind, Expiry, Key, Record, Result, Storage, Write, async_trait,
};
use larder_memory::MemoryStorage;

use crate::{Fault, fault, twist::Twist};

/// An empty list of keys means all.
struct NothingIsEverything;

#[async_trait]
impl Twist for NothingIsEverything {
    async fn delete_many(&self, inner: &MemoryStorage, keys: &[Key]) -> Result<u64> {
        if keys.is_empty() { inner.clear("").await } else { inner.delete_many(keys).await }
    }
}

/// What goes to the store is `0` of what was asked for.
struct Writes(fn(&[Write]) -> Vec<Write>);

#[async_trait]
impl Twist for Writes {
    async fn write_many(&self, inner: &MemoryStorage, writes: &[Write]) -> Result<()> {
        inner.write_many(&(self.0)(writes)).await
    }
}

struct Sorts;

#[async_trait]
impl Twist for Sorts {
    async fn read_many(&self, inner: &MemoryStorage, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        let mut keys = keys.to_vec();
        keys.sort();
        inner.read_many(&keys).await
    }
}

struct LeavesOutTheMissing;

#[async_trait]
impl Twist for LeavesOutTheMissing {
    async fn read_many(&self, inner: &MemoryStorage, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        let mut records = inner.read_many(keys).await?;
        records.retain(Option::is_some);
        Ok(records)
    }
}

/// Asks for each key once, and answers its first mention.
struct AnswersOnce;

#[async_trait]
impl Twist for AnswersOnce {
    async fn read_many(&self, inner: &MemoryStorage, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        let mut records = inner.read_many(keys).await?;
        for (index, record) in records.iter_mut().enumerate() {
            if keys[..index].contains(&keys[index]) {
                *record = None;
            }
        }
        Ok(records)
    }
}

struct CountsKeys;

#[async_trait]
impl Twist for CountsKeys {
    async fn delete_many(&self, inner: &MemoryStorage, keys: &[Key]) -> Result<u64> {
        inner.delete_many(keys).await?;
        Ok(keys.len() as u64)
    }
}

const MOST: usize = 1000;

fn too_large() -> Error {
    Error::new(ErrorKind::TooLarge, "too large")
}

/// Refuses a batch as a whole, though it has stored a part.
struct FailsAsAWhole;

#[async_trait]
impl Twist for FailsAsAWhole {
    fn capabilities(&self, inner: &MemoryStorage) -> Capabilities {
        inner.capabilities().with_max_value(MOST as u64)
    }

    async fn write(&self, inner: &MemoryStorage, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        if value.len() > MOST { Err(too_large()) } else { inner.write(key, value, expiry).await }
    }

    async fn write_many(&self, inner: &MemoryStorage, writes: &[Write]) -> Result<()> {
        for write in writes {
            self.write(inner, &write.key, write.value.clone(), write.expiry).await?;
        }
        Ok(())
    }
}

/// Says nothing about the entries that it left out.
struct FailsInSilence;

#[async_trait]
impl Twist for FailsInSilence {
    fn capabilities(&self, inner: &MemoryStorage) -> Capabilities {
        inner.capabilities().with_max_value(MOST as u64)
    }

    async fn write_many(&self, inner: &MemoryStorage, writes: &[Write]) -> Result<()> {
        let fit: Vec<Write> = writes.iter().filter(|write| write.value.len() <= MOST).cloned().collect();
        inner.write_many(&fit).await
    }
}

fn first_of_each_key(writes: &[Write]) -> Vec<Write> {
    let first = |index: usize| writes[..index].iter().all(|write| write.key != writes[index].key);
    (0..writes.len()).filter(|&index| first(index)).map(|index| writes[index].clone()).collect()
}

fn one_life_for_all(writes: &[Write]) -> Vec<Write> {
    let expiry = writes.first().map(|write| write.expiry).unwrap_or_default();
    writes.iter().map(|write| Write::new(write.key.clone(), write.value.clone(), expiry)).collect()
}

/// A batch creates, and replaces nothing.
struct OnlyInserts;

#[async_trait]
impl Twist for OnlyInserts {
    async fn write_many(&self, inner: &MemoryStorage, writes: &[Write]) -> Result<()> {
        for write in writes {
            if !inner.contains(&write.key).await? {
                inner.write(&write.key, write.value.clone(), write.expiry).await?;
            }
        }
        Ok(())
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault("takes nothing for everything", || NothingIsEverything, &["empty_batches_do_nothing"]),
        fault(
            "forgets the last write of a batch",
            || Writes(|writes| writes[..writes.len().saturating_sub(1)].to_vec()),
            &["batches_of_one", "batches_of_a_thousand"],
        ),
        fault(
            "writes 999 entries of a batch",
            || Writes(|writes| writes.iter().take(999).cloned().collect()),
            &["batches_of_a_thousand"],
        ),
        fault("answers in the keys' order", || Sorts, &["read_many_answers_in_order"]),
        fault("leaves out what is missing", || LeavesOutTheMissing, &["read_many_answers_in_order"]),
        fault("answers a key once", || AnswersOnce, &["read_many_reads_a_key_twice"]),
        fault(
            "keeps the first of two writes in a batch",
            || Writes(first_of_each_key),
            &["of_two_writes_in_a_batch_the_later_stays"],
        ),
        fault(
            "counts keys, not entries",
            || CountsKeys,
            &["delete_many_counts_a_key_once", "batches_of_one"],
        ),
        fault("replaces nothing in a batch", || OnlyInserts, &["batches_replace_and_leave_alone"]),
        fault(
            "has one time to live for a batch",
            || Writes(one_life_for_all),
            &["each_write_of_a_batch_has_its_own_time_to_live"],
        ),
        fault("fails as a whole", || FailsAsAWhole, &["a_batch_that_fails_in_part_says_which"]),
        fault("fails in silence", || FailsInSilence, &["a_batch_that_fails_in_part_says_which"]),
    ]
}

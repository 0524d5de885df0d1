//! Reads that return the time to live of another moment, or change the entry.

use std::time::Duration;

use larder_core::{Key, ReadOptions, Record, Result, Store, async_trait};

use crate::{Fault, fault, twist::Twist};

/// Does not return the time to live, even if requested.
struct ForgetsTtl;

fn without_ttl(record: Option<Record>) -> Option<Record> {
    record.map(|mut record| {
        record.expiry = None;
        record
    })
}

#[async_trait]
impl Twist for ForgetsTtl {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        inner.read_with(key, options).await.map(without_ttl)
    }

    async fn read_many(
        &self,
        inner: &Store,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Record>>> {
        let results = inner.read_many(keys, options).await;
        results.into_iter().map(|result| result.map(without_ttl)).collect()
    }
}

/// Reads the value, and then the remaining time.
struct ReadsTwice;

#[async_trait]
impl Twist for ReadsTwice {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        if !options.value || !options.ttl {
            return inner.read_with(key, options).await;
        }
        let record = inner.read(key).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let left = inner.ttl(key).await?;
        Ok(record.zip(left).map(|(record, left)| record.expires(left)))
    }
}

/// Reads the values of many entries, and then the remaining times.
struct ReadsManyTwice;

#[async_trait]
impl Twist for ReadsManyTwice {
    async fn read_many(
        &self,
        inner: &Store,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Record>>> {
        if !options.value || !options.ttl {
            return inner.read_many(keys, options).await;
        }
        let records = inner.read_many(keys, &ReadOptions::new()).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let left = inner.read_many(keys, options).await;
        let put_together = |record: Option<Record>, left: Option<Record>| {
            let (mut record, left) = record.zip(left)?;
            record.expiry = left.expiry;
            Some(record)
        };
        records.into_iter().zip(left).map(|(record, left)| Ok(put_together(record?, left?))).collect()
    }
}

/// Touches after it has read, and returns the old remaining time.
struct TouchesAfterwards;

#[async_trait]
impl Twist for TouchesAfterwards {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let mut untouched = *options;
        untouched.touch = None;
        let record = inner.read_with(key, &untouched).await?;
        if let Some(expiry) = options.touch {
            inner.touch(key, expiry).await?;
        }
        Ok(record)
    }
}

/// Touches, and reads later.
struct TouchesBefore;

#[async_trait]
impl Twist for TouchesBefore {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let mut untouched = *options;
        if let Some(expiry) = untouched.touch.take() {
            inner.touch(key, expiry).await?;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        inner.read_with(key, &untouched).await
    }
}

/// Touches only in single reads.
struct ReadManyDoesNotTouch;

#[async_trait]
impl Twist for ReadManyDoesNotTouch {
    async fn read_many(
        &self,
        inner: &Store,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Record>>> {
        let mut untouched = *options;
        untouched.touch = None;
        inner.read_many(keys, &untouched).await
    }
}

/// Touches by writing the value that it has read, with the new time to live.
struct TouchesByWriting;

#[async_trait]
impl Twist for TouchesByWriting {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let (Some(expiry), Some(record)) = (options.touch, inner.read(key).await?) else {
            return inner.read_with(key, options).await;
        };
        tokio::time::sleep(Duration::from_millis(1)).await;
        inner.write(key, record.value.clone()).expiry(expiry).await?;
        Ok(Some(if options.ttl { record.expires(expiry) } else { record }))
    }
}

/// Does the same, but only in `read_many`.
struct TouchesManyByWriting;

#[async_trait]
impl Twist for TouchesManyByWriting {
    async fn read_many(
        &self,
        inner: &Store,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Record>>> {
        let mut results = Vec::new();
        for key in keys {
            results.push(TouchesByWriting.read(inner, key, options).await);
        }
        results
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault(
            "does not return the ttl",
            || ForgetsTtl,
            &["a_read_returns_the_ttl_if_asked", "read_many_returns_each_ttl"],
        ),
        fault("reads value and ttl one after the other", || ReadsTwice, &["value_and_ttl_are_of_one_moment"]),
        fault(
            "reads values and ttls of many one after the other",
            || ReadsManyTwice,
            &["value_and_ttl_are_of_one_moment"],
        ),
        fault("touches after it has read", || TouchesAfterwards, &["a_read_can_touch"]),
        fault(
            "touches before it reads",
            || TouchesBefore,
            &["a_touching_read_returns_an_entry_that_expires_at_once"],
        ),
        fault("does not touch in read_many", || ReadManyDoesNotTouch, &["read_many_can_touch"]),
        fault(
            "touches by writing the value that it has read",
            || TouchesByWriting,
            &[
                "a_read_can_touch",
                "a_touching_read_never_brings_an_entry_back",
                "a_touching_read_never_changes_the_value",
            ],
        ),
        fault(
            "touches in read_many by writing the values that it has read",
            || TouchesManyByWriting,
            &[
                "read_many_can_touch",
                "a_touching_read_never_brings_an_entry_back",
                "a_touching_read_never_changes_the_value",
            ],
        ),
    ]
}

//! Writes that are incomplete, not done, or that affect each other.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, ErrorKind, Key, ReadOptions, Record, Result, Store, WriteOptions,
    Written, async_trait,
};
use tokio::task::yield_now;

use crate::{Fault, fault, twist::Twist};

/// Writes a value in two pieces.
struct Tears;

#[async_trait]
impl Twist for Tears {
    const SINGLE: bool = true;

    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let half = value.slice(..value.len() / 2);
        let written = inner.write_with(key, half, options).await?;
        yield_now().await;
        let condition = match (&options.condition, written.version) {
            (Condition::Any, _) | (_, None) => Condition::Any,
            (_, Some(version)) => Condition::At(version),
        };
        inner.write_with(key, value, &options.clone().condition(condition)).await
    }
}

/// Acknowledges a write before it is done.
struct WritesLater;

#[async_trait]
impl Twist for WritesLater {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let (inner, key, options) = (inner.clone(), key.clone(), options.clone());
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            inner.write_with(&key, value, &options).await
        });
        Ok(Written::default())
    }
}

/// Empties an entry before it deletes it.
struct EmptiesFirst;

#[async_trait]
impl Twist for EmptiesFirst {
    async fn delete(&self, inner: &Store, key: &Key, options: &DeleteOptions) -> Result<bool> {
        if inner.contains(key).await? {
            inner.write(key, Bytes::new()).await?;
        }
        yield_now().await;
        inner.delete_with(key, options).await
    }
}

/// Returns the next answer of the connection. An answer that a dropped read has not taken stays in the queue.
#[derive(Default)]
struct MixesUpAnswers(Mutex<VecDeque<Option<Record>>>);

#[async_trait]
impl Twist for MixesUpAnswers {
    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let answer = inner.read_with(key, options).await?;
        self.0.lock().unwrap().push_back(answer);
        yield_now().await;
        Ok(self.0.lock().unwrap().pop_front().flatten())
    }
}

/// Has 30 connections, and loses the connection of each cancelled call.
#[derive(Default)]
struct LosesConnections(AtomicUsize);

#[async_trait]
impl Twist for LosesConnections {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        if self.0.fetch_add(1, Ordering::Relaxed) >= 30 {
            return Err(Error::new(ErrorKind::Unavailable, "all connections are in use"));
        }
        yield_now().await;
        let written = inner.write_with(key, value, options).await;
        self.0.fetch_sub(1, Ordering::Relaxed);
        written
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault(
            "tears values",
            || Tears,
            &[
                "concurrent_writers_never_mix_values",
                "cancelled_writes_leave_the_old_or_the_new_value",
                "cancelled_conditional_writes_leave_the_old_or_the_new_value",
                "cancelled_batches_leave_old_or_new_values",
            ],
        ),
        fault(
            "acknowledges before it writes",
            || WritesLater,
            &["round_trip", "concurrent_tasks_see_their_own_writes"],
        ),
        fault("empties before it deletes", || EmptiesFirst, &["cancelled_deletes_leave_the_entry_or_none"]),
        fault("mixes up answers", MixesUpAnswers::default, &["cancelled_reads_do_not_mix_up_answers"]),
        fault(
            "loses the connections of cancelled calls",
            LosesConnections::default,
            &["a_cancelled_call_does_not_affect_others"],
        ),
    ]
}

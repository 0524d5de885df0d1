//! The guarantees of `GroupCommit`, one test per law.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Clippy does not treat test helpers as tests.

mod cancellation;
mod failures;
mod grouping;
mod lifecycle;
mod order;
mod probe;

use std::sync::Arc;

use larder_core::{
    Applied, Bytes, Change, Condition, DeleteOptions, Error, Expiry, Key, ReadOptions, Record, Result,
    Storage, TouchOptions, Version, WriteOptions, Written,
};
use larder_kit::{GroupCommit, group_commit::Builder};
use tokio::task::JoinHandle;

use crate::probe::Probe;

type Commit = Arc<GroupCommit<Probe>>;

fn commit(probe: &Probe) -> Commit {
    Arc::new(GroupCommit::new(probe.clone()))
}

fn commit_with(probe: &Probe, configure: impl FnOnce(Builder<Probe>) -> Builder<Probe>) -> Commit {
    Arc::new(configure(GroupCommit::builder(probe.clone())).build())
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Writes a short text.
async fn put(storage: &Commit, name: &str, value: &'static str) -> Result<Written> {
    storage.write(&key(name), Bytes::from_static(value.as_bytes()), &WriteOptions::new()).await
}

async fn write_if(storage: &Commit, key: &Key) -> Result<Written> {
    storage.write(key, Bytes::new(), &WriteOptions::new().condition(Condition::Absent)).await
}

async fn delete(storage: &Commit, key: &Key) -> Result<bool> {
    storage.delete(key, &DeleteOptions::new()).await
}

async fn delete_if(storage: &Commit, key: &Key) -> Result<bool> {
    storage.delete(key, &DeleteOptions::new().condition(Condition::At(Version::unique()))).await
}

async fn touch(storage: &Commit, key: &Key) -> Result<bool> {
    storage.touch(key, Expiry::Never, &TouchOptions::new()).await
}

async fn read_and_touch(storage: &Commit, key: &Key) -> Result<Option<Record>> {
    storage.read(key, &ReadOptions::new().with_touch(Expiry::Never)).await
}

async fn read_and_touch_many(storage: &Commit, key: &Key) -> Result<Vec<Option<Record>>> {
    let options = ReadOptions::new().with_touch(Expiry::Never);
    storage.read_many(std::slice::from_ref(key), &options).await.into_iter().collect()
}

async fn delete_many(storage: &Commit, key: &Key) -> Result<Vec<Applied>> {
    storage.apply(vec![Change::delete(key.clone())]).await.into_iter().collect()
}

/// Writes several entries without conditions. Returns the first error.
async fn put_many(storage: &Commit, entries: &[(&str, &'static str)]) -> Result<()> {
    failures(apply_puts(storage, entries).await).into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
}

async fn apply_puts(storage: &Commit, entries: &[(&str, &'static str)]) -> Vec<Result<Applied>> {
    let change = |(name, value): &(&str, &'static str)| Change::put(key(name), *value, Expiry::Never);
    storage.apply(entries.iter().map(change).collect()).await
}

/// The errors among the results, with their places.
fn failures(results: Vec<Result<Applied>>) -> Vec<(usize, Error)> {
    let errors = results.into_iter().enumerate().map(|(place, result)| Some((place, result.err()?)));
    errors.flatten().collect()
}

async fn clear(storage: &Commit) -> Result<u64> {
    Arc::clone(storage).clear("").await
}

/// Starts a batch with one write, `x=0`. Later changes then gather.
async fn occupy(storage: &Commit, probe: &Probe) -> JoinHandle<Result<Written>> {
    let started = probe.log().len();
    let storage = Arc::clone(storage);
    let write = tokio::spawn(async move { put(&storage, "x", "0").await });
    probe.started(started + 1).await;
    write
}

/// Polls a future once: its call is then queued.
macro_rules! begin {
    ($($future:ident = $call:expr;)+) => {
        $(
            let mut $future = std::pin::pin!($call);
            assert!(futures_util::poll!(&mut $future).is_pending(), concat!(stringify!($future), " did not wait"));
        )+
    };
}

/// Awaits calls that have begun.
macro_rules! all_ok {
    ($($future:ident),+) => { $($future.await.unwrap();)+ };
}
pub(crate) use {all_ok, begin};

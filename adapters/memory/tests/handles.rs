//! Clones, runtimes, the sweeper, and memory shared with callers.

#![allow(clippy::unwrap_used)]

use std::{
    num::NonZeroUsize,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use larder_core::{Bytes, ErrorKind, Expiry, Key, ListOptions, Store};
use larder_memory::{Config, MemoryStorage, WhenFull};

const SHORT: Expiry = Expiry::After(Duration::from_millis(1));

/// Returns a storage, which can count its entries, and a store on it.
fn open(builder: &Config) -> (MemoryStorage, Store) {
    let storage = MemoryStorage::with(builder).unwrap();
    (storage.clone(), Store::from(storage))
}

async fn until(goal: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "timed out: {goal}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn operations_need_no_runtime() {
    let store = Store::from(MemoryStorage::new());
    // Futures never wait, so one poll completes them. Entries expire without a runtime, too.
    store.write("a", "x").expiry(SHORT).into_future().now_or_never().unwrap().unwrap();
    let start = Instant::now();
    while store.read("a").into_future().now_or_never().unwrap().unwrap().is_some() {
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    store.close().now_or_never().unwrap().unwrap();
}

#[tokio::test]
async fn the_sweeper_removes_expired_entries() {
    let (storage, store) = open(&Config::from_url("memory:?sweep=5ms").unwrap());
    for index in 0..100 {
        store.write(index.to_string(), "x").expiry(SHORT).await.unwrap();
    }
    store.write("stays", "x").await.unwrap();
    until("the sweeper removes the expired entries", || storage.len() == 1).await;
    assert!(store.contains("stays").await.unwrap());
}

#[test]
fn a_storage_made_outside_a_runtime_is_swept_within_one() {
    let (storage, store) = open(&Config::new().sweep(Some(Duration::from_millis(5))));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        store.write("a", "x").expiry(SHORT).await.unwrap();
        until("the sweeper removes the expired entry", || storage.is_empty()).await;
    });
}

#[tokio::test]
async fn without_a_sweeper_the_caller_purges_expired_entries() {
    let (storage, store) = open(&Config::from_url("memory:?sweep=off").unwrap());
    store.write("a", "x").expiry(SHORT).await.unwrap();
    while store.contains("a").await.unwrap() {
        tokio::task::yield_now().await;
    }
    assert_eq!(storage.len(), 1);
    assert_eq!(store.purge_expired().await.unwrap(), 1);
    assert!(storage.is_empty());
}

#[tokio::test]
async fn each_connect_is_a_separate_storage_and_clones_share_one() {
    let (one, two) = (larder_memory::connect("memory:").await.unwrap(), MemoryStorage::new());
    one.write("a", "x").await.unwrap();
    assert!(two.is_empty());
    assert!(one.clone().contains("a").await.unwrap());
    Store::from(two.clone()).write("b", "x").await.unwrap();
    assert_eq!(two.clone().len(), 1);
}

#[tokio::test]
async fn a_small_slice_does_not_keep_its_large_buffer() {
    let store = Store::from(MemoryStorage::new());
    let large = Bytes::from(vec![1; 1 << 20]);
    store.write("a", large.slice(10..20)).await.unwrap();
    // The storage holds no reference to the buffer.
    assert!(large.is_unique());
    let read = store.read("a").await.unwrap().unwrap().value;
    assert_eq!(read, large.slice(10..20));
    assert!(!large.as_ptr_range().contains(&read.as_ptr()));
}

#[tokio::test]
async fn closing_ends_a_listing_with_an_error() {
    let (storage, store) = open(&Config::new());
    for index in 0..500 {
        store.write(index.to_string(), "x").await.unwrap();
    }
    let mut keys = store.keys("");
    assert!(keys.next().await.unwrap().is_ok());
    store.clone().close().await.unwrap();
    let error = keys.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(storage.is_empty());
}

#[tokio::test]
async fn a_key_that_expires_during_a_listing_is_not_listed() {
    let store = Store::from(MemoryStorage::new());
    for index in 0..200 {
        store.write(format!("goes-{index}"), "x").expires_in(Duration::from_millis(300)).await.unwrap();
    }
    store.write("stays", "x").await.unwrap();
    let mut keys = store.keys("");
    let first = keys.next().await.unwrap().unwrap();
    while store.contains("goes-199").await.unwrap() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rest: Vec<Key> = keys.try_collect().await.unwrap();
    assert!(rest.iter().all(|listed| listed.as_str() == "stays"));
    assert!(rest.len() + usize::from(first.as_str() == "stays") == 1);
}

#[tokio::test]
async fn a_key_that_is_touched_during_a_listing_is_not_missed() {
    let store = Config::new().connect().await.unwrap();
    // Enough keys that each map has several: a listing takes them together.
    for index in 0..500 {
        store.write(index.to_string(), "x").expires_in(Duration::from_millis(300)).await.unwrap();
    }
    let mut keys = store.keys("");
    let first = keys.next().await.unwrap().unwrap();
    for index in 0..500 {
        assert!(store.touch(index.to_string(), Expiry::Never).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(400)).await;
    let mut listed: Vec<Key> = keys.try_collect().await.unwrap();
    listed.push(first);
    listed.sort();
    listed.dedup();
    assert_eq!(listed.len(), 500);
}

#[tokio::test]
async fn a_listing_takes_a_page_of_keys_at_a_time() {
    for config in [Config::new(), Config::new().max_entries(5000).when_full(WhenFull::Evict)] {
        let store = config.connect().await.unwrap();
        for index in 0..1000 {
            store.write(index.to_string(), "x").await.unwrap();
        }
        let mut keys = store.keys("");
        let limited = store.list(ListOptions::new().limit(NonZeroUsize::new(2).unwrap()).keys_only());
        let mut limited = limited.map_ok(|entry| entry.key);
        let first = keys.next().await.unwrap().unwrap();
        assert_eq!(limited.next().await.unwrap().unwrap(), first);
        // Changes entries that the running listings have not reached yet.
        for index in 0..1000 {
            store.write(format!("late-{index}"), "x").await.unwrap();
            store.delete(index.to_string()).await.unwrap();
        }
        assert!(limited.next().await.unwrap().unwrap().as_str().starts_with("late-"));
        assert!(limited.next().await.is_none());
        let mut rest: Vec<Key> = keys.try_collect().await.unwrap();
        assert!(rest.iter().all(|key| key.as_str().starts_with("late-")));
        rest.sort();
        rest.dedup();
        assert_eq!(rest.len(), 1000);
    }
}

#[tokio::test]
async fn a_listing_returns_each_key_once_despite_concurrent_changes() {
    for builder in [Config::new(), Config::new().max_entries(5000).when_full(WhenFull::Evict)] {
        let store = builder.connect().await.unwrap();
        for index in 0..2000 {
            store.write(index.to_string(), "x").await.unwrap();
        }
        let mut seen = std::collections::BTreeMap::<Key, usize>::new();
        let mut keys = store.keys("");
        while let Some(key) = keys.next().await {
            let key = key.unwrap();
            // The key is read and replaced while other keys come and go.
            store.read(&key).await.unwrap();
            store.write(&key, "y").await.unwrap();
            store.write((seen.len() * 7 % 2000).to_string(), "z").await.unwrap();
            store.write("comes", "x").await.unwrap();
            store.delete("comes").await.unwrap();
            *seen.entry(key).or_default() += 1;
        }
        seen.retain(|key, _| key.as_str() != "comes");
        assert_eq!(seen.len(), 2000);
        assert!(seen.values().all(|times| *times == 1));
    }
}

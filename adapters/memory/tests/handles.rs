//! Clones, runtimes, the sweeper, and what is shared with callers.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use larder_core::{Bytes, ErrorKind, Expiry, Key, Storage};
use larder_memory::MemoryStorage;

fn key(text: impl AsRef<str>) -> Key {
    Key::new(text).unwrap()
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn it_needs_no_runtime() {
    let storage = MemoryStorage::new();
    // No future ever waits, so one poll is enough; times to live are kept all the same.
    let write = storage.write(&key("a"), "x".into(), Expiry::after_millis(1)).now_or_never();
    write.unwrap().unwrap();
    let start = Instant::now();
    while storage.read(&key("a")).now_or_never().unwrap().unwrap().is_some() {
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    storage.close().now_or_never().unwrap().unwrap();
}

#[tokio::test]
async fn the_sweeper_removes_what_has_expired() {
    let storage = MemoryStorage::connect("memory:?sweep=5ms").await.unwrap();
    for index in 0..100 {
        storage.write(&key(index.to_string()), "x".into(), Expiry::after_millis(1)).await.unwrap();
    }
    storage.write(&key("stays"), "x".into(), Expiry::Never).await.unwrap();
    until("the sweeper has removed what has expired", || storage.len() == 1).await;
    assert!(storage.contains(&key("stays")).await.unwrap());
}

#[test]
fn a_storage_made_outside_a_runtime_is_swept_within_one() {
    let storage = MemoryStorage::builder().sweep_every(Some(Duration::from_millis(5))).build().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        storage.write(&key("a"), "x".into(), Expiry::after_millis(1)).await.unwrap();
        until("the sweeper has removed what has expired", || storage.is_empty()).await;
    });
}

#[tokio::test]
async fn without_a_sweeper_it_is_up_to_the_caller() {
    let storage = MemoryStorage::connect("memory:?sweep=off").await.unwrap();
    storage.write(&key("a"), "x".into(), Expiry::after_millis(1)).await.unwrap();
    while storage.contains(&key("a")).await.unwrap() {
        tokio::task::yield_now().await;
    }
    assert_eq!(storage.len(), 1);
    assert_eq!(storage.purge_expired().await.unwrap(), 1);
    assert!(storage.is_empty());
}

#[tokio::test]
async fn each_url_is_a_storage_of_its_own_and_each_clone_the_same() {
    let (one, two) = (MemoryStorage::connect("memory:").await.unwrap(), MemoryStorage::new());
    one.write(&key("a"), "x".into(), Expiry::Never).await.unwrap();
    assert!(two.is_empty());
    assert_eq!(one.clone().len(), 1);
}

#[tokio::test]
async fn a_small_slice_does_not_keep_its_large_buffer() {
    let storage = MemoryStorage::new();
    let large = Bytes::from(vec![1; 1 << 20]);
    storage.write(&key("a"), large.slice(10..20), Expiry::Never).await.unwrap();
    // Nobody else holds the buffer: it is the caller's alone.
    assert!(large.is_unique());
    let read = storage.read(&key("a")).await.unwrap().unwrap().value;
    assert_eq!(read, large.slice(10..20));
    assert!(!large.as_ptr_range().contains(&read.as_ptr()));
}

#[tokio::test]
async fn a_listing_cut_short_by_a_close_is_an_error() {
    let storage = MemoryStorage::new();
    for index in 0..500 {
        storage.write(&key(index.to_string()), "x".into(), Expiry::Never).await.unwrap();
    }
    let mut keys = storage.keys("");
    assert!(keys.next().await.unwrap().is_ok());
    storage.clone().close().await.unwrap();
    let error = keys.try_collect::<Vec<_>>().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(storage.is_empty());
}

#[tokio::test]
async fn a_key_that_expires_during_a_listing_is_not_listed() {
    let storage = MemoryStorage::new();
    for index in 0..200 {
        storage.write(&key(format!("goes-{index}")), "x".into(), Expiry::after_millis(300)).await.unwrap();
    }
    storage.write(&key("stays"), "x".into(), Expiry::Never).await.unwrap();
    let mut keys = storage.keys("");
    let first = keys.next().await.unwrap().unwrap();
    while storage.contains(&key("goes-199")).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let rest: Vec<Key> = keys.try_collect().await.unwrap();
    assert!(rest.iter().all(|listed| listed.as_str() == "stays"));
    assert!(rest.len() + usize::from(first.as_str() == "stays") == 1);
}

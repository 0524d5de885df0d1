//! What a bounded storage does when it is full.

#![allow(clippy::unwrap_used)]

use std::{sync::Arc, thread};

use larder_core::{Bytes, Condition, ErrorKind, Expiry, Key, Storage, Write};
use larder_memory::{ENTRY_OVERHEAD, MemoryStorage, WhenFull};

fn key(text: impl AsRef<str>) -> Key {
    Key::new(text).unwrap()
}

async fn put(storage: &MemoryStorage, name: &str) -> larder_core::Result<()> {
    storage.write(&key(name), Bytes::from_static(b"value"), Expiry::Never).await
}

async fn has(storage: &MemoryStorage, name: &str) -> bool {
    storage.contains(&key(name)).await.unwrap()
}

#[tokio::test]
async fn a_full_storage_refuses_what_is_new_and_loses_nothing() {
    let storage = MemoryStorage::builder().max_entries(2).build().unwrap();
    put(&storage, "a").await.unwrap();
    put(&storage, "b").await.unwrap();
    let error = put(&storage, "c").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(!error.is_retryable());
    let create = storage.write_if(&key("c"), "x".into(), Expiry::Never, Condition::Absent).await;
    assert_eq!(create.unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(has(&storage, "a").await && has(&storage, "b").await && !has(&storage, "c").await);

    // What is there can be replaced, and what goes makes room.
    put(&storage, "a").await.unwrap();
    storage.delete(&key("b")).await.unwrap();
    put(&storage, "c").await.unwrap();
    storage.clear("").await.unwrap();
    put(&storage, "d").await.unwrap();
    put(&storage, "e").await.unwrap();
    assert_eq!(put(&storage, "f").await.unwrap_err().kind(), ErrorKind::StorageFull);
}

#[tokio::test]
async fn a_batch_that_does_not_fit_says_what_did_not() {
    let storage = MemoryStorage::builder().max_entries(2).build().unwrap();
    let writes: Vec<Write> =
        ["a", "b", "c", "a", "d"].map(|name| Write::new(key(name), "x", Expiry::Never)).into();
    let error = storage.write_many(&writes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Partial);
    assert_eq!(error.failures().iter().map(|failure| failure.index).collect::<Vec<_>>(), [2, 4]);
    assert!(error.failures().iter().all(|failure| failure.error.kind() == ErrorKind::StorageFull));
}

#[tokio::test]
async fn what_has_expired_makes_room_before_anything_is_refused() {
    let storage = MemoryStorage::builder().max_entries(1).sweep_every(None).build().unwrap();
    storage.write(&key("old"), "x".into(), Expiry::after_millis(1)).await.unwrap();
    while has(&storage, "old").await {
        tokio::task::yield_now().await;
    }
    assert_eq!(storage.len(), 1);
    put(&storage, "new").await.unwrap();
    assert!(has(&storage, "new").await);
    assert_eq!(storage.len(), 1);
}

#[tokio::test]
async fn bytes_are_keys_values_and_overhead() {
    let entry = 1 + 100 + ENTRY_OVERHEAD;
    let storage = MemoryStorage::builder().max_bytes(10 * entry).build().unwrap();
    let value = Bytes::from(vec![7; 100]);
    for index in 0..10 {
        storage.write(&key(index.to_string()), value.clone(), Expiry::Never).await.unwrap();
    }
    let write = storage.write(&key("x"), Bytes::new(), Expiry::Never).await;
    assert_eq!(write.unwrap_err().kind(), ErrorKind::StorageFull);
    // A byte less here is a byte more there; no more than that.
    storage.write(&key("0"), value.slice(..99), Expiry::Never).await.unwrap();
    storage.write(&key("1"), vec![7; 101].into(), Expiry::Never).await.unwrap();
    let write = storage.write(&key("2"), vec![7; 101].into(), Expiry::Never).await;
    assert_eq!(write.unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(storage.read(&key("2")).await.unwrap().unwrap().value, value);
}

#[tokio::test]
async fn the_largest_value_fits_under_the_longest_key() {
    for when_full in [WhenFull::Refuse, WhenFull::Evict] {
        let storage = MemoryStorage::builder().max_bytes(4096).when_full(when_full).build().unwrap();
        let most = usize::try_from(storage.capabilities().max_value.unwrap()).unwrap();
        let longest = key("k".repeat(Key::MAX_BYTES));
        storage.write(&longest, vec![1; most].into(), Expiry::Never).await.unwrap();
        assert_eq!(storage.read(&longest).await.unwrap().unwrap().value.len(), most);
        let write = storage.write(&longest, vec![1; most + 1].into(), Expiry::Never).await;
        assert_eq!(write.unwrap_err().kind(), ErrorKind::TooLarge);
    }
}

#[tokio::test]
async fn the_least_recently_used_goes_first() {
    let storage = MemoryStorage::builder().max_entries(4).when_full(WhenFull::Evict).build().unwrap();
    for name in ["a", "b", "c", "d"] {
        put(&storage, name).await.unwrap();
    }
    // Reading, writing and touching are use; looking whether it is there, or when it goes, is not.
    storage.read(&key("a")).await.unwrap();
    put(&storage, "b").await.unwrap();
    storage.touch(&key("c"), Expiry::after_secs(60)).await.unwrap();
    has(&storage, "d").await;
    storage.ttl(&key("d")).await.unwrap();
    for (new, evicted) in [("e", "d"), ("f", "a"), ("g", "b"), ("h", "c"), ("i", "e")] {
        put(&storage, new).await.unwrap();
        assert!(!has(&storage, evicted).await, "{evicted} is still there after {new}");
        assert!(has(&storage, new).await);
        assert_eq!(storage.len(), 4);
    }
}

#[tokio::test]
async fn one_large_value_takes_the_place_of_many_small_ones() {
    let storage = MemoryStorage::builder().max_bytes(100_000).when_full(WhenFull::Evict).build().unwrap();
    for index in 0..1000 {
        put(&storage, &format!("small-{index}")).await.unwrap();
    }
    let before = storage.len();
    storage.write(&key("large"), vec![1; 90_000].into(), Expiry::Never).await.unwrap();
    assert!(has(&storage, "large").await && has(&storage, "small-999").await);
    assert!(storage.len() < before / 5, "{} of {before} entries are left", storage.len());
}

#[test]
fn bounds_hold_when_many_threads_write() {
    for when_full in [WhenFull::Refuse, WhenFull::Evict] {
        let storage =
            Arc::new(MemoryStorage::builder().max_entries(100).when_full(when_full).build().unwrap());
        thread::scope(|scope| {
            for thread in 0..8 {
                let storage = Arc::clone(&storage);
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        for index in 0..2000 {
                            let name = format!("{}", (index * 7 + thread * 13) % 500);
                            match put(&storage, &name).await {
                                Ok(()) => {}
                                Err(error) => assert_eq!(error.kind(), ErrorKind::StorageFull),
                            }
                            if index % 5 == 0 {
                                storage.delete(&key(&name)).await.unwrap();
                            }
                        }
                    });
                });
            }
        });
        assert!(storage.len() <= 100);
    }
}

//! The behavior of a full storage.

#![allow(clippy::unwrap_used)]

use std::thread;

use larder_core::{Bytes, Change, Error, ErrorKind, Expiry, Key, Result, Store};
use larder_memory::{Config, ENTRY_OVERHEAD, MemoryStorage, WhenFull};

/// Returns a storage, which can count its entries, and a store on it.
fn open(builder: &Config) -> (MemoryStorage, Store) {
    let storage = MemoryStorage::with(builder).unwrap();
    (storage.clone(), Store::from(storage))
}

fn key(text: impl AsRef<str>) -> Key {
    Key::new(text).unwrap()
}

async fn put(store: &Store, name: &str) -> Result<()> {
    store.write(name, Bytes::from_static(b"value")).await.map(drop)
}

async fn has(store: &Store, name: &str) -> bool {
    store.contains(name).await.unwrap()
}

#[tokio::test]
async fn a_full_storage_rejects_new_entries_and_keeps_the_old_ones() {
    let store = Config::new().max_entries(2).connect().await.unwrap();
    put(&store, "a").await.unwrap();
    put(&store, "b").await.unwrap();
    let error = put(&store, "c").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert!(!error.is_retryable());
    let create = store.write("c", "x").if_absent().await;
    assert_eq!(create.unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(has(&store, "a").await && has(&store, "b").await && !has(&store, "c").await);

    // An existing entry can be replaced, and a deletion makes room.
    put(&store, "a").await.unwrap();
    store.delete("b").await.unwrap();
    put(&store, "c").await.unwrap();
    store.clear("").await.unwrap();
    put(&store, "d").await.unwrap();
    put(&store, "e").await.unwrap();
    assert_eq!(put(&store, "f").await.unwrap_err().kind(), ErrorKind::StorageFull);
}

#[tokio::test]
async fn a_batch_reports_each_change_that_does_not_fit() {
    let store = Config::new().max_entries(2).connect().await.unwrap();
    let put = |name| Change::put(key(name), "x", Expiry::Never);
    let results = store.apply(["a", "b", "c", "a", "d"].map(put).into()).await;
    let kinds: Vec<_> = results.iter().map(|result| result.as_ref().err().map(Error::kind)).collect();
    let full = Some(ErrorKind::StorageFull);
    assert_eq!(kinds, [None, None, full, None, full]);
}

#[tokio::test]
async fn expired_entries_are_removed_before_a_write_is_rejected() {
    let (storage, store) = open(&Config::new().max_entries(1).sweep(None));
    store.write("old", "x").expiry(Expiry::after_millis(1)).await.unwrap();
    while has(&store, "old").await {
        tokio::task::yield_now().await;
    }
    assert_eq!(storage.len(), 1);
    put(&store, "new").await.unwrap();
    assert!(has(&store, "new").await);
    assert_eq!(storage.len(), 1);
}

#[tokio::test]
async fn max_bytes_counts_keys_values_and_overhead() {
    let entry = 1 + 100 + ENTRY_OVERHEAD;
    let store = Config::new().max_bytes(10 * entry).connect().await.unwrap();
    let value = Bytes::from(vec![7; 100]);
    for index in 0..10 {
        store.write(index.to_string(), value.clone()).await.unwrap();
    }
    let write = store.write("x", Bytes::new()).await;
    assert_eq!(write.unwrap_err().kind(), ErrorKind::StorageFull);
    // One byte is free now: one entry can grow by a byte, and a second one cannot.
    store.write("0", value.slice(..99)).await.unwrap();
    store.write("1", vec![7; 101]).await.unwrap();
    let write = store.write("2", vec![7; 101]).await;
    assert_eq!(write.unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(store.read("2").await.unwrap().unwrap().value, value);
}

#[tokio::test]
async fn the_largest_value_fits_under_the_longest_key() {
    for when_full in [WhenFull::Refuse, WhenFull::Evict] {
        let store = Config::new().max_bytes(4096).when_full(when_full).connect().await.unwrap();
        let most = usize::try_from(store.info().max_value.unwrap()).unwrap();
        let longest = key("k".repeat(Key::MAX_BYTES));
        store.write(&longest, vec![1; most]).await.unwrap();
        assert_eq!(store.read(&longest).await.unwrap().unwrap().value.len(), most);
        let write = store.write(&longest, vec![1; most + 1]).await;
        assert_eq!(write.unwrap_err().kind(), ErrorKind::TooLarge);
    }
}

#[tokio::test]
async fn the_least_recently_used_entry_is_evicted_first() {
    let (storage, store) = open(&Config::new().max_entries(4).when_full(WhenFull::Evict));
    for name in ["a", "b", "c", "d"] {
        put(&store, name).await.unwrap();
    }
    // Reads, writes and touches are use; `contains` and `ttl` are not.
    store.read("a").await.unwrap();
    put(&store, "b").await.unwrap();
    store.touch("c", Expiry::after_secs(60)).await.unwrap();
    has(&store, "d").await;
    store.ttl("d").await.unwrap();
    for (new, evicted) in [("e", "d"), ("f", "a"), ("g", "b"), ("h", "c"), ("i", "e")] {
        put(&store, new).await.unwrap();
        assert!(!has(&store, evicted).await, "{evicted} was not evicted by {new}");
        assert!(has(&store, new).await);
        assert_eq!(storage.len(), 4);
    }
}

#[tokio::test]
async fn a_large_value_evicts_many_small_entries() {
    let (storage, store) = open(&Config::new().max_bytes(100_000).when_full(WhenFull::Evict));
    for index in 0..1000 {
        put(&store, &format!("small-{index}")).await.unwrap();
    }
    let before = storage.len();
    store.write("large", vec![1; 90_000]).await.unwrap();
    assert!(has(&store, "large").await && has(&store, "small-999").await);
    assert!(storage.len() < before / 5, "{} of {before} entries are left", storage.len());
}

#[test]
fn limits_hold_under_concurrent_writes() {
    for when_full in [WhenFull::Refuse, WhenFull::Evict] {
        let (storage, store) = open(&Config::new().max_entries(100).when_full(when_full));
        thread::scope(|scope| {
            for thread in 0..8 {
                let (storage, store) = (storage.clone(), store.clone());
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        for index in 0..2000 {
                            let name = format!("{}", (index * 7 + thread * 13) % 500);
                            match put(&store, &name).await {
                                Ok(()) => {}
                                Err(error) => assert_eq!(error.kind(), ErrorKind::StorageFull),
                            }
                            if index % 5 == 0 {
                                store.delete(&name).await.unwrap();
                            }
                            // Holds while other threads write.
                            assert!(storage.len() <= 100);
                        }
                    });
                });
            }
        });
        assert!(storage.len() <= 100);
    }
}

#[tokio::test]
async fn a_read_with_a_touch_is_use_and_a_read_of_the_ttl_is_not() {
    let (storage, store) = open(&Config::new().max_entries(2).when_full(WhenFull::Evict));
    for name in ["a", "b"] {
        put(&store, name).await.unwrap();
    }
    store.read("a").touching(Expiry::after_secs(60)).await.unwrap();
    store.read("b").without_value().with_ttl().await.unwrap();
    put(&store, "c").await.unwrap();
    assert!(has(&store, "a").await && !has(&store, "b").await && has(&store, "c").await);
    assert_eq!(storage.len(), 2);
}

#[tokio::test]
async fn the_order_of_use_spans_all_maps() {
    const ENTRIES: usize = 200;
    let (storage, store) = open(&Config::new().max_entries(ENTRIES as u64).when_full(WhenFull::Evict));
    for index in 0..ENTRIES {
        put(&store, &index.to_string()).await.unwrap();
    }
    // In an order that differs from that of the writes: 77 and 200 have no common divisor.
    let used: Vec<_> = (0..ENTRIES).map(|index| (index * 77 % ENTRIES).to_string()).collect();
    for name in &used {
        store.read(name).await.unwrap().unwrap();
    }
    for (new, evicted) in used.iter().enumerate() {
        assert!(has(&store, evicted).await, "{evicted} was evicted before an entry that was used earlier");
        put(&store, &format!("new-{new}")).await.unwrap();
        assert!(!has(&store, evicted).await, "{evicted} was not evicted");
        assert_eq!(storage.len(), ENTRIES);
    }
}

#[tokio::test]
async fn a_growing_entry_evicts_others_and_not_itself() {
    let max = 3 * (1 + 400 + ENTRY_OVERHEAD);
    let (storage, store) = open(&Config::new().max_bytes(max).when_full(WhenFull::Evict));
    let first = store.write("a", vec![1; 400]).await.unwrap();
    for name in ["b", "c"] {
        store.write(name, vec![1; 400]).await.unwrap();
    }
    // "a" is the least recently used entry, and still has the version of its first write.
    store.write("a", vec![2; 401]).if_at(first.version.unwrap()).await.unwrap();
    assert_eq!(store.read("a").await.unwrap().unwrap().value, vec![2; 401]);
    assert!(!has(&store, "b").await && has(&store, "c").await);
    assert_eq!(storage.len(), 2);
}

#[test]
fn removed_entries_free_all_their_space() {
    const WEIGHT: u64 = 4 + 100 + ENTRY_OVERHEAD;
    for when_full in [WhenFull::Refuse, WhenFull::Evict] {
        let config = Config::new().max_bytes(50 * WEIGHT).max_entries(50).when_full(when_full).sweep(None);
        let (storage, store) = open(&config);
        thread::scope(|scope| {
            for thread in 0..4_usize {
                let store = store.clone();
                scope.spawn(move || {
                    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                    runtime.block_on(async {
                        for index in 0..2_000 {
                            let name = format!("{}", (index * 7 + thread * 13) % 120);
                            let expiry = match index % 3 {
                                0 => Expiry::after_millis(1),
                                _ => Expiry::Never,
                            };
                            // The value grows, shrinks, or keeps its size.
                            let value = vec![7; (index * 31 + thread) % 5 * 60];
                            match store.write(&name, value).expiry(expiry).await {
                                Ok(_) => {}
                                Err(error) => assert_eq!(error.kind(), ErrorKind::StorageFull),
                            }
                            match index % 50 {
                                0 => drop(store.clear("1").await.unwrap()),
                                10 => drop(store.purge_expired().await.unwrap()),
                                _ if index % 5 == 0 => drop(store.delete(&name).await.unwrap()),
                                _ => {}
                            }
                        }
                    });
                });
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            store.clear("").await.unwrap();
            for closed in [false, true] {
                let store = Store::from(storage.clone());
                for index in 0..50 {
                    store.write(format!("{index:04}"), vec![1; 100]).await.unwrap();
                }
                assert_eq!(storage.len(), 50, "after a close: {closed}");
                let one_more = store.write("more", vec![1; 100]).await;
                assert_eq!(one_more.is_err(), when_full == WhenFull::Refuse);
                assert_eq!(storage.len(), 50);
                // Closing one handle does not affect other handles on the storage.
                store.close().await.unwrap();
                assert!(storage.is_empty());
            }
        });
    }
}

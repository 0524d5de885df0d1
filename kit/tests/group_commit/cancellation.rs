//! Callers that drop their futures.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use larder_core::{Bytes, Storage, WriteOptions};

use crate::{
    begin, clear, commit, commit_with, delete, delete_many, key, occupy, probe::Probe, put, put_many,
    read_and_touch,
};

#[tokio::test]
async fn a_dropped_change_is_removed_from_the_queue() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let first = occupy(&storage, &probe).await;
    begin! { b = put(&storage, "b", "1"); }
    let e = &key("e");
    assert!(put(&storage, "a", "1").now_or_never().is_none());
    assert!(put_many(&storage, &[("c", "1"), ("d", "1")]).now_or_never().is_none());
    assert!(delete(&storage, e).now_or_never().is_none());
    assert!(read_and_touch(&storage, e).now_or_never().is_none());
    assert!(clear(&storage).now_or_never().is_none());
    probe.release_all();
    first.await.unwrap().unwrap();
    b.await.unwrap();
    storage.flush().await.unwrap();
    assert_eq!(probe.log(), ["write x=0", "write b=1"]);
}

#[tokio::test]
async fn the_queue_does_not_keep_the_values_of_dropped_changes() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let first = occupy(&storage, &probe).await;
    let value = Bytes::from(vec![0; 1_000]);
    for _ in 0..1_000 {
        let (key, options) = (key("a"), WriteOptions::new());
        assert!(storage.write(&key, value.clone(), &options).now_or_never().is_none());
    }
    assert!(value.is_unique(), "the queue still contains a value");
    probe.release_all();
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_batch_continues_when_one_of_its_callers_drops_its_future() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let first = occupy(&storage, &probe).await;
    let mut dropped = Box::pin(put(&storage, "a", "1"));
    assert!(futures_util::poll!(&mut dropped).is_pending());
    begin! { b = put(&storage, "b", "1"); }
    probe.release(1);
    first.await.unwrap().unwrap();
    probe.started(2).await;
    drop(dropped);
    probe.release(1);
    b.await.unwrap();
    assert_eq!(probe.log(), ["write x=0", "apply a=1 b=1"]);
    assert!(probe.value("a").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropped_writes_do_not_lose_acknowledged_ones() {
    for batches in [1, 3] {
        let probe = Probe::busy();
        let storage = commit_with(&probe, |builder| builder.max_batches(batches).max_batch(8));
        let writers = (0..32_u32).map(|writer| {
            let (storage, probe) = (Arc::clone(&storage), probe.clone());
            tokio::spawn(async move {
                let key = key(&format!("writer {writer}"));
                let mut acknowledged = 0;
                for number in 1..=200_u32 {
                    let value = Bytes::copy_from_slice(&number.to_be_bytes());
                    let options = WriteOptions::new();
                    let write = storage.write(&key, value, &options);
                    // A third of the writes are dropped, after a time that varies with the load.
                    let limit = if (number + writer) % 3 == 0 { Duration::ZERO } else { Duration::MAX };
                    if let Ok(outcome) = tokio::time::timeout(limit, write).await {
                        outcome.unwrap();
                        acknowledged = number;
                        let stored = probe.value(key.as_str()).unwrap();
                        assert!(stored[..] >= number.to_be_bytes()[..], "an acknowledged write is missing");
                    }
                }
                storage.flush().await.unwrap();
                let history = probe.history(&key);
                assert!(history.is_sorted(), "the order of writes was not kept");
                assert!(history.last().unwrap()[..] >= u32::to_be_bytes(acknowledged)[..]);
            })
        });
        for writer in writers.collect::<Vec<_>>() {
            writer.await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropped_deletes_do_not_delete_later_writes() {
    for batches in [1, 3] {
        let probe = Probe::busy();
        let storage = commit_with(&probe, |builder| builder.max_batches(batches).max_batch(8));
        let callers = (0..16_u32).map(|caller| {
            let (storage, probe) = (Arc::clone(&storage), probe.clone());
            tokio::spawn(async move {
                let key = key(&format!("caller {caller}"));
                for number in 0..200_u32 {
                    let limit = Duration::ZERO;
                    if number % 2 == 0 {
                        let _ = tokio::time::timeout(limit, delete(&storage, &key)).await;
                    } else {
                        let _ = tokio::time::timeout(limit, delete_many(&storage, &key)).await;
                    }
                    put(&storage, key.as_str(), "1").await.unwrap();
                    storage.flush().await.unwrap();
                    assert!(probe.value(key.as_str()).is_some(), "an acknowledged write is missing");
                }
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
    }
}

//! Callers that go away.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use larder_core::{Bytes, Storage, WriteOptions};

use crate::{begin, commit, commit_with, key, probe::Probe, put, put_many};

#[tokio::test]
async fn a_queued_write_whose_caller_goes_is_taken_out() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    begin! { first = put(&storage, "x", "0"); b = put(&storage, "b", "1"); }
    {
        begin! {
            gone = put(&storage, "a", "1");
            also_gone = put_many(&storage, &[("c", "1"), ("d", "1")]);
        }
        let _ = (&mut gone, &mut also_gone);
    }
    probe.let_all_go();
    first.await.unwrap();
    b.await.unwrap();
    storage.flush().await.unwrap();
    assert_eq!(probe.log(), ["write x=0", "write b=1"]);
}

#[tokio::test]
async fn a_batch_goes_on_when_one_of_its_callers_goes() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let mut gone = Box::pin(put(&storage, "a", "1"));
    begin! { first = put(&storage, "x", "0"); }
    assert!((&mut gone).now_or_never().is_none());
    begin! { b = put(&storage, "b", "1"); }
    probe.let_go(1);
    first.await.unwrap();
    probe.started(2).await;
    drop(gone);
    probe.let_go(1);
    b.await.unwrap();
    assert_eq!(probe.log(), ["write x=0", "apply a=1 b=1"]);
    assert!(probe.value("a").is_some());
}

#[tokio::test]
async fn a_write_whose_caller_goes_midway_is_carried_to_its_end_and_the_queue_served() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let mut leader = Box::pin(put(&storage, "a", "1"));
    assert!((&mut leader).now_or_never().is_none());
    begin! { b = put(&storage, "b", "1"); }
    drop(leader);
    // It still has the lane's turn: nothing else may start.
    tokio::task::yield_now().await;
    assert_eq!(probe.log(), ["write a=1"]);
    probe.let_all_go();
    b.await.unwrap();
    assert_eq!(probe.log(), ["write a=1", "write b=1"]);
    assert_eq!(probe.value("a").unwrap(), "1");
}

#[tokio::test]
async fn a_dropped_write_does_not_come_after_a_later_one() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let mut dropped = Box::pin(put(&storage, "a", "1"));
    assert!((&mut dropped).now_or_never().is_none());
    drop(dropped);
    begin! { later = put(&storage, "a", "2"); }
    probe.let_all_go();
    later.await.unwrap();
    assert_eq!(probe.log(), ["write a=1", "write a=2"]);
    assert_eq!(probe.value("a").unwrap(), "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_dropped_at_any_point_lose_nothing_that_was_acknowledged() {
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
                    // A third of them is dropped, after a time that varies with the load.
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

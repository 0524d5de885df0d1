//! Closing, runtimes that end, and load.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use larder_core::{Bytes, Change, ErrorKind, Expiry, Outcome, Storage, Store, WriteOptions};
use larder_kit::GroupCommit;
use tokio::runtime::Runtime;

use crate::{
    begin, clear, commit, commit_with, delete, key, occupy,
    probe::{Fault, Probe},
    put, put_many,
};

#[tokio::test]
async fn a_close_waits_for_earlier_writes_and_rejects_later_ones() {
    let probe = Probe::gated();
    let store = Store::from(GroupCommit::builder(probe.clone()).max_batches(2).build());
    let write = |key, value| store.write(key, value).into_future();
    begin! { first = write("a", "1"); second = write("b", "2"); close = store.close(); }
    let later = store.write("b", "1").await.unwrap_err();
    assert_eq!((later.kind(), later.adapter()), (ErrorKind::Closed, Some("probe")));
    let many = store.apply(vec![Change::put(key("b"), "1", Expiry::Never)]).await;
    assert_eq!(many[0].as_ref().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.delete("b").await.unwrap_err().kind(), ErrorKind::Closed);
    probe.release_all();
    close.await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    assert!(probe.value("a").is_some() && probe.value("b").is_some());
    assert_eq!(probe.log().last().unwrap(), "close");
    store.close().await.unwrap();
    assert_eq!(store.write("b", "1").await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn tasks_end_after_the_running_batches() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let mut running = Box::pin(put(&storage, "a", "1"));
    assert!((&mut running).now_or_never().is_none());
    probe.started(1).await;
    assert!(put(&storage, "b", "1").now_or_never().is_none());
    drop(running);
    drop(storage);
    probe.release_all();
    while probe.handles() > 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(probe.log(), ["write a=1"]);
    assert!(probe.value("a").is_some());
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn another_runtime_serves_the_queue_of_a_runtime_that_ended() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let (first, second) = (runtime(), runtime());
    // The batch of `b` and `c` runs in a task of the first runtime, which ends before the batch.
    let (mut b, mut c) = (Box::pin(put(&storage, "b", "1")), Box::pin(put(&storage, "c", "1")));
    let (mut d, mut e) = (Box::pin(put(&storage, "d", "1")), Box::pin(put(&storage, "e", "1")));
    first.block_on(async {
        assert!((&mut b).now_or_never().is_none() && (&mut c).now_or_never().is_none());
        probe.started(1).await;
        assert!((&mut d).now_or_never().is_none());
    });
    second.block_on(async { assert!((&mut e).now_or_never().is_none()) });
    drop(first);
    probe.release_all();
    second.block_on(async {
        for outcome in [b.await, c.await] {
            let error = outcome.unwrap_err();
            assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::Unknown));
        }
        e.await.unwrap();
        let error = d.await.unwrap_err();
        assert_eq!((error.kind(), error.outcome()), (ErrorKind::Unavailable, Outcome::NotApplied));
        put_many(&storage, &[("f", "1")]).await.unwrap();
    });
    assert_eq!(probe.log(), ["apply b=1 c=1", "write e=1", "write f=1"]);
}

#[test]
fn an_idle_runtime_does_not_block_an_idle_lane() {
    let storage = commit(&Probe::open());
    let (first, second) = (runtime(), runtime());
    // After a batch with several changes, the task waits for more.
    first.block_on(put_many(&storage, &[("a", "1"), ("b", "1")])).unwrap();
    // The first runtime still exists, but nothing drives it.
    let write = async { tokio::time::timeout(Duration::from_secs(5), put(&storage, "a", "2")).await };
    second.block_on(write).unwrap().unwrap();
}

#[test]
fn thousands_of_calls_end_with_their_runtime() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let (first, second) = (runtime(), runtime());
    let calls: Vec<_> = first.block_on(async {
        let occupied = occupy(&storage, &probe).await;
        drop(occupied);
        let calls = (0..100_000).map(|_| {
            let mut call = Box::pin(put(&storage, "a", "1"));
            assert!((&mut call).now_or_never().is_none());
            call
        });
        calls.collect()
    });
    drop(first);
    probe.release_all();
    second.block_on(async {
        for call in calls {
            assert_eq!(call.await.unwrap_err().outcome(), Outcome::NotApplied);
        }
        put(&storage, "b", "1").await.unwrap();
    });
}

#[test]
fn a_lane_still_waits_for_a_clear_after_its_runtime_has_ended() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let first = runtime();
    let second = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    // The first runtime serves the lane. The second one runs the clear.
    let mut write = Box::pin(put(&storage, "a", "1"));
    first.block_on(async {
        assert!((&mut write).now_or_never().is_none());
        probe.started(1).await;
    });
    let clearing = second.spawn(Arc::clone(&storage).clear(""));
    probe.release(1);
    first.block_on(async {
        write.await.unwrap();
        probe.started(2).await;
    });
    drop(first);
    second.block_on(async {
        begin! { later = put(&storage, "b", "1"); }
        tokio::task::yield_now().await;
        assert_eq!(probe.log(), ["write a=1", "clear "]);
        probe.release_all();
        clearing.await.unwrap().unwrap();
        later.await.unwrap();
    });
    assert_eq!(probe.log(), ["write a=1", "clear ", "write b=1"]);
}

#[tokio::test]
async fn a_caller_that_stops_polling_does_not_block_others() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    begin! { idle = put(&storage, "a", "1"); }
    probe.release_all();
    // `idle` still exists but is not polled, while other calls depend on the end of its write.
    put(&storage, "b", "1").await.unwrap();
    delete(&storage, &key("a")).await.unwrap();
    put_many(&storage, &[("c", "1")]).await.unwrap();
    idle.await.unwrap();
}

#[test]
fn a_change_outside_a_runtime_is_an_error() {
    let storage = commit(&Probe::open());
    let error = put(&storage, "b", "1").now_or_never().unwrap().unwrap_err();
    assert_eq!((error.kind(), error.outcome()), (ErrorKind::InvalidConfig, Outcome::NotApplied));
    assert!(error.message().contains("tokio"));
    assert!(put_many(&storage, &[("a", "1")]).now_or_never().unwrap().is_err());
    assert!(clear(&storage).now_or_never().unwrap().is_err());
}

#[tokio::test]
async fn many_queued_changes_are_all_applied() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let first = occupy(&storage, &probe).await;
    let names: Vec<_> = (0..100_000).map(|number| key(&number.to_string())).collect();
    let changes = names.iter().map(|name| Change::put(name.clone(), "1", Expiry::Never));
    begin! { apply = storage.apply(changes.collect()); }
    probe.release_all();
    first.await.unwrap().unwrap();
    assert!(apply.await.iter().all(Result::is_ok));
    assert!(names.iter().all(|name| probe.value(name.as_str()).is_some()));
    assert_eq!(probe.log().len(), 1 + 100_000_usize.div_ceil(256));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn acknowledged_writes_are_stored_under_load() {
    let probe = Probe::busy();
    probe.fault("bad", Fault::Reject);
    let storage = commit_with(&probe, |builder| builder.max_batches(2).max_batch(16));
    let names: Vec<_> = (0..2_000).map(|number| key(&number.to_string())).collect();
    let (storage, names) = (&storage, &names);
    let mut writes: FuturesUnordered<_> = (0..names.len())
        .map(|number| async move {
            let value = if number % 7 == 0 { "bad" } else { "good" };
            let value = Bytes::from_static(value.as_bytes());
            let outcome = storage.write(&names[number], value, &WriteOptions::new()).await;
            (number, outcome)
        })
        .collect();
    while let Some((number, outcome)) = writes.next().await {
        assert_eq!(outcome.is_ok(), number % 7 != 0);
        assert_eq!(probe.value(names[number].as_str()).is_some(), outcome.is_ok());
    }
    // The writes are grouped: there are far fewer calls than writes.
    assert!(probe.log().len() < 1_000, "{} calls", probe.log().len());
}

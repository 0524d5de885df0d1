//! From the first write to the last.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use larder_core::{Bytes, Change, ErrorKind, Expiry, Storage, Store, WriteOptions};
use larder_kit::GroupCommit;

use crate::{
    begin, commit, commit_with, delete, key,
    probe::{Fault, Probe},
    put, put_many,
};

#[tokio::test]
async fn close_lets_earlier_writes_finish_and_fails_later_ones() {
    let probe = Probe::gated();
    let store = Store::from(GroupCommit::builder(probe.clone()).max_batches(2).build());
    let write = |key, value| store.write(key, value).into_future();
    begin! { first = write("a", "1"); second = write("a", "2"); close = store.close(); }
    let later = store.write("b", "1").await.unwrap_err();
    assert_eq!((later.kind(), later.adapter()), (ErrorKind::Closed, Some("probe")));
    let many = store.apply(vec![Change::put(key("b"), "1", Expiry::Never)]).await;
    assert_eq!(many[0].as_ref().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(store.delete("b").await.unwrap_err().kind(), ErrorKind::Closed);
    probe.let_all_go();
    close.await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(probe.log(), ["write a=1", "write a=2", "close"]);
    store.close().await.unwrap();
    assert_eq!(store.write("b", "1").await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn no_task_outlives_the_storage() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let mut leader = Box::pin(put(&storage, "a", "1"));
    let mut queued = Box::pin(put(&storage, "b", "1"));
    assert!((&mut leader).now_or_never().is_none() && (&mut queued).now_or_never().is_none());
    drop((leader, queued));
    assert!(probe.holders() > 1);
    drop(storage);
    tokio::time::timeout(Duration::from_secs(10), async {
        while probe.holders() > 1 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("a task still holds the storage");
}

#[test]
fn a_runtime_that_ends_midway_leaves_the_storage_usable_from_another() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let probe = Probe::gated();
    let storage = commit(&probe);
    let (first, second) = (runtime(), runtime());
    // The batch of `b` and `c` runs in a task of the first runtime, which ends before it does.
    let (mut b, mut c) = (Box::pin(put(&storage, "b", "1")), Box::pin(put(&storage, "c", "1")));
    first.block_on(async {
        begin! { a = put(&storage, "a", "1"); }
        assert!((&mut b).now_or_never().is_none() && (&mut c).now_or_never().is_none());
        probe.let_go(1);
        a.await.unwrap();
        probe.started(2).await;
    });
    drop(first);
    second.block_on(async {
        for outcome in [b.await, c.await] {
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
        }
        probe.let_all_go();
        put(&storage, "d", "1").await.unwrap();
        put_many(&storage, &[("e", "1")]).await.unwrap();
    });
}

#[tokio::test]
async fn a_caller_that_stops_polling_holds_nobody_up() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    begin! { idle = put(&storage, "a", "1"); }
    probe.let_all_go();
    // `idle` is alive and is not polled while others depend on the end of its write.
    put(&storage, "b", "1").await.unwrap();
    delete(&storage, &key("a")).await.unwrap();
    put_many(&storage, &[("c", "1")]).await.unwrap();
    idle.await.unwrap();
    assert_eq!(probe.log()[..2], ["write a=1", "write b=1"]);
}

#[test]
fn outside_a_runtime_a_write_that_would_queue_says_so() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let mut leader = Box::pin(put(&storage, "a", "1"));
    assert!((&mut leader).now_or_never().is_none());
    let error = put(&storage, "b", "1").now_or_never().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    assert!(error.message().contains("tokio"));
    probe.let_all_go();
    leader.now_or_never().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_that_is_acknowledged_is_stored_under_load() {
    let probe = Probe::busy();
    probe.fault("bad", Fault::Refuse);
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
    // Grouped, and nowhere near one call per write.
    assert!(probe.log().len() < 1_000, "{} calls", probe.log().len());
}

//! From the first write to the last.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use larder_core::{Bytes, ErrorKind, Expiry, Storage, Write};
use larder_layers::Coalesce;

use crate::{
    begin, key,
    probe::{Fault, Probe},
    put,
};

#[tokio::test]
async fn close_lets_earlier_writes_finish_and_fails_later_ones() {
    let probe = Probe::gated();
    let storage = Coalesce::builder(probe.clone()).lanes(2).build();
    begin! { first = put(&storage, "a", "1"); second = put(&storage, "a", "2"); close = storage.close(); }
    let later = put(&storage, "b", "1").await.unwrap_err();
    assert_eq!((later.kind(), later.adapter()), (ErrorKind::Closed, Some("probe")));
    let many = storage.write_many(&[Write::new(key("b"), "1", Expiry::Never)]).await.unwrap_err();
    assert_eq!(many.kind(), ErrorKind::Closed);
    assert_eq!(storage.delete(&key("b")).await.unwrap_err().kind(), ErrorKind::Closed);
    probe.let_all_go();
    close.await.unwrap();
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(probe.log(), ["write a=1", "write a=2", "close"]);
    storage.close().await.unwrap();
    assert_eq!(storage.write_many(&[]).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn no_task_outlives_the_storage() {
    let probe = Probe::gated();
    let storage = Coalesce::new(probe.clone());
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
    let storage = Coalesce::new(probe.clone());
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
        storage.write_many(&[Write::new(key("e"), "1", Expiry::Never)]).await.unwrap();
    });
}

#[tokio::test]
async fn a_caller_who_stops_polling_holds_nobody_up() {
    let probe = Probe::gated();
    let storage = Coalesce::new(probe.clone());
    begin! { idle = put(&storage, "a", "1"); }
    probe.let_all_go();
    // `idle` is alive and is not polled while others depend on the end of its write.
    put(&storage, "b", "1").await.unwrap();
    storage.delete(&key("a")).await.unwrap();
    storage.write_many(&[Write::new(key("c"), "1", Expiry::Never)]).await.unwrap();
    idle.await.unwrap();
    assert_eq!(probe.log()[..2], ["write a=1", "write b=1"]);
}

#[test]
fn outside_a_runtime_a_write_that_would_queue_says_so() {
    let probe = Probe::gated();
    let storage = Coalesce::new(probe.clone());
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
    let storage = Coalesce::builder(probe.clone()).lanes(2).max_batch(16).build();
    let names: Vec<_> = (0..2_000).map(|number| key(&number.to_string())).collect();
    let (storage, names) = (&storage, &names);
    let mut writes: FuturesUnordered<_> = (0..names.len())
        .map(|number| async move {
            let value = if number % 7 == 0 { "bad" } else { "good" };
            let outcome =
                storage.write(&names[number], Bytes::from_static(value.as_bytes()), Expiry::Never).await;
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

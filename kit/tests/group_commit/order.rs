//! The order of calls.

use std::sync::Arc;

use futures_util::FutureExt;
use larder_core::{ReadOptions, Storage};

use crate::{
    all_ok, begin, clear, commit, commit_with, delete, delete_if, delete_many, key, occupy, probe::Probe,
    put, put_many, read_and_touch, read_and_touch_many, touch, write_if,
};

/// Drops the future of each change of `a` while the change runs. Checks that the change runs to its end, and that a
/// later write of `a` comes after it.
macro_rules! runs_to_its_end {
    ($($name:ident: $log:literal, |$storage:ident, $a:ident| $call:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            for batches in [1, 4] {
                let probe = Probe::gated();
                let $storage = commit_with(&probe, |builder| builder.max_batches(batches));
                let $a = &key("a");
                let mut dropped = Box::pin($call);
                assert!(futures_util::poll!(&mut dropped).is_pending());
                probe.started(1).await;
                drop(dropped);
                begin! { later = put(&$storage, "a", "2"); flush = $storage.flush(); }
                tokio::task::yield_now().await;
                assert_eq!(probe.log(), [$log]);
                assert!(futures_util::poll!(&mut flush).is_pending());
                probe.release_all();
                all_ok!(later, flush);
                assert_eq!(probe.log(), [$log, "write a=2"]);
                assert_eq!(probe.value("a").unwrap(), "2");
            }
        }
    )+};
}

runs_to_its_end! {
    dropped_write_does_not_come_after_a_later_write: "write a=1", |storage, a| put(&storage, a.as_str(), "1");
    dropped_write_if_does_not_come_after_a_later_write: "write ?a=", |storage, a| write_if(&storage, a);
    dropped_delete_does_not_come_after_a_later_write: "delete -a", |storage, a| delete(&storage, a);
    dropped_delete_if_does_not_come_after_a_later_write: "delete ?-a", |storage, a| delete_if(&storage, a);
    dropped_touch_does_not_come_after_a_later_write: "touch ~a", |storage, a| touch(&storage, a);
    dropped_apply_does_not_come_after_a_later_write: "delete -a", |storage, a| delete_many(&storage, a);
    dropped_read_that_touches_does_not_come_after_a_later_write:
        "read ~a", |storage, a| read_and_touch(&storage, a);
    dropped_clear_does_not_come_after_a_later_write: "clear ", |storage, a| { let _ = a; clear(&storage) };
}

/// Checks that each call comes after a queued write of `a`.
macro_rules! follows {
    ($($name:ident: $log:literal, |$storage:ident, $a:ident| $call:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            let probe = Probe::gated();
            let $storage = commit_with(&probe, |builder| builder.max_batch(1));
            let $a = &key("a");
            let first = occupy(&$storage, &probe).await;
            begin! { queued = put(&$storage, "a", "1"); call = $call; }
            probe.release(2);
            first.await.unwrap().unwrap();
            queued.await.unwrap();
            probe.release_all();
            call.await.unwrap();
            assert_eq!(probe.log(), ["write x=0", "write a=1", $log]);
        }
    )+};
}

follows! {
    write_follows_a_write: "write a=2", |storage, a| put(&storage, a.as_str(), "2");
    write_if_follows_a_write: "write ?a=", |storage, a| write_if(&storage, a);
    delete_follows_a_write: "delete -a", |storage, a| delete(&storage, a);
    delete_if_follows_a_write: "delete ?-a", |storage, a| delete_if(&storage, a);
    touch_follows_a_write: "touch ~a", |storage, a| touch(&storage, a);
    read_that_touches_follows_a_write: "read ~a", |storage, a| read_and_touch(&storage, a);
    reads_that_touch_follow_a_write: "read ~a", |storage, a| read_and_touch_many(&storage, a);
    apply_follows_a_write: "delete -a", |storage, a| delete_many(&storage, a);
    clear_follows_a_write: "clear ", |storage, a| { let _ = a; clear(&storage) };
    close_follows_a_write: "close", |storage, a| { let _ = a; storage.close() };
}

#[tokio::test]
async fn changes_wait_for_an_earlier_clear() {
    for batches in [1, 4] {
        let probe = Probe::gated();
        let storage = commit_with(&probe, |builder| builder.max_batches(batches));
        let first = occupy(&storage, &probe).await;
        begin! { clear = clear(&storage); b = put(&storage, "b", "1"); c = put(&storage, "c", "1"); }
        probe.release(1);
        first.await.unwrap().unwrap();
        probe.started(2).await;
        assert_eq!(probe.log()[1..], ["clear "]);
        probe.release_all();
        all_ok!(clear, b, c);
        assert!(probe.value("b").is_some() && probe.value("c").is_some() && probe.value("x").is_none());
    }
}

#[tokio::test]
async fn clears_from_several_tasks_do_not_wait_for_each_other() {
    let probe = Probe::busy();
    let storage = commit_with(&probe, |builder| builder.max_batches(4));
    let clears = (0..32).map(|number: u32| {
        let storage = Arc::clone(&storage);
        tokio::spawn(async move {
            put_many(&storage, &[("a", "1"), ("b", "1"), ("c", "1")]).await.unwrap();
            if number.is_multiple_of(2) { clear(&storage).await.map(drop) } else { storage.flush().await }
        })
    });
    for clear in clears.collect::<Vec<_>>() {
        clear.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_clear_that_is_dropped_before_it_begins_does_not_happen() {
    let probe = Probe::gated();
    let storage = commit_with(&probe, |builder| builder.max_batches(2));
    let first = occupy(&storage, &probe).await;
    assert!(clear(&storage).now_or_never().is_none());
    begin! { later = put(&storage, "a", "1"); }
    probe.release_all();
    first.await.unwrap().unwrap();
    later.await.unwrap();
    storage.flush().await.unwrap();
    assert_eq!(probe.log(), ["write x=0", "write a=1"]);
}

#[tokio::test]
async fn reads_do_not_wait_for_changes() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let a = key("a");
    let options = ReadOptions::new().with_ttl();
    begin! { write = put(&storage, "a", "1"); }
    assert_eq!(storage.read(&a, &options).await.unwrap(), None);
    assert!(storage.read_many(std::slice::from_ref(&a), &options).await[0].as_ref().unwrap().is_none());
    probe.release_all();
    write.await.unwrap();
    assert_eq!(storage.read(&a, &options).await.unwrap().unwrap().value, "1");
}

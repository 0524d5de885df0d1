//! Operations whose callers go away while they are on their way to the store.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;
use larder_core::Storage;

use crate::{
    all_ok, begin, clear, commit, commit_with, delete, delete_if, delete_many, key, probe::Probe, put,
    put_many, read_and_touch, touch, write_if,
};

/// Begins an operation and drops it: it is polled once, which is not enough.
macro_rules! forsake {
    ($call:expr) => {
        assert!($call.now_or_never().is_none())
    };
}

/// Drops each operation on `a` midway, and checks that it is carried to its end, that later writes of
/// `a` come after it, in their order, and that writes of `b` wait for it only where they have to.
macro_rules! carried {
    ($($name:ident: $log:literal, holds_up_others: $all:literal, |$storage:ident, $a:ident| $call:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            for batches in [1, 4] {
                let probe = Probe::gated();
                let $storage = commit_with(&probe, |builder| builder.max_batches(batches).max_batch(1));
                let $a = &key("a");
                forsake!($call);
                begin! {
                    later = put(&$storage, "a", "1");
                    latest = put(&$storage, "a", "2");
                    other = put(&$storage, "b", "1");
                }
                tokio::task::yield_now().await;
                let expected: &[_] = if $all { &[$log] } else { &[$log, "write b=1"] };
                assert_eq!(probe.log(), expected);
                probe.let_all_go();
                all_ok!(later, latest, other);
                assert_eq!(probe.history($a), ["1", "2"]);
                assert_eq!(probe.value("a").unwrap(), "2");
                assert_eq!(probe.value("b").unwrap(), "1");
            }
        }
    )+};
}

carried! {
    a_dropped_delete_does_not_come_after_a_later_write:
        "delete a", holds_up_others: false, |storage, a| delete(&storage, a);
    a_dropped_touch_does_not_come_after_a_later_write:
        "touch a", holds_up_others: false, |storage, a| touch(&storage, a);
    a_dropped_write_if_does_not_come_after_a_later_write:
        "write_if a", holds_up_others: false, |storage, a| write_if(&storage, a);
    a_dropped_read_that_touches_does_not_come_after_a_later_write:
        "read_and_touch a", holds_up_others: false, |storage, a| read_and_touch(&storage, a);
    a_dropped_delete_if_does_not_come_after_a_later_write:
        "delete_if a", holds_up_others: false, |storage, a| delete_if(&storage, a);
    a_dropped_apply_does_not_come_after_a_later_write:
        "apply -a", holds_up_others: false, |storage, a| delete_many(&storage, a);
    a_dropped_clear_does_not_come_after_any_later_write:
        "clear ", holds_up_others: true, |storage, a| { let _ = a; clear(&storage) };
}

/// Checks that each later operation starts only after a dropped delete of its key has ended.
macro_rules! waits {
    ($($name:ident: |$storage:ident, $a:ident| $call:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            let probe = Probe::gated();
            let $storage = commit_with(&probe, |builder| builder.max_batches(2));
            let $a = &key("a");
            forsake!(delete(&$storage, $a));
            begin! { later = $call; }
            tokio::task::yield_now().await;
            assert!(futures_util::poll!(&mut later).is_pending());
            assert_eq!(probe.log(), ["delete a"]);
            probe.let_all_go();
            later.await.unwrap();
            assert_eq!(probe.log()[0], "delete a");
        }
    )+};
}

waits! {
    an_apply_of_puts_waits_for_a_dropped_delete: |storage, a| async {
        put_many(&storage, &[(a.as_str(), "1")]).await
    };
    a_delete_waits_for_a_dropped_one: |storage, a| delete(&storage, a);
    a_touch_waits_for_a_dropped_delete: |storage, a| touch(&storage, a);
    a_write_if_waits_for_a_dropped_delete: |storage, a| write_if(&storage, a);
    a_delete_if_waits_for_a_dropped_delete: |storage, a| delete_if(&storage, a);
    a_read_that_touches_waits_for_a_dropped_delete: |storage, a| read_and_touch(&storage, a);
    an_apply_of_deletes_waits_for_a_dropped_delete: |storage, a| delete_many(&storage, a);
    a_clear_waits_for_a_dropped_delete: |storage, a| { let _ = a; clear(&storage) };
    a_flush_waits_for_a_dropped_delete: |storage, a| { let _ = a; storage.flush() };
    a_close_waits_for_a_dropped_delete: |storage, a| { let _ = a; storage.close() };
}

#[tokio::test]
async fn a_flush_waits_for_the_writes_behind_a_dropped_delete() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    forsake!(delete(&storage, &key("a")));
    begin! { later = put(&storage, "a", "1"); flush = storage.flush(); }
    probe.let_all_go();
    flush.await.unwrap();
    assert_eq!(probe.value("a").unwrap(), "1");
    later.await.unwrap();
}

#[tokio::test]
async fn a_delete_that_is_dropped_while_it_waits_does_not_happen() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    begin! { write = put(&storage, "a", "1"); }
    forsake!(delete(&storage, &key("a")));
    probe.let_all_go();
    write.await.unwrap();
    storage.flush().await.unwrap();
    assert_eq!(probe.log(), ["write a=1"]);
}

#[tokio::test]
async fn an_operation_in_flight_does_not_outlive_the_storage() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    forsake!(delete(&storage, &key("a")));
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
fn an_operation_in_flight_that_ends_with_its_runtime_holds_nobody_up() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let probe = Probe::gated();
    let storage = commit(&probe);
    let (first, second) = (runtime(), runtime());
    first.block_on(async { forsake!(delete(&storage, &key("a"))) });
    let mut held = Box::pin(put(&storage, "a", "1"));
    second.block_on(async { assert!((&mut held).now_or_never().is_none()) });
    assert_eq!(probe.log(), ["delete a"]);
    drop(first);
    probe.let_all_go();
    second.block_on(held).unwrap();
    assert_eq!(probe.log(), ["delete a", "write a=1"]);
}

#[test]
fn outside_a_runtime_a_dropped_delete_holds_nobody_up() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    forsake!(delete(&storage, &key("a")));
    probe.let_all_go();
    put(&storage, "a", "1").now_or_never().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn dropped_deletes_take_away_nothing_that_was_acknowledged_later() {
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

//! What waits for what.

use futures_util::FutureExt;
use larder_core::{ReadOptions, Storage};

use crate::{
    begin, clear, commit, delete, delete_if, delete_many, key, probe::Probe, put, read_and_touch,
    read_and_touch_many, touch, write_if,
};

/// Begins each other operation on `a` after a write of `a` was queued or begun and dropped, and
/// checks that it starts only after that write has come to its end.
macro_rules! waits {
    ($($name:ident: |$storage:ident| $call:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            // Under way, its caller gone.
            let probe = Probe::gated();
            let $storage = commit(&probe);
            let a = key("a");
            let mut dropped = Box::pin(put(&$storage, "a", "1"));
            assert!((&mut dropped).now_or_never().is_none());
            drop(dropped);
            {
                begin! { operation = { let a = &a; let _ = a; $call(a) }; }
                tokio::task::yield_now().await;
                assert_eq!(probe.log(), ["write a=1"], "it did not wait for a write under way");
                probe.let_go(2);
                drop(operation.await);
            }
            assert_eq!(probe.log().len(), 2);

            // Queued, its caller waiting.
            let probe = Probe::gated();
            let $storage = commit(&probe);
            begin! {
                first = put(&$storage, "x", "0");
                queued = put(&$storage, "a", "2");
                operation = { let a = &a; let _ = a; $call(a) };
            }
            tokio::task::yield_now().await;
            assert_eq!(probe.log(), ["write x=0"], "it did not wait for a queued write");
            probe.let_go(2);
            first.await.unwrap();
            queued.await.unwrap();
            let polled = futures_util::poll!(&mut operation).is_pending();
            assert!(polled, "{:?}", probe.log());
            probe.let_go(1);
            drop(operation.await);
            assert_eq!(probe.log()[..2], ["write x=0", "write a=2"]);
            assert_eq!(probe.log().len(), 3);
        }
    )+};
}

waits! {
    a_delete_waits_for_a_write_of_its_key: |storage| |a| delete(&storage, a);
    a_write_if_waits_for_a_write_of_its_key: |storage| |a| write_if(&storage, a);
    a_touch_waits_for_a_write_of_its_key: |storage| |a| touch(&storage, a);
    a_read_that_touches_waits_for_a_write_of_its_key: |storage| |a| read_and_touch(&storage, a);
    reads_that_touch_wait_for_a_write_of_their_keys: |storage| |a| read_and_touch_many(&storage, a);
    an_apply_of_deletes_waits_for_a_write_of_its_keys: |storage| |a| delete_many(&storage, a);
    a_clear_waits_for_writes: |storage| |_| clear(&storage);
}

#[tokio::test]
async fn a_delete_if_waits_for_a_write_of_its_key() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let a = key("a");
    begin! { write = put(&storage, "a", "1"); delete = delete_if(&storage, &a); }
    assert_eq!(probe.log(), ["write a=1"]);
    probe.let_go(2);
    write.await.unwrap();
    delete.await.unwrap();
    assert_eq!(probe.log(), ["write a=1", "delete_if a"]);
}

#[tokio::test]
async fn other_keys_do_not_wait() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let b = key("b");
    begin! { write = put(&storage, "a", "1"); queued = put(&storage, "c", "1"); delete = delete(&storage, &b); }
    assert_eq!(probe.log(), ["write a=1", "delete b"]);
    probe.let_all_go();
    assert!(!delete.await.unwrap());
    write.await.unwrap();
    queued.await.unwrap();
}

#[tokio::test]
async fn reads_pass_through() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let a = key("a");
    let options = ReadOptions::new().with_ttl();
    begin! { write = put(&storage, "a", "1"); }
    assert_eq!(storage.read(&a, &options).await.unwrap(), None);
    assert!(storage.read_many(std::slice::from_ref(&a), &options).await[0].as_ref().unwrap().is_none());
    probe.let_all_go();
    write.await.unwrap();
    assert_eq!(storage.read(&a, &options).await.unwrap().unwrap().value, "1");
}

//! What goes together, and when.

use futures_util::{FutureExt, poll};
use larder_core::{Bytes, Storage, WriteOptions};

use crate::{all_ok, begin, commit, commit_with, key, probe::Probe, put, put_many};

#[test]
fn an_idle_storage_runs_the_write_in_its_callers_task() {
    // No runtime, so nothing can have been spawned, and ready at the first poll.
    let probe = Probe::open();
    let storage = commit(&probe);
    for value in ["1", "2"] {
        put(&storage, "a", value).now_or_never().unwrap().unwrap();
    }
    assert_eq!(probe.log(), ["write a=1", "write a=2"]);
}

#[tokio::test]
async fn writes_gather_while_a_batch_is_under_way() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    begin! { first = put(&storage, "a", "1"); b = put(&storage, "b", "1"); c = put(&storage, "c", "1"); }
    probe.let_go(1);
    first.await.unwrap();
    probe.started(2).await;
    begin! { d = put(&storage, "d", "1"); e = put(&storage, "e", "1"); }
    probe.let_go(2);
    all_ok!(b, c, d, e);
    assert_eq!(probe.log(), ["write a=1", "apply b=1 c=1", "apply d=1 e=1"]);
}

#[tokio::test]
async fn a_write_is_acknowledged_only_after_its_batch() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    begin! { first = put(&storage, "a", "1"); b = put(&storage, "b", "1"); c = put(&storage, "c", "1"); }
    probe.let_go(1);
    first.await.unwrap();
    probe.started(2).await;
    assert!(poll!(&mut b).is_pending() && poll!(&mut c).is_pending());
    assert_eq!(probe.value("b"), None);
    probe.let_go(1);
    b.await.unwrap();
    c.await.unwrap();
    assert!(probe.value("b").is_some() && probe.value("c").is_some());
}

#[tokio::test]
async fn a_batch_is_sorted_and_names_each_key_once_with_its_last_value() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    begin! {
        first = put(&storage, "x", "0");
        c1 = put(&storage, "c", "1");
        a1 = put(&storage, "a", "1");
        b = put(&storage, "b", "1");
        a2 = put(&storage, "a", "2");
        c2 = put(&storage, "c", "2");
        a3 = put(&storage, "a", "3");
    }
    probe.let_all_go();
    all_ok!(first, c1, a1, b, a2, c2, a3);
    assert_eq!(probe.log(), ["write x=0", "apply a=3 b=1 c=2"]);
}

#[tokio::test]
async fn a_batch_has_at_most_so_many_entries() {
    let probe = Probe::gated();
    let storage = commit_with(&probe, |builder| builder.max_batch(2));
    begin! {
        first = put(&storage, "x", "0");
        a = put(&storage, "a", "1");
        b = put(&storage, "b", "1");
        c = put(&storage, "c", "1");
    }
    probe.let_all_go();
    all_ok!(first, a, b, c);
    assert_eq!(probe.log(), ["write x=0", "apply a=1 b=1", "write c=1"]);
}

#[tokio::test]
async fn a_batch_has_at_most_so_many_bytes_and_a_larger_entry_goes_alone() {
    let probe = Probe::gated();
    let storage = commit_with(&probe, |builder| builder.max_batch_bytes(8));
    begin! {
        first = put(&storage, "x", "0");
        a = put(&storage, "a", "123");
        b = put(&storage, "b", "123");
        c = put(&storage, "c", "1234567890");
        d = put(&storage, "d", "1");
        e = put(&storage, "e", "1");
    }
    probe.let_all_go();
    all_ok!(first, a, b, c, d, e);
    assert_eq!(probe.log(), ["write x=0", "apply a=123 b=123", "write c=1234567890", "apply d=1 e=1"]);
}

#[tokio::test]
async fn an_apply_of_puts_shares_batches_with_others() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    begin! {
        first = put(&storage, "x", "0");
        many = put_many(&storage, &[("b", "m"), ("c", "m"), ("b", "m")]);
        a = put(&storage, "a", "1");
    }
    probe.let_all_go();
    first.await.unwrap();
    many.await.unwrap();
    a.await.unwrap();
    assert_eq!(probe.log(), ["write x=0", "apply a=1 b=m c=m"]);
}

#[tokio::test]
async fn an_apply_of_puts_on_an_idle_storage_is_one_batch() {
    let probe = Probe::open();
    let storage = commit(&probe);
    put_many(&storage, &[("b", "m"), ("a", "m")]).await.unwrap();
    put_many(&storage, &[]).await.unwrap();
    assert_eq!(probe.log(), ["apply a=m b=m"]);
}

#[tokio::test]
async fn lanes_write_at_the_same_time() {
    let probe = Probe::gated();
    let storage = commit_with(&probe, |builder| builder.max_batches(4));
    let keys: Vec<_> = (0..64).map(|number| key(&number.to_string())).collect();
    let options = WriteOptions::new();
    let mut writes: Vec<_> =
        keys.iter().map(|key| storage.write(key, Bytes::from_static(b"1"), &options)).collect();
    for write in &mut writes {
        assert!(poll!(write).is_pending());
    }
    // 64 keys on 4 lanes: that one stays empty has a probability below 10^-7. The other 60 queue.
    probe.started(4).await;
    assert_eq!(probe.log().len(), 4);
    probe.let_all_go();
    for write in writes {
        write.await.unwrap();
    }
    assert!(keys.iter().all(|key| probe.value(key.as_str()).is_some()));
}

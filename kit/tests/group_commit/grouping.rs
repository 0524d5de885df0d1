//! The changes that share a batch.

use futures_util::poll;
use larder_core::{Applied, Bytes, Change, Condition, Expiry, Storage, WriteOptions};

use crate::{
    all_ok, begin, commit, commit_with, delete, delete_if, key, occupy, probe::Probe, put, put_many,
    read_and_touch, read_and_touch_many, touch, write_if,
};

#[tokio::test]
async fn an_idle_storage_writes_immediately() {
    let probe = Probe::open();
    let storage = commit(&probe);
    for value in ["1", "2"] {
        put(&storage, "a", value).await.unwrap();
    }
    assert_eq!(probe.log(), ["write a=1", "write a=2"]);
}

#[tokio::test]
async fn changes_gather_while_a_batch_is_running() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let first = occupy(&storage, &probe).await;
    let (b, c, d, f) = (&key("b"), &key("c"), &key("d"), &key("f"));
    begin! {
        a = put(&storage, "a", "1");
        b = write_if(&storage, b);
        c = delete(&storage, c);
        d = touch(&storage, d);
    }
    probe.release(1);
    first.await.unwrap().unwrap();
    probe.started(2).await;
    begin! { e = put(&storage, "e", "1"); f = delete_if(&storage, f); }
    probe.release(2);
    all_ok!(a, b, c, d, e, f);
    assert_eq!(probe.log(), ["write x=0", "apply a=1 ?b= -c ~d", "apply e=1 ?-f"]);
}

#[tokio::test]
async fn a_change_is_acknowledged_only_after_its_batch() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let first = occupy(&storage, &probe).await;
    begin! { b = put(&storage, "b", "1"); c = put(&storage, "c", "1"); }
    probe.release(1);
    first.await.unwrap().unwrap();
    probe.started(2).await;
    assert!(poll!(&mut b).is_pending() && poll!(&mut c).is_pending());
    assert_eq!(probe.value("b"), None);
    probe.release(1);
    all_ok!(b, c);
    assert!(probe.value("b").is_some() && probe.value("c").is_some());
}

#[tokio::test]
async fn reads_that_touch_share_a_call_if_their_options_are_equal() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let first = occupy(&storage, &probe).await;
    let (a, b) = (&key("a"), &key("b"));
    begin! {
        one = read_and_touch(&storage, a);
        two = read_and_touch_many(&storage, b);
        three = put(&storage, "a", "1");
        four = read_and_touch(&storage, a);
    }
    probe.release_all();
    first.await.unwrap().unwrap();
    assert_eq!(one.await.unwrap(), None);
    all_ok!(two, three);
    assert_eq!(four.await.unwrap().unwrap().value, "1");
    assert_eq!(probe.log(), ["write x=0", "read ~a ~b", "write a=1", "read ~a"]);
}

#[tokio::test]
async fn a_batch_has_at_most_the_maximum_number_of_changes() {
    let probe = Probe::gated();
    let storage = commit_with(&probe, |builder| builder.max_batch(2));
    let first = occupy(&storage, &probe).await;
    begin! { a = put(&storage, "a", "1"); b = put(&storage, "b", "1"); c = put(&storage, "c", "1"); }
    probe.release_all();
    first.await.unwrap().unwrap();
    all_ok!(a, b, c);
    assert_eq!(probe.log(), ["write x=0", "apply a=1 b=1", "write c=1"]);
}

#[tokio::test]
async fn a_batch_has_at_most_the_maximum_number_of_bytes_and_a_larger_change_is_sent_alone() {
    let probe = Probe::gated();
    let storage = commit_with(&probe, |builder| builder.max_batch_bytes(8));
    let first = occupy(&storage, &probe).await;
    begin! {
        a = put(&storage, "a", "123");
        b = put(&storage, "b", "123");
        c = put(&storage, "c", "1234567890");
        d = put(&storage, "d", "1");
        e = put(&storage, "e", "1");
    }
    probe.release_all();
    first.await.unwrap().unwrap();
    all_ok!(a, b, c, d, e);
    assert_eq!(probe.log(), ["write x=0", "apply a=123 b=123", "write c=1234567890", "apply d=1 e=1"]);
}

#[tokio::test]
async fn apply_shares_batches_with_others_and_keeps_its_order() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    let first = occupy(&storage, &probe).await;
    begin! {
        mixed = storage.apply(vec![
            Change::put(key("c"), "1", Expiry::Never),
            Change::delete(key("c")),
            Change::put(key("b"), "1", Expiry::Never).on(Condition::Absent),
            Change::touch(key("c"), Expiry::Never),
        ]);
        a = put(&storage, "a", "1");
    }
    probe.release_all();
    first.await.unwrap().unwrap();
    let results: Vec<_> = mixed.await.into_iter().map(Result::unwrap).collect();
    assert!(matches!(results[0], Applied::Put(_)) && matches!(results[2], Applied::Put(_)));
    assert_eq!((&results[1], &results[3]), (&Applied::Deleted(true), &Applied::Touched(false)));
    a.await.unwrap();
    assert_eq!(probe.log(), ["write x=0", "apply c=1 -c ?b=1 ~c a=1"]);
}

#[tokio::test]
async fn apply_on_an_idle_storage_is_one_batch() {
    let probe = Probe::open();
    let storage = commit(&probe);
    put_many(&storage, &[("b", "m"), ("a", "m")]).await.unwrap();
    put_many(&storage, &[]).await.unwrap();
    assert_eq!(probe.log(), ["apply b=m a=m"]);
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
    // 64 keys on 4 lanes: the probability of an empty lane is below 10^-7.
    probe.started(4).await;
    assert_eq!(probe.log().len(), 4);
    probe.release_all();
    for write in writes {
        write.await.unwrap();
    }
    assert!(keys.iter().all(|key| probe.value(key.as_str()).is_some()));
}

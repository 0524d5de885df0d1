//! Who fails when something fails.

use larder_core::{ErrorKind, Expiry, Storage, Write};
use larder_layers::Coalesce;

use crate::{
    begin, key,
    probe::{Fault, Probe},
    put,
};

#[tokio::test]
async fn a_bad_entry_that_the_storage_names_fails_alone() {
    let probe = Probe::gated();
    probe.fault("bad", Fault::Refuse);
    let storage = Coalesce::new(probe.clone());
    begin! {
        first = put(&storage, "x", "0");
        a = put(&storage, "a", "1");
        b = put(&storage, "b", "bad");
        c = put(&storage, "c", "1");
    }
    probe.let_all_go();
    first.await.unwrap();
    a.await.unwrap();
    assert_eq!(b.await.unwrap_err().kind(), ErrorKind::TooLarge);
    c.await.unwrap();
    assert!(probe.value("a").is_some() && probe.value("c").is_some() && probe.value("b").is_none());
}

#[tokio::test]
async fn a_batch_that_fails_as_a_whole_is_written_one_by_one() {
    let probe = Probe::gated();
    probe.fault("bad", Fault::RefuseWhole);
    let storage = Coalesce::new(probe.clone());
    begin! {
        first = put(&storage, "x", "0");
        a = put(&storage, "a", "1");
        b = put(&storage, "b", "bad");
        c = put(&storage, "c", "1");
    }
    probe.let_all_go();
    first.await.unwrap();
    a.await.unwrap();
    assert_eq!(b.await.unwrap_err().kind(), ErrorKind::TooLarge);
    c.await.unwrap();
    assert_eq!(
        probe.log(),
        ["write x=0", "write_many a=1 b=bad c=1", "write a=1", "write b=bad", "write c=1"]
    );
}

#[tokio::test]
async fn a_retryable_failure_goes_to_everybody_in_the_batch_and_nobody_else() {
    let probe = Probe::gated();
    probe.fault("gone", Fault::Unavailable);
    let storage = Coalesce::new(probe.clone());
    begin! { first = put(&storage, "x", "0"); a = put(&storage, "a", "1"); b = put(&storage, "b", "gone"); }
    probe.let_go(1);
    first.await.unwrap();
    probe.started(2).await;
    begin! { later = put(&storage, "c", "1"); }
    probe.let_all_go();
    for outcome in [a.await, b.await] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.is_retryable() && error.message().contains("the cable"), "{error}");
    }
    later.await.unwrap();
    assert_eq!(probe.log(), ["write x=0", "write_many a=1 b=gone", "write c=1"]);
}

#[tokio::test]
async fn a_storage_that_goes_away_is_not_asked_once_per_entry() {
    let probe = Probe::gated();
    probe.fault("bad", Fault::RefuseWhole);
    let storage = Coalesce::new(probe.clone());
    begin! {
        first = put(&storage, "x", "0");
        a = put(&storage, "a", "bad");
        b = put(&storage, "b", "1");
        c = put(&storage, "c", "1");
    }
    probe.let_go(2);
    first.await.unwrap();
    // The batch has failed as a whole; now the store is lost on the second of the three.
    probe.started(3).await;
    probe.fault("1", Fault::Unavailable);
    probe.let_all_go();
    assert_eq!(a.await.unwrap_err().kind(), ErrorKind::TooLarge);
    assert_eq!(b.await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(c.await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(probe.log()[2..], ["write a=bad", "write b=1"]);
}

#[tokio::test]
async fn earlier_writes_of_a_key_whose_last_one_is_bad_get_their_own_outcome() {
    for fault in [Fault::Refuse, Fault::RefuseWhole] {
        let probe = Probe::gated();
        probe.fault("bad", fault);
        let storage = Coalesce::new(probe.clone());
        begin! {
            first = put(&storage, "x", "0");
            one = put(&storage, "a", "1");
            worse = put(&storage, "a", "bad");
            two = put(&storage, "a", "2");
            bad = put(&storage, "a", "bad");
            other = put(&storage, "b", "1");
        }
        probe.let_all_go();
        first.await.unwrap();
        one.await.unwrap();
        worse.await.unwrap();
        two.await.unwrap();
        assert_eq!(bad.await.unwrap_err().kind(), ErrorKind::TooLarge);
        other.await.unwrap();
        assert_eq!(probe.value("a").unwrap(), "2");
    }
}

#[tokio::test]
async fn a_lone_bad_write_fails_with_the_storages_own_error() {
    let probe = Probe::open();
    probe.fault("bad", Fault::Refuse);
    probe.fault("gone", Fault::Unavailable);
    let storage = Coalesce::new(probe.clone());
    assert_eq!(put(&storage, "a", "bad").await.unwrap_err().kind(), ErrorKind::TooLarge);
    let error = put(&storage, "a", "gone").await.unwrap_err();
    assert!(std::error::Error::source(&error).is_some());
    put(&storage, "a", "1").await.unwrap();
}

#[tokio::test]
async fn a_write_many_says_which_entries_failed() {
    let probe = Probe::open();
    probe.fault("bad", Fault::Refuse);
    probe.fault("gone", Fault::Unavailable);
    let storage = Coalesce::builder(probe.clone()).max_batch(2).build();
    let writes = [("d", "bad"), ("c", "1"), ("b", "1"), ("a", "bad"), ("e", "1")]
        .map(|(name, value)| Write::new(key(name), value, Expiry::Never));
    let error = storage.write_many(&writes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Partial);
    assert_eq!(error.failures().iter().map(|failure| failure.index).collect::<Vec<_>>(), [0, 3]);
    for name in ["b", "c", "e"] {
        assert!(probe.value(name).is_some());
    }
    let gone = [("a", "gone"), ("b", "2")].map(|(name, value)| Write::new(key(name), value, Expiry::Never));
    assert_eq!(storage.write_many(&gone).await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_panic_in_the_storage_leaves_the_queue_served() {
    let probe = Probe::gated();
    probe.fault("panic", Fault::Panic);
    let storage = Coalesce::builder(probe.clone()).max_batch(2).build();
    begin! {
        first = put(&storage, "x", "0");
        a = put(&storage, "a", "1");
        b = put(&storage, "b", "panic");
        c = put(&storage, "c", "1");
    }
    probe.let_all_go();
    first.await.unwrap();
    assert_eq!(a.await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(b.await.unwrap_err().kind(), ErrorKind::Unavailable);
    c.await.unwrap();
}

//! The effect of failures on a batch.

use larder_core::{ErrorKind, Outcome};

use crate::{
    apply_puts, begin, commit, commit_with, failures, occupy,
    probe::{Fault, Probe},
    put, put_many,
};

#[tokio::test]
async fn a_rejected_entry_fails_alone() {
    let probe = Probe::gated();
    probe.fault("bad", Fault::Reject);
    let storage = commit(&probe);
    let first = occupy(&storage, &probe).await;
    begin! {
        a = put(&storage, "a", "1");
        b = put(&storage, "b", "bad");
        c = put(&storage, "c", "1");
    }
    probe.release_all();
    first.await.unwrap().unwrap();
    a.await.unwrap();
    assert_eq!(b.await.unwrap_err().kind(), ErrorKind::TooLarge);
    c.await.unwrap();
    assert!(probe.value("a").is_some() && probe.value("c").is_some() && probe.value("b").is_none());
}

#[tokio::test]
async fn a_failed_batch_affects_only_its_callers() {
    let probe = Probe::gated();
    probe.fault("gone", Fault::Unavailable);
    let storage = commit(&probe);
    let first = occupy(&storage, &probe).await;
    begin! { a = put(&storage, "a", "1"); b = put(&storage, "b", "gone"); }
    probe.release(1);
    first.await.unwrap().unwrap();
    probe.started(2).await;
    begin! { later = put(&storage, "c", "1"); }
    probe.release_all();
    for outcome in [a.await, b.await] {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        let source = std::error::Error::source(&error).unwrap();
        assert!(error.is_retryable() && source.to_string().contains("the cable"), "{error}");
    }
    later.await.unwrap();
    assert_eq!(probe.log(), ["write x=0", "apply a=1 b=gone", "write c=1"]);
}

#[tokio::test]
async fn a_single_write_fails_with_the_error_of_the_storage() {
    let probe = Probe::open();
    probe.fault("bad", Fault::Reject);
    probe.fault("gone", Fault::Unavailable);
    let storage = commit(&probe);
    assert_eq!(put(&storage, "a", "bad").await.unwrap_err().kind(), ErrorKind::TooLarge);
    let error = put(&storage, "a", "gone").await.unwrap_err();
    assert!(std::error::Error::source(&error).is_some());
    put(&storage, "a", "1").await.unwrap();
}

#[tokio::test]
async fn the_results_of_apply_show_which_puts_failed() {
    let probe = Probe::open();
    probe.fault("bad", Fault::Reject);
    probe.fault("gone", Fault::Unavailable);
    let storage = commit_with(&probe, |builder| builder.max_batch(2));
    let puts = [("d", "bad"), ("c", "1"), ("b", "1"), ("a", "bad"), ("e", "1")];
    let errors = failures(apply_puts(&storage, &puts).await);
    assert_eq!(errors.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0, 3]);
    assert!(errors.iter().all(|(_, error)| error.kind() == ErrorKind::TooLarge));
    for name in ["b", "c", "e"] {
        assert!(probe.value(name).is_some());
    }
    let error = put_many(&storage, &[("a", "gone"), ("b", "2")]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn apply_stops_once_the_store_is_gone() {
    let probe = Probe::gated();
    probe.fault("gone", Fault::Unavailable);
    let storage = commit_with(&probe, |builder| builder.max_batch(2));
    let puts = [("a", "1"), ("b", "1"), ("c", "1"), ("d", "gone"), ("e", "1"), ("f", "1"), ("g", "1")];
    let first = occupy(&storage, &probe).await;
    begin! { apply = apply_puts(&storage, &puts); later = put(&storage, "h", "1"); }
    probe.release_all();
    first.await.unwrap().unwrap();
    let errors = failures(apply.await);
    let outcomes: Vec<_> = errors.iter().map(|(place, error)| (*place, error.outcome())).collect();
    let (unknown, unsent) = (Outcome::Unknown, Outcome::NotApplied);
    assert_eq!(outcomes, [(2, unknown), (3, unknown), (4, unsent), (5, unsent), (6, unsent)]);
    assert!(errors.iter().all(|(_, error)| error.kind() == ErrorKind::Unavailable));
    later.await.unwrap();
    assert_eq!(probe.log()[1..], ["apply a=1 b=1", "apply c=1 d=gone", "write h=1"]);
}

#[tokio::test]
async fn a_panic_in_the_storage_does_not_stop_the_queue() {
    let probe = Probe::gated();
    probe.fault("panic", Fault::Panic);
    let storage = commit_with(&probe, |builder| builder.max_batch(2));
    let first = occupy(&storage, &probe).await;
    begin! {
        a = put(&storage, "a", "1");
        b = put(&storage, "b", "panic");
        c = put(&storage, "c", "1");
    }
    probe.release_all();
    first.await.unwrap().unwrap();
    assert_eq!(a.await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(b.await.unwrap_err().kind(), ErrorKind::Unavailable);
    c.await.unwrap();
}

//! Batches that mix puts with other changes.

use larder_core::{Applied, Change, Condition, Expiry, Storage, Version};

use crate::{begin, commit, key, probe::Probe, put};

fn change(name: &str, value: &'static str) -> Change {
    Change::put(key(name), value, Expiry::Never)
}

#[tokio::test]
async fn puts_share_batches_and_the_other_changes_keep_their_order() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    begin! {
        first = put(&storage, "x", "0");
        mixed = storage.apply(vec![
            change("c", "1"),
            change("a", "1"),
            Change::delete(key("a")),
            change("b", "1"),
            change("a", "2").on(Condition::Absent),
            Change::touch(key("d"), Expiry::Never),
        ]);
        other = put(&storage, "e", "1");
    }
    // The other changes do not wait for a write of another key.
    assert_eq!(probe.log(), ["write x=0", "apply a=1 -a a=2 ~d"]);
    probe.let_all_go();
    first.await.unwrap();
    other.await.unwrap();
    let results: Vec<_> = mixed.await.into_iter().map(Result::unwrap).collect();
    assert!(matches!(results[..2], [Applied::Put(_), Applied::Put(_)]));
    assert_eq!(results[2], Applied::Deleted(true));
    assert!(matches!(results[3..5], [Applied::Put(_), Applied::Put(_)]));
    assert_eq!(results[5], Applied::Touched(false));
    assert_eq!(probe.log()[2..], ["apply b=1 c=1 e=1"]);
    assert_eq!(probe.value("a").unwrap(), "2");
}

#[tokio::test]
async fn the_other_changes_wait_for_earlier_writes_of_their_keys() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    begin! {
        first = put(&storage, "x", "0");
        queued = put(&storage, "a", "1");
        mixed = storage.apply(vec![
            Change::delete(key("a")).on(Condition::At(Version::unique())),
            change("b", "1"),
        ]);
    }
    tokio::task::yield_now().await;
    assert_eq!(probe.log(), ["write x=0"]);
    probe.let_all_go();
    first.await.unwrap();
    queued.await.unwrap();
    assert!(mixed.await.iter().all(Result::is_ok));
    assert_eq!(probe.log(), ["write x=0", "apply a=1 b=1", "apply -a"]);
}

#[tokio::test]
async fn a_write_that_another_one_replaced_has_a_version_of_its_own() {
    let probe = Probe::gated();
    let storage = commit(&probe);
    begin! {
        first = put(&storage, "x", "0");
        one = put(&storage, "a", "1");
        two = put(&storage, "a", "2");
        three = put(&storage, "a", "3");
    }
    probe.let_all_go();
    first.await.unwrap();
    let versions = [one.await, two.await, three.await].map(|written| written.unwrap().version.unwrap());
    assert_eq!(probe.log(), ["write x=0", "write a=3"]);
    assert!(versions[0] != versions[1] && versions[0] != versions[2] && versions[1] != versions[2]);
}

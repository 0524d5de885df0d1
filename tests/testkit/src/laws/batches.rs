//! Several entries in one call.

use std::time::Duration;

use larder_core::{Applied, Change, Condition, ErrorKind, Expiry, Key, Outcome, Values};

use super::key;
use crate::{Handle, Lifetime, Must, Target, claims::Ability};

laws![
    empty_batches_do_nothing,
    batches_of_one,
    batches_of_a_thousand,
    read_many_answers_in_order,
    read_many_reads_a_key_twice,
    the_last_write_of_a_key_in_a_batch_wins,
    only_the_first_deletion_of_a_key_in_a_batch_finds_it,
    batches_change_only_their_keys,
    each_write_of_a_batch_has_its_own_time_to_live,
    a_batch_reports_each_failed_change,
];

fn put(handle: &Handle, name: &str, text: &str) -> Change {
    Change::put(key(name), handle.value(text), Expiry::Never)
}

/// An empty batch of keys or changes does nothing and returns no results.
pub async fn empty_batches_do_nothing(target: Target) {
    let handle = target.open().await;
    handle.put(&key("one"), &handle.value("x")).await;
    handle.read_all(&[], "read_many of nothing").await;
    handle.apply_all(vec![], "apply nothing").await;
    handle.holds(&key("one"), &handle.value("x"), "read after empty batches").await;
}

/// A batch of one item has the same effect as the single operation.
pub async fn batches_of_one(target: Target) {
    let handle = target.open().await;
    let applied = handle.apply_all(vec![put(&handle, "one", "x")], "apply one put").await;
    assert!(matches!(applied[..], [Applied::Put(_)]), "the result of a put: {applied:?}");
    handle.holds(&key("one"), &handle.value("x"), "read after a batch of one").await;
    let read = handle.read_all(&[key("one")], "read_many of one").await;
    let found = matches!(read.as_slice(), [Some(record)] if handle.same(&record.value, &handle.value("x")));
    assert!(found, "read_many of one entry does not return it");
    assert_eq!(handle.delete_all(&[key("one")], "delete one").await, 1, "a batch of one deletion");
    handle.lacks(&key("one"), "read after a batch of one deletion").await;
    assert_eq!(handle.delete_all(&[key("one")], "delete one").await, 0, "a second batch of one deletion");
}

/// A thousand entries can be written in one call, read in order in one call, and deleted in one call.
pub async fn batches_of_a_thousand(target: Target) {
    let handle = target.open().await;
    let names: Vec<String> = (0..1000).map(|index| format!("many-{index}")).collect();
    let puts = names.iter().map(|name| put(&handle, name, name)).collect();
    handle.apply_all(puts, "write a thousand").await;
    let keys: Vec<Key> = names.iter().map(|name| key(name)).collect();
    let read = handle.read_all(&keys, "read_many of a thousand").await;
    for (name, record) in names.iter().zip(read) {
        let record = record.must("an entry of a batch of a thousand");
        assert!(
            handle.same(&record.value, &handle.value(name)),
            "read_many returned another value for {name}"
        );
    }
    let deleted = handle.delete_all(&keys, "delete a thousand").await;
    assert_eq!(deleted, 1000, "the number of deletions, of a thousand, that found an entry");
    let read = handle.read_all(&keys, "read_many of a thousand").await;
    assert!(read.iter().all(Option::is_none), "an entry exists after it was deleted in a batch");
}

/// `read_many` returns one result per key, in the order of the keys, and `None` for missing entries.
pub async fn read_many_answers_in_order(target: Target) {
    let handle = target.open().await;
    let names = ["m", "a", "z", "B", "10", "9", "c"];
    for name in names {
        handle.put(&key(name), &handle.value(name)).await;
    }
    let asked = ["z", "none", "a", "10", "B", "nothing", "9", "m", "zz", "c"];
    let keys: Vec<Key> = asked.map(key).into();
    let read = handle.read_all(&keys, "read_many").await;
    for (name, record) in asked.iter().zip(read) {
        match record {
            Some(record) => {
                assert!(
                    handle.same(&record.value, &handle.value(name)),
                    "read_many returned another entry for {name}"
                );
            }
            None => assert!(!names.contains(name), "read_many did not find {name}"),
        }
    }
}

/// A key that occurs twice in `read_many` is read twice.
pub async fn read_many_reads_a_key_twice(target: Target) {
    let handle = target.open().await;
    for name in ["a", "b"] {
        handle.put(&key(name), &handle.value(name)).await;
    }
    let asked = ["a", "b", "a", "none", "none", "a"];
    let keys: Vec<Key> = asked.map(key).into();
    let read = handle.read_all(&keys, "read_many with repeated keys").await;
    for (name, record) in asked.iter().zip(read) {
        let right = record.as_ref().is_some_and(|record| handle.same(&record.value, &handle.value(name)));
        assert_eq!(right, *name != "none", "the result of read_many with repeated keys for {name} is wrong");
    }
}

/// If a batch writes a key several times, the last write wins.
pub async fn the_last_write_of_a_key_in_a_batch_wins(target: Target) {
    let handle = target.open().await;
    let mut puts = Vec::new();
    for round in 0..5 {
        for name in ["a", "b", "c"] {
            puts.push(put(&handle, name, &format!("{name}{round}")));
        }
    }
    puts.push(put(&handle, "a", "last"));
    handle.apply_all(puts, "write keys several times in one batch").await;
    for (name, text) in [("a", "last"), ("b", "b4"), ("c", "c4")] {
        handle.holds(&key(name), &handle.value(text), "read of a key that a batch wrote several times").await;
    }
}

/// Each deletion of a batch returns whether the entry existed. Of several deletions of one key, only the first finds
/// the entry.
pub async fn only_the_first_deletion_of_a_key_in_a_batch_finds_it(target: Target) {
    let handle = target.open().await;
    for name in ["a", "b", "stays"] {
        handle.put(&key(name), &handle.value(name)).await;
    }
    let deletions = ["a", "none", "b", "a", "none", "a"].map(|name| Change::delete(key(name)));
    let deleted = handle.apply_all(deletions.into(), "delete keys several times in one batch").await;
    let expected = [true, false, true, false, false, false].map(Applied::Deleted);
    assert_eq!(deleted, expected, "the results of a batch of deletions");
    handle.lacks(&key("a"), "read after a batch of deletions").await;
    handle.lacks(&key("b"), "read after a batch of deletions").await;
    handle.holds(&key("stays"), &handle.value("stays"), "read of a key not in the batch").await;
}

/// A batch creates or replaces the entries of its keys, and does not change other entries.
pub async fn batches_change_only_their_keys(target: Target) {
    let handle = target.open().await;
    handle.put(&key("old"), &handle.value("a long old value")).await;
    handle.put(&key("other"), &handle.value("other")).await;
    handle.apply_all(vec![put(&handle, "old", "new"), put(&handle, "new", "new")], "write a batch").await;
    handle.holds(&key("old"), &handle.value("new"), "read of a key that a batch overwrote").await;
    handle.holds(&key("new"), &handle.value("new"), "read of a key that a batch created").await;
    handle.holds(&key("other"), &handle.value("other"), "read of a key not in the batch").await;
}

/// Each write of a batch has its own time to live, or does not expire.
pub async fn each_write_of_a_batch_has_its_own_time_to_live(target: Target) {
    let handle = target.open().await;
    if !target.claims(&handle, Ability::Expiry).await {
        return;
    }
    let ttl = Duration::from_millis(200);
    let value = handle.value("x");
    for name in ["was-expiring", "zero"] {
        handle.write(key(name), value.clone()).expiry(Expiry::After(ttl)).await.must("write");
    }
    let life = Lifetime::begin(ttl);
    let puts = vec![
        Change::put(key("stays"), value.clone(), Expiry::Never),
        Change::put(key("short"), value.clone(), Expiry::After(ttl)),
        Change::put(key("was-expiring"), value.clone(), Expiry::Never),
        Change::put(key("zero"), value.clone(), Expiry::After(Duration::ZERO)),
        Change::put(key("long"), value.clone(), Expiry::after_secs(3600)),
    ];
    handle.apply_all(puts, "write a batch with times to live").await;
    handle.lacks(&key("zero"), "read of an entry that a batch wrote with a time to live of zero").await;
    life.written().expires(&handle, &key("short"), "read of an entry that a batch wrote").await;
    for name in ["stays", "was-expiring"] {
        handle.holds(&key(name), &value, "read of an entry that a batch wrote without expiry").await;
        let left = handle.ttl(&key(name)).await.must("ttl");
        assert_eq!(left, Some(Expiry::Never), "the ttl of an entry that a batch wrote without expiry");
    }
    let left = handle.ttl(&key("long")).await.must("ttl");
    let right = matches!(left, Some(Expiry::After(left)) if (3000..=3600).contains(&left.as_secs()));
    assert!(right, "the ttl of an entry that a batch wrote for an hour is {left:?}");
}

/// If some changes of a batch are rejected, their results are errors, and the other changes are stored.
pub async fn a_batch_reports_each_failed_change(target: Target) {
    let handle = target.open().await;
    let bad = rejected(&handle);
    if bad.is_empty() {
        target.ignore("the store does not claim conditions, and accepts every value");
    }
    for (kind, bad) in bad {
        for name in ["one", "two", "three"] {
            handle.put(&key(name), &handle.value("old")).await;
        }
        handle.delete_all(&["zero", "four"].map(key), "delete in a batch").await;
        let bad = |name| {
            let mut bad = bad.clone();
            bad.key = key(name);
            bad
        };
        let puts = vec![
            put(&handle, "zero", "new"),
            bad("one"),
            put(&handle, "two", "new"),
            bad("three"),
            put(&handle, "four", "new"),
        ];
        let results = handle.apply(puts).await;
        let failed: Vec<bool> = results.iter().map(Result::is_err).collect();
        assert_eq!(
            failed,
            [false, true, false, true, false],
            "the changes of a batch that failed with {kind}"
        );
        for error in results.into_iter().filter_map(Result::err) {
            assert_eq!(error.kind(), kind, "the kind of error of a rejected change");
            assert!(!error.is_retryable(), "the error of a rejected change is retryable");
            assert_eq!(error.outcome(), Outcome::NotApplied, "the outcome of a rejected change");
        }
        for (name, text) in
            [("zero", "new"), ("one", "old"), ("two", "new"), ("three", "old"), ("four", "new")]
        {
            handle.holds(&key(name), &handle.value(text), "read after a batch with failed changes").await;
        }
    }
}

/// Returns puts that the store rejects if the entry exists, each with the kind of its error.
fn rejected(handle: &Handle) -> Vec<(ErrorKind, Change)> {
    const MOST: u64 = 20 << 20;
    let info = handle.info();
    let mut rejected = Vec::new();
    if info.conditions() {
        rejected.push((ErrorKind::Conflict, put(handle, "bad", "x").on(Condition::Absent)));
    }
    if info.values != Values::Bytes {
        rejected.push((ErrorKind::InvalidValue, Change::put(key("bad"), "not JSON", Expiry::Never)));
    }
    if !info.expiry {
        let put = Change::put(key("bad"), handle.value("x"), Expiry::after_secs(60));
        rejected.push((ErrorKind::Unsupported, put));
    }
    if let Some(most) = info.max_value.filter(|&most| most <= MOST) {
        let length = usize::try_from(most).must("convert the limit to usize") + 1;
        rejected.push((ErrorKind::TooLarge, Change::put(key("bad"), handle.bulk(length, 1), Expiry::Never)));
    }
    rejected
}

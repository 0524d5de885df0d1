//! Several entries in one call.

use std::time::Duration;

use larder_core::{ErrorKind, Expiry, Key, Storage, Values, Write};

use super::key;
use crate::{Fails, Handle, Lifetime, Must, Target};

laws![
    empty_batches_do_nothing,
    batches_of_one,
    batches_of_a_thousand,
    read_many_answers_in_order,
    read_many_reads_a_key_twice,
    of_two_writes_in_a_batch_the_later_stays,
    delete_many_counts_a_key_once,
    batches_replace_and_leave_alone,
    each_write_of_a_batch_has_its_own_time_to_live,
    a_batch_that_fails_in_part_says_which,
];

fn write(handle: &Handle, name: &str, text: &str) -> Write {
    Write::new(key(name), handle.value(text), Expiry::Never)
}

/// An empty list of keys or writes is no error and does nothing.
pub async fn empty_batches_do_nothing(target: Target) {
    let handle = target.open().await;
    handle.put(&key("one"), &handle.value("x")).await;
    assert!(handle.read_many(&[]).await.must("read_many of nothing").is_empty(), "read_many of nothing");
    handle.write_many(&[]).await.must("write_many of nothing");
    assert_eq!(handle.delete_many(&[]).await.must("delete_many of nothing"), 0, "delete_many of nothing");
    handle.holds(&key("one"), &handle.value("x"), "read after empty batches").await;
}

/// A batch of one does what the single operation does.
pub async fn batches_of_one(target: Target) {
    let handle = target.open().await;
    handle.write_many(&[write(&handle, "one", "x")]).await.must("write_many of one");
    handle.holds(&key("one"), &handle.value("x"), "read after write_many of one").await;
    let read = handle.read_many(&[key("one")]).await.must("read_many of one");
    let found = matches!(read.as_slice(), [Some(record)] if handle.same(&record.value, &handle.value("x")));
    assert!(found, "read_many of one entry does not return it");
    assert_eq!(handle.delete_many(&[key("one")]).await.must("delete_many of one"), 1, "delete_many of one");
    handle.lacks(&key("one"), "read after delete_many of one").await;
    assert_eq!(handle.delete_many(&[key("one")]).await.must("delete_many of one"), 0, "a second delete_many");
}

/// A thousand entries are written, read in order and deleted in one call each.
pub async fn batches_of_a_thousand(target: Target) {
    let handle = target.open().await;
    let names: Vec<String> = (0..1000).map(|index| format!("many-{index}")).collect();
    let writes: Vec<Write> = names.iter().map(|name| write(&handle, name, name)).collect();
    handle.write_many(&writes).await.must("write_many of a thousand");
    let keys: Vec<Key> = names.iter().map(|name| key(name)).collect();
    let read = handle.read_many(&keys).await.must("read_many of a thousand");
    assert_eq!(read.len(), 1000, "the number of answers of read_many");
    for (name, record) in names.iter().zip(read) {
        let record = record.must("an entry of a batch of a thousand");
        assert!(handle.same(&record.value, &handle.value(name)), "read_many gave another value for {name}");
    }
    let deleted = handle.delete_many(&keys).await.must("delete_many of a thousand");
    assert_eq!(deleted, 1000, "the count of delete_many of a thousand");
    let read = handle.read_many(&keys).await.must("read_many of a thousand");
    assert!(read.iter().all(Option::is_none), "an entry is there after delete_many");
}

/// `read_many` gives one answer per key, in the order of the keys, `None` for the missing.
pub async fn read_many_answers_in_order(target: Target) {
    let handle = target.open().await;
    let names = ["m", "a", "z", "B", "10", "9", "c"];
    for name in names {
        handle.put(&key(name), &handle.value(name)).await;
    }
    let asked = ["z", "none", "a", "10", "B", "nothing", "9", "m", "zz", "c"];
    let keys: Vec<Key> = asked.map(key).into();
    let read = handle.read_many(&keys).await.must("read_many");
    assert_eq!(read.len(), asked.len(), "the number of answers of read_many");
    for (name, record) in asked.iter().zip(read) {
        match record {
            Some(record) => {
                assert!(
                    handle.same(&record.value, &handle.value(name)),
                    "read_many answered another key for {name}"
                );
            }
            None => assert!(!names.contains(name), "read_many did not find {name}"),
        }
    }
}

/// A key that is named twice is read twice.
pub async fn read_many_reads_a_key_twice(target: Target) {
    let handle = target.open().await;
    for name in ["a", "b"] {
        handle.put(&key(name), &handle.value(name)).await;
    }
    let asked = ["a", "b", "a", "none", "none", "a"];
    let keys: Vec<Key> = asked.map(key).into();
    let read = handle.read_many(&keys).await.must("read_many with a key named twice");
    assert_eq!(read.len(), asked.len(), "the number of answers of read_many with a key named twice");
    for (name, record) in asked.iter().zip(read) {
        let right = record.as_ref().is_some_and(|record| handle.same(&record.value, &handle.value(name)));
        assert_eq!(right, *name != "none", "the answer of read_many for {name}, with keys named twice");
    }
}

/// Of two writes of one key in one batch the later in the list stays.
pub async fn of_two_writes_in_a_batch_the_later_stays(target: Target) {
    let handle = target.open().await;
    let mut writes = Vec::new();
    for round in 0..5 {
        for name in ["a", "b", "c"] {
            writes.push(write(&handle, name, &format!("{name}{round}")));
        }
    }
    writes.push(write(&handle, "a", "last"));
    handle.write_many(&writes).await.must("write_many with a key named twice");
    for (name, text) in [("a", "last"), ("b", "b4"), ("c", "c4")] {
        handle.holds(&key(name), &handle.value(text), "read of a key that a batch wrote several times").await;
    }
}

/// `delete_many` counts the entries that there were: a missing key not at all, one named twice once.
pub async fn delete_many_counts_a_key_once(target: Target) {
    let handle = target.open().await;
    for name in ["a", "b", "stays"] {
        handle.put(&key(name), &handle.value(name)).await;
    }
    let keys: Vec<Key> = ["a", "none", "b", "a", "none", "a"].map(key).into();
    let deleted = handle.delete_many(&keys).await.must("delete_many with a key named twice");
    assert_eq!(deleted, 2, "the count of delete_many of two entries, one of them named three times");
    handle.lacks(&key("a"), "read after delete_many").await;
    handle.lacks(&key("b"), "read after delete_many").await;
    handle.holds(&key("stays"), &handle.value("stays"), "read of a key not in the batch").await;
}

/// A batch replaces the entries that it names, and leaves the others alone.
pub async fn batches_replace_and_leave_alone(target: Target) {
    let handle = target.open().await;
    handle.put(&key("old"), &handle.value("a long old value")).await;
    handle.put(&key("other"), &handle.value("other")).await;
    handle.write_many(&[write(&handle, "old", "new"), write(&handle, "new", "new")]).await.must("write_many");
    handle.holds(&key("old"), &handle.value("new"), "read of a key that a batch overwrote").await;
    handle.holds(&key("new"), &handle.value("new"), "read of a key that a batch created").await;
    handle.holds(&key("other"), &handle.value("other"), "read of a key not in the batch").await;
}

/// Each write of a batch has its own time to live, or none.
pub async fn each_write_of_a_batch_has_its_own_time_to_live(target: Target) {
    let handle = target.open().await;
    if !handle.capabilities().expiry {
        return;
    }
    let ttl = Duration::from_millis(200);
    let value = handle.value("x");
    for name in ["was-expiring", "zero"] {
        handle.write(&key(name), value.clone(), Expiry::After(ttl)).await.must("write");
    }
    let life = Lifetime::begin(ttl);
    let writes = [
        Write::new(key("stays"), value.clone(), Expiry::Never),
        Write::new(key("short"), value.clone(), Expiry::After(ttl)),
        Write::new(key("was-expiring"), value.clone(), Expiry::Never),
        Write::new(key("zero"), value.clone(), Expiry::After(Duration::ZERO)),
        Write::new(key("long"), value.clone(), Expiry::after_secs(3600)),
    ];
    handle.write_many(&writes).await.must("write_many with times to live");
    handle.lacks(&key("zero"), "read of an entry that a batch wrote with a time to live of zero").await;
    life.written().expires(&handle, &key("short"), "read of an entry that a batch wrote").await;
    for name in ["stays", "was-expiring"] {
        handle.holds(&key(name), &value, "read of an entry that a batch wrote to stay").await;
        let left = handle.ttl(&key(name)).await.must("ttl");
        assert_eq!(left, Some(Expiry::Never), "the ttl of an entry that a batch wrote to stay");
    }
    let left = handle.ttl(&key("long")).await.must("ttl");
    let right = matches!(left, Some(Expiry::After(left)) if (3000..=3600).contains(&left.as_secs()));
    assert!(right, "of an hour that a batch gave, {left:?} is left");
}

/// When some entries of a batch cannot be written, the error says which, and the others are stored.
pub async fn a_batch_that_fails_in_part_says_which(target: Target) {
    let handle = target.open().await;
    let Some(bad) = refused(&handle) else { return };
    for name in ["one", "two", "three"] {
        handle.put(&key(name), &handle.value("old")).await;
    }
    let bad = |name: &str| Write::new(key(name), bad.value.clone(), bad.expiry);
    let writes = [
        write(&handle, "zero", "new"),
        bad("one"),
        write(&handle, "two", "new"),
        bad("three"),
        write(&handle, "four", "new"),
    ];
    let error = handle
        .write_many(&writes)
        .await
        .fails(ErrorKind::Partial, "write_many with entries that are refused");
    let failed: Vec<usize> = error.failures().iter().map(|failure| failure.index).collect();
    assert_eq!(failed, [1, 3], "the entries that the error of the batch names");
    for failure in error.failures() {
        let expected = [ErrorKind::TooLarge, ErrorKind::InvalidValue, ErrorKind::Unsupported];
        let kind = failure.error.kind();
        assert!(expected.contains(&kind), "an entry that is refused failed as {kind}");
    }
    assert!(!error.is_retryable(), "a batch with entries that are refused calls itself retryable");
    for (name, text) in [("zero", "new"), ("one", "old"), ("two", "new"), ("three", "old"), ("four", "new")] {
        handle.holds(&key(name), &handle.value(text), "read after a batch that failed in part").await;
    }
}

/// A write that the storage refuses for what it is, if there is one.
fn refused(handle: &Handle) -> Option<Write> {
    const MOST: u64 = 20 << 20;
    let capabilities = handle.capabilities();
    if capabilities.values != Values::Bytes {
        return Some(Write::new(key("bad"), "not JSON", Expiry::Never));
    }
    if !capabilities.expiry {
        return Some(Write::new(key("bad"), handle.value("x"), Expiry::after_secs(60)));
    }
    let length = capabilities.max_value.filter(|&most| most <= MOST)?;
    let length = usize::try_from(length).must("count in usize") + 1;
    Some(Write::new(key("bad"), handle.bulk(length, 1), Expiry::Never))
}

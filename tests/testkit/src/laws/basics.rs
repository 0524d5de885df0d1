//! Reading, writing and deleting one entry.

use larder_core::Expiry;

use super::key;
use crate::{Must, Target};

laws![
    round_trip,
    absent_key_reads_none,
    overwrite_replaces_the_value,
    delete_returns_whether_the_entry_existed,
    a_deleted_key_can_be_written_again,
    contains_agrees_with_read,
    entries_do_not_affect_each_other,
    two_handles_share_one_store,
    reopening_keeps_entries,
    ping_answers,
    ping_leaves_no_entry,
    a_flush_keeps_entries,
];

/// A read returns the written value.
pub async fn round_trip(target: Target) {
    let handle = target.open().await;
    let value = handle.value("the value");
    handle.put(&key("one"), &value).await;
    handle.holds(&key("one"), &value, "read after a write").await;
    handle.holds(&key("one"), &value, "second read").await;
}

/// A read of a key that was never written returns `None`, not an error and not an empty value.
pub async fn absent_key_reads_none(target: Target) {
    let handle = target.open().await;
    handle.lacks(&key("never"), "read of a key that was never written").await;
    handle.put(&key("other"), &handle.value("x")).await;
    handle.lacks(&key("never"), "read of a key that was never written, after a write of another key").await;
}

/// A second write replaces the value, even if the new value is shorter.
pub async fn overwrite_replaces_the_value(target: Target) {
    let handle = target.open().await;
    for text in ["first", "a second one that is longer", "3rd"] {
        let value = handle.value(text);
        handle.put(&key("one"), &value).await;
        handle.holds(&key("one"), &value, "read after an overwrite").await;
    }
}

/// A deletion returns `true` if the entry existed. It returns `false` before the first write, and after another
/// deletion.
pub async fn delete_returns_whether_the_entry_existed(target: Target) {
    let handle = target.open().await;
    let key = key("one");
    assert!(
        !handle.delete(&key).await.must("delete"),
        "a delete of a key that was never written returned true"
    );
    handle.put(&key, &handle.value("x")).await;
    assert!(handle.delete(&key).await.must("delete"), "a delete of an entry returned false");
    handle.lacks(&key, "read after a delete").await;
    assert!(!handle.delete(&key).await.must("delete"), "a second delete returned true");
}

/// After a deletion, the key can be written, read and deleted again.
pub async fn a_deleted_key_can_be_written_again(target: Target) {
    let handle = target.open().await;
    let key = key("one");
    for text in ["first", "second"] {
        let value = handle.value(text);
        handle.put(&key, &value).await;
        handle.holds(&key, &value, "read after a write").await;
        assert!(handle.delete(&key).await.must("delete"), "a delete of an entry returned false");
        handle.lacks(&key, "read after a delete").await;
    }
}

/// `contains` returns the same as a read, after every change of the entry.
pub async fn contains_agrees_with_read(target: Target) {
    let handle = target.open().await;
    let key = key("one");
    assert!(!handle.contains(&key).await.must("contains"), "contains is true before the first write");
    handle.put(&key, &handle.value("x")).await;
    assert!(handle.contains(&key).await.must("contains"), "contains is false after a write");
    handle.put(&key, &handle.value("y")).await;
    assert!(handle.contains(&key).await.must("contains"), "contains is false after an overwrite");
    handle.delete(&key).await.must("delete");
    assert!(!handle.contains(&key).await.must("contains"), "contains is true after a delete");
}

/// Writing and deleting one key does not change other entries.
pub async fn entries_do_not_affect_each_other(target: Target) {
    let handle = target.open().await;
    let names = ["a", "b", "ab", "ba", "aa", "1", "11"];
    for name in names {
        handle.put(&key(name), &handle.value(name)).await;
    }
    handle.put(&key("ab"), &handle.value("changed")).await;
    handle.delete(key("a")).await.must("delete");
    for name in names {
        match name {
            "a" => handle.lacks(&key(name), "read of the deleted key").await,
            "ab" => handle.holds(&key(name), &handle.value("changed"), "read of the changed key").await,
            _ => handle.holds(&key(name), &handle.value(name), "read of another key").await,
        }
    }
}

/// A handle immediately sees the writes and deletions of another handle on the same store.
pub async fn two_handles_share_one_store(target: Target) {
    let (left, right) = (target.open().await, target.open().await);
    let key = key("shared");
    for round in 0..10 {
        let value = left.value(&format!("by the left one, {round}"));
        left.put(&key, &value).await;
        right.holds(&key, &value, "read through the other handle").await;
        let value = right.value(&format!("by the right one, {round}"));
        right.put(&key, &value).await;
        left.holds(&key, &value, "read through the other handle").await;
    }
    assert!(left.delete(&key).await.must("delete"), "a delete of an entry returned false");
    right.lacks(&key, "read through the other handle after a delete").await;
}

/// After a persistent store was closed and opened again, it has every entry, with its value and its remaining time
/// to live.
pub async fn reopening_keeps_entries(target: Target) {
    let handle = target.open().await;
    if !handle.info().persistent {
        target.ignore("the store does not claim to be persistent");
        return;
    }
    let expiry = handle.info().expiry;
    for index in 0..20 {
        let name = format!("kept-{index}");
        handle.put(&key(&name), &handle.value(&name)).await;
    }
    if expiry {
        let value = handle.value("expiring");
        handle.write(key("expiring"), value).expiry(Expiry::after_secs(3600)).await.must("write");
    }
    handle.put(&key("gone"), &handle.value("x")).await;
    handle.delete(key("gone")).await.must("delete");

    let handle = target.reopen(handle).await;
    for index in 0..20 {
        let name = format!("kept-{index}");
        handle.holds(&key(&name), &handle.value(&name), "read after reopening").await;
    }
    handle.lacks(&key("gone"), "read of a deleted key after reopening").await;
    if expiry {
        handle.holds(&key("expiring"), &handle.value("expiring"), "read after reopening").await;
        let left = handle.ttl(&key("expiring")).await.must("ttl").must("ttl after reopening");
        let Expiry::After(left) = left else {
            panic!("the entry no longer expires after reopening");
        };
        assert!((3000..=3600).contains(&left.as_secs()), "after reopening {left:?} of an hour remain");
    }
}

/// A reachable store answers a ping.
pub async fn ping_answers(target: Target) {
    let handle = target.open().await;
    handle.ping().await.must("ping");
    handle.ping().await.must("second ping");
}

/// Opening a handle and a ping do not create entries that listings return.
pub async fn ping_leaves_no_entry(target: Target) {
    let handle = target.open().await;
    handle.ping().await.must("ping");
    if handle.info().listing {
        assert!(handle.listed("").await.is_empty(), "a store without writes lists a key");
    }
}

/// A flush succeeds, with and without unflushed writes, and does not lose entries.
pub async fn a_flush_keeps_entries(target: Target) {
    let handle = target.open().await;
    handle.flush().await.must("flush of an empty store");
    let value = handle.value("flushed");
    handle.put(&key("one"), &value).await;
    handle.flush().await.must("flush");
    handle.holds(&key("one"), &value, "read after a flush").await;
}

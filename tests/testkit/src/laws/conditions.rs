//! Compare-and-swap.

use larder_core::{Condition, ErrorKind, Key, Version, Versions};

use super::key;
use crate::{
    Fails, Handle, Must, Target, claims::Ability, increment_by_conditional_write, increment_by_update, race,
};

laws![
    without_versions_conditions_are_unsupported,
    reads_carry_a_version,
    write_if_absent_creates,
    write_if_absent_leaves_an_entry_alone,
    write_if_absent_wins_once,
    write_if_at_the_version_read_replaces,
    write_if_at_a_stale_version_loses,
    write_if_at_a_version_of_a_missing_entry_loses,
    write_if_at_one_version_wins_once,
    a_conditional_write_returns_the_next_version,
    a_write_changes_the_version,
    a_version_counts_for_its_key_only,
    changing_back_is_as_documented,
    deleting_and_creating_again_is_as_documented,
    delete_at_the_version_read_deletes,
    delete_if_at_a_stale_version_loses,
    conditional_deletes_and_writes_exclude_each_other,
    deletes_race_with_conditions,
    increments_by_conditional_write_are_all_counted,
    increments_by_update_are_all_counted,
    increments_through_two_handles_are_all_counted,
];

/// Opens a handle, if its storage has versions.
pub(super) async fn versioned(target: &Target) -> Option<Handle> {
    let handle = target.open().await;
    target.claims(&handle, Ability::Conditions).await.then_some(handle)
}

pub(super) async fn version(handle: &Handle, key: &Key) -> Version {
    let record = handle.read(key).await.must("read").must("read");
    record.version.must("take the version of a record")
}

pub(super) async fn create(handle: &Handle, key: &Key, text: &str) -> Version {
    let value = handle.value(text);
    let written = handle.write(key, value).if_absent().await.must("write of an absent key");
    written.version.must("take the version of the written entry")
}

/// A storage without versions rejects conditional writes and deletions as unsupported, and does not apply them. Its
/// records have no version.
pub async fn without_versions_conditions_are_unsupported(target: Target) {
    let handle = target.open().await;
    if handle.info().conditions() {
        target.ignore("the store claims versions and conditions");
        return;
    }
    let old = handle.value("old");
    handle.put(&key("one"), &old).await;
    let record = handle.read(key("one")).await.must("read").must("read");
    assert!(record.version.is_none(), "a storage without versions returned a version");
    let new = handle.value("new");
    for condition in [Condition::Absent, Condition::At(Version::unique())] {
        for name in ["one", "two"] {
            let write = handle.write(key(name), new.clone()).condition(condition.clone()).await;
            write.fails(ErrorKind::Unsupported, "conditional write on a storage without versions");
        }
    }
    let delete = handle.delete(key("one")).if_at(Version::unique()).await;
    delete.fails(ErrorKind::Unsupported, "conditional delete on a storage without versions");
    handle.holds(&key("one"), &old, "read after unsupported conditions").await;
    handle.lacks(&key("two"), "read after unsupported conditions").await;
}

/// Every record has a version, which stays the same until the entry is written again.
pub async fn reads_carry_a_version(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    handle.put(&key, &handle.value("x")).await;
    let first = version(&handle, &key).await;
    assert_eq!(version(&handle, &key).await, first, "two reads of one state returned different versions");
    let many = handle.read_all(std::slice::from_ref(&key), "read_many").await;
    let many = many.into_iter().next().flatten().must("read_many");
    assert_eq!(many.version, Some(first), "read and read_many of one state returned different versions");
}

/// A write if absent creates an entry that does not exist.
pub async fn write_if_absent_creates(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    create(&handle, &key("one"), "created").await;
    handle.holds(&key("one"), &handle.value("created"), "read after a conditional write").await;
}

/// A write if absent is a conflict if the entry exists, and does not change it.
pub async fn write_if_absent_leaves_an_entry_alone(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let (key, old) = (key("one"), handle.value("old"));
    handle.put(&key, &old).await;
    let before = version(&handle, &key).await;
    for text in ["new", "old"] {
        let write = handle.write(&key, handle.value(text)).if_absent().await;
        write.fails(ErrorKind::Conflict, "write if absent over an existing entry");
    }
    handle.holds(&key, &old, "read after a conflict").await;
    assert_eq!(version(&handle, &key).await, before, "a conflict changed the version");
}

/// Of many tasks that create one key at the same time, one wins, and the entry has its value.
pub async fn write_if_absent_wins_once(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let other = target.open().await;
    for round in 0..target.count(12, 4) {
        let key = key(&format!("raced-{round}"));
        let winners = race(target.count(16, 8), |index| {
            let handle = if index % 2 == 0 { handle.clone() } else { other.clone() };
            let (key, value) = (key.clone(), handle.value(&format!("racer {index}")));
            async move { won(handle.write(&key, value).if_absent().await) }
        })
        .await;
        let winner = only(&winners, "of the tasks that created one key at the same time");
        let value = handle.value(&format!("racer {winner}"));
        handle.holds(&key, &value, "read of the key that the winner created").await;
    }
}

/// Returns whether a conditional operation has won. Panics for any error other than a conflict.
pub(super) fn won<T>(outcome: larder_core::Result<T>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict, "a racing operation failed: {error}");
            false
        }
    }
}

/// Returns the index of the only winner.
pub(super) fn only(winners: &[bool], what: &str) -> usize {
    let count = winners.iter().filter(|&&won| won).count();
    assert_eq!(count, 1, "the number of winners {what}");
    winners.iter().position(|&won| won).unwrap_or_default()
}

/// A write on the condition of the version that was read replaces the value.
pub async fn write_if_at_the_version_read_replaces(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    handle.put(&key, &handle.value("old")).await;
    let seen = version(&handle, &key).await;
    let new = handle.value("new");
    handle.write(&key, new.clone()).if_at(seen).await.must("write at the version read");
    handle.holds(&key, &new, "read after a conditional write").await;
}

/// A write at a version that has been overwritten is a conflict, and writes nothing.
pub async fn write_if_at_a_stale_version_loses(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    handle.put(&key, &handle.value("first")).await;
    let stale = version(&handle, &key).await;
    let second = handle.value("second");
    handle.put(&key, &second).await;
    let write = handle.write(&key, handle.value("third")).if_at(stale.clone()).await;
    write.fails(ErrorKind::Conflict, "write at a stale version");
    handle.holds(&key, &second, "read after a conflict").await;
    // The same after a conditional write has replaced the value.
    let seen = version(&handle, &key).await;
    let third = handle.value("third");
    handle.write(&key, third.clone()).if_at(seen.clone()).await.must("conditional write");
    for stale in [seen, stale] {
        let write = handle.write(&key, handle.value("lost")).if_at(stale).await;
        write.fails(ErrorKind::Conflict, "write at a stale version");
    }
    handle.holds(&key, &third, "read after a conflict").await;
}

/// A write at a version is a conflict if the entry does not exist, and does not create it.
pub async fn write_if_at_a_version_of_a_missing_entry_loses(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    let seen = create(&handle, &key, "x").await;
    handle.delete(&key).await.must("delete");
    let write = handle.write(&key, handle.value("x")).if_at(seen.clone()).await;
    write.fails(ErrorKind::Conflict, "write at a version of a deleted entry");
    handle.lacks(&key, "read after a conflict").await;
    let delete = handle.delete(&key).if_at(seen.clone()).await;
    delete.fails(ErrorKind::Conflict, "delete at a version of a deleted entry");
}

/// Of many tasks that replace one version at the same time, one wins, and the entry has its value.
pub async fn write_if_at_one_version_wins_once(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let other = target.open().await;
    let key = key("raced");
    handle.put(&key, &handle.value("start")).await;
    for round in 0..target.count(12, 4) {
        let seen = version(&handle, &key).await;
        let winners = race(target.count(16, 8), |index| {
            let handle = if index % 2 == 0 { handle.clone() } else { other.clone() };
            let (key, value) = (key.clone(), handle.value(&format!("round {round}, racer {index}")));
            let condition = Condition::At(seen.clone());
            async move { won(handle.write(&key, value).condition(condition).await) }
        })
        .await;
        let winner = only(&winners, "of the tasks that replaced one version at the same time");
        let value = handle.value(&format!("round {round}, racer {winner}"));
        handle.holds(&key, &value, "read of the value of the winner").await;
    }
}

/// A conditional write returns the version that a read then returns. The next conditional write can use it without a
/// read in between.
pub async fn a_conditional_write_returns_the_next_version(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    let mut current = create(&handle, &key, "0").await;
    for round in 1..6 {
        let read = version(&handle, &key).await;
        assert_eq!(read, current, "a read and a conditional write returned different versions");
        let value = handle.value(&round.to_string());
        let next = handle.write(&key, value).if_at(current.clone()).await;
        let next = next.must("write at the version that the last write returned");
        let next = next.version.must("take the version of the written entry");
        assert_ne!(next, current, "a write of another value returned the version that it replaced");
        current = next;
    }
    handle
        .delete(&key)
        .if_at(current.clone())
        .await
        .must("delete at the version that a conditional write returned");
}

/// A write without a condition changes the version. A write of the same value changes unique versions, but not
/// content versions.
pub async fn a_write_changes_the_version(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    handle.put(&key, &handle.value("x")).await;
    let first = version(&handle, &key).await;
    handle.put(&key, &handle.value("x")).await;
    let same = version(&handle, &key).await;
    handle.put(&key, &handle.value("y")).await;
    let other = version(&handle, &key).await;
    assert_ne!(same, other, "a write of another value kept the version");
    match handle.info().versions {
        Versions::Content => assert_eq!(first, same, "a content version changed with the same content"),
        _ => {
            assert_ne!(first, same, "a write of the same value kept the version, though versions are unique");
        }
    }
}

/// The version of one key does not meet a condition on another key.
pub async fn a_version_counts_for_its_key_only(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let one = create(&handle, &key("one"), "1").await;
    create(&handle, &key("two"), "2").await;
    let write = handle.write(key("two"), handle.value("x")).if_at(one.clone()).await;
    write.fails(ErrorKind::Conflict, "write at the version of another key");
    let delete = handle.delete(key("two")).if_at(one.clone()).await;
    delete.fails(ErrorKind::Conflict, "delete at the version of another key");
    handle.holds(&key("two"), &handle.value("2"), "read after a conflict").await;
}

/// If a value changes and changes back, a condition on the old version fails with unique versions, and holds with
/// content versions.
pub async fn changing_back_is_as_documented(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    handle.put(&key, &handle.value("a")).await;
    let seen = version(&handle, &key).await;
    handle.put(&key, &handle.value("b")).await;
    handle.put(&key, &handle.value("a")).await;
    let write = handle.write(&key, handle.value("c")).if_at(seen).await;
    if handle.info().versions == Versions::Content {
        write.must("write at a content version after the value has changed back");
    } else {
        write.fails(ErrorKind::Conflict, "write at a version after the value has changed and changed back");
        handle.holds(&key, &handle.value("a"), "read after a conflict").await;
    }
}

/// After an entry was deleted and created again, a condition on the old version fails with unique versions. With
/// content versions, it fails only if the value differs.
pub async fn deleting_and_creating_again_is_as_documented(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    let first = create(&handle, &key, "a").await;
    handle.delete(&key).await.must("delete");
    create(&handle, &key, "b").await;
    let write = handle.write(&key, handle.value("c")).if_at(first.clone()).await;
    write.fails(
        ErrorKind::Conflict,
        "write at a version after the entry was deleted and created with another value",
    );
    handle.delete(&key).await.must("delete");
    create(&handle, &key, "a").await;
    let write = handle.write(&key, handle.value("c")).if_at(first).await;
    if handle.info().versions == Versions::Content {
        write.must("write at a content version after the entry was created again");
    } else {
        write.fails(
            ErrorKind::Conflict,
            "write at a version after the entry was deleted and created with the same value",
        );
    }
}

/// A deletion at the version that was read deletes the entry. The key can be created again.
pub async fn delete_at_the_version_read_deletes(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    handle.put(&key, &handle.value("x")).await;
    let seen = version(&handle, &key).await;
    handle.delete(&key).if_at(seen.clone()).await.must("delete at the version read");
    handle.lacks(&key, "read after a conditional delete").await;
    let again = handle.delete(&key).if_at(seen.clone()).await;
    again.fails(ErrorKind::Conflict, "a second conditional delete");
    create(&handle, &key, "again").await;
}

/// A deletion at a version that has been overwritten is a conflict, and does not delete the entry.
pub async fn delete_if_at_a_stale_version_loses(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    handle.put(&key, &handle.value("old")).await;
    let stale = version(&handle, &key).await;
    handle.put(&key, &handle.value("new")).await;
    let delete = handle.delete(&key).if_at(stale.clone()).await;
    delete.fails(ErrorKind::Conflict, "delete at a stale version");
    handle.holds(&key, &handle.value("new"), "read after a conflict").await;
}

/// Of concurrent writes and deletions at one version, one wins.
pub async fn conditional_deletes_and_writes_exclude_each_other(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    for round in 0..target.count(24, 8) {
        let key = key(&format!("raced-{round}"));
        let seen = create(&handle, &key, "old").await;
        let winners = race(6, |index| {
            let (handle, key, seen) = (handle.clone(), key.clone(), seen.clone());
            async move {
                if index % 2 == 0 {
                    won(handle.delete(&key).if_at(seen.clone()).await)
                } else {
                    let new = handle.value("new");
                    won(handle.write(&key, new).if_at(seen).await)
                }
            }
        })
        .await;
        let winner = only(&winners, "of the tasks that replaced or deleted one version at the same time");
        if winner.is_multiple_of(2) {
            handle.lacks(&key, "read after a conditional delete has won").await;
        } else {
            handle.holds(&key, &handle.value("new"), "read after a conditional write has won").await;
        }
    }
}

/// At most one of several writes at one version wins if they race with a deletion without a condition. In the end,
/// the entry is deleted.
pub async fn deletes_race_with_conditions(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    for round in 0..target.count(24, 8) {
        let key = key(&format!("raced-{round}"));
        let seen = create(&handle, &key, "old").await;
        let outcomes = race(6, |index| {
            let (handle, key, condition) = (handle.clone(), key.clone(), Condition::At(seen.clone()));
            async move {
                if index == 0 {
                    let there = handle.delete(&key).await.must("delete");
                    assert!(there, "a delete of an entry that was only replaced returned false");
                    return false;
                }
                won(handle.write(&key, handle.value("new")).condition(condition).await)
            }
        })
        .await;
        let count = outcomes.iter().filter(|&&won| won).count();
        assert!(count <= 1, "{count} tasks replaced one version");
        // A write can only win before the deletion: after it, the condition does not hold.
        handle.lacks(&key, "read after a delete").await;
    }
}

async fn counted(handle: &Handle, key: &Key, expected: usize) {
    let record = handle.read(key).await.must("read the counter").must("read the counter");
    let count: usize = serde_json::from_slice(&record.value).must("read the counter as a number");
    assert_eq!(count, expected, "the counter after {expected} increments");
}

/// If N tasks add one to a number M times, by a read and a conditional write, the result is N x M.
pub async fn increments_by_conditional_write_are_all_counted(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let (tasks, times) = (8, target.count(50, 10));
    race(tasks, |_| {
        let handle = handle.clone();
        async move { increment_by_conditional_write(&handle, &key("counter"), times).await }
    })
    .await;
    counted(&handle, &key("counter"), tasks * times).await;
}

/// If N tasks add one to a number M times, by `update`, the result is N x M.
pub async fn increments_by_update_are_all_counted(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let (tasks, times) = (8, target.count(50, 10));
    race(tasks, |_| {
        let handle = handle.clone();
        async move { increment_by_update(&handle, &key("counter"), times).await }
    })
    .await;
    counted(&handle, &key("counter"), tasks * times).await;
}

/// Increments by conditional writes are exact through two handles, each with its own connections.
pub async fn increments_through_two_handles_are_all_counted(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let other = target.open().await;
    let (tasks, times) = (6, target.count(50, 10));
    race(tasks, |index| {
        let handle = if index % 2 == 0 { handle.clone() } else { other.clone() };
        async move { increment_by_conditional_write(&handle, &key("counter"), times).await }
    })
    .await;
    counted(&handle, &key("counter"), tasks * times).await;
}

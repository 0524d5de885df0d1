//! Writes, deletions and touches with each condition.

use std::time::Duration;

use larder_core::{ErrorKind, Expiry, Key, Version};

use super::{
    conditions::{create, only, version, versioned, won},
    key, remains_of,
};
use crate::{Fails, Handle, Must, Target, claims::Ability, race};

laws![
    every_write_returns_its_version,
    write_if_present_replaces_and_never_creates,
    delete_if_present_deletes_an_entry,
    delete_if_absent_deletes_nothing,
    touch_if_present_touches_an_entry,
    touch_if_absent_touches_nothing,
    touch_at_the_version_read_touches,
    touch_at_a_stale_version_changes_nothing,
    expired_entries_are_absent_to_conditional_touches,
    conditional_deletes_win_once,
    present_conditions_race_with_deletes,
    a_touch_at_a_version_never_touches_the_next,
];

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Opens a handle, if its store has versions and expiry.
async fn touching(target: &Target) -> Option<Handle> {
    let handle = versioned(target).await?;
    target.claims(&handle, Ability::Expiry).await.then_some(handle)
}

async fn never_expires(handle: &Handle, key: &Key, what: &str) {
    assert_eq!(handle.ttl(key).await.must("ttl"), Some(Expiry::Never), "{what}");
}

/// Each write returns the version that a read then returns, with every condition.
pub async fn every_write_returns_its_version(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    let first = create(&handle, &key, "0").await;
    let writes = [
        handle.write(&key, handle.value("1")),
        handle.write(&key, handle.value("2")).if_present(),
        handle.write(&key, handle.value("3")),
    ];
    let mut before = first;
    for write in writes {
        let written = write.await.must("write").version.must("take the version of the written entry");
        let read = version(&handle, &key).await;
        assert_eq!(read, written, "a write and the read after it returned different versions");
        assert_ne!(written, before, "a write of another value returned the version that it replaced");
        before = written;
    }
}

/// A write if present replaces an existing entry. If the entry does not exist, the write is a conflict and creates
/// nothing.
pub async fn write_if_present_replaces_and_never_creates(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    let write = || handle.write(&key, handle.value("new")).if_present();
    write().await.fails(ErrorKind::Conflict, "write if present before the first write");
    handle.lacks(&key, "read after a conflict").await;
    handle.put(&key, &handle.value("old")).await;
    write().await.must("write if present");
    handle.holds(&key, &handle.value("new"), "read after a write if present").await;
    if handle.info().expiry {
        write().expires_in(HOUR).await.must("write if present with a time to live");
        let left = handle.ttl(&key).await.must("ttl");
        assert!(remains_of(left, HOUR), "the ttl after a write if present for an hour is {left:?}");
        write().await.must("write if present");
        never_expires(&handle, &key, "the ttl after a write if present without a time to live").await;
    }
    handle.delete(&key).await.must("delete");
    write().await.fails(ErrorKind::Conflict, "write if present after a delete");
    handle.lacks(&key, "read after a conflict").await;
}

/// A deletion if present deletes an existing entry. If the entry does not exist, the deletion is a conflict.
pub async fn delete_if_present_deletes_an_entry(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    let delete = || handle.delete(&key).if_present();
    delete().await.fails(ErrorKind::Conflict, "delete if present before the first write");
    handle.put(&key, &handle.value("x")).await;
    assert!(delete().await.must("delete if present"), "a delete if present returned false");
    handle.lacks(&key, "read after a delete if present").await;
    delete().await.fails(ErrorKind::Conflict, "a second delete if present");
}

/// A deletion if absent returns `false` if the entry does not exist. If the entry exists, the deletion is a
/// conflict.
pub async fn delete_if_absent_deletes_nothing(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let key = key("one");
    let delete = || handle.delete(&key).if_absent();
    assert!(!delete().await.must("delete if absent"), "a delete if absent returned true");
    handle.put(&key, &handle.value("x")).await;
    delete().await.fails(ErrorKind::Conflict, "delete if absent of an entry");
    handle.holds(&key, &handle.value("x"), "read after a conflict").await;
}

/// A touch if present touches an existing entry. If the entry does not exist, the touch is a conflict.
pub async fn touch_if_present_touches_an_entry(target: Target) {
    let Some(handle) = touching(&target).await else { return };
    let key = key("one");
    let touch = || handle.touch(&key, HOUR).if_present();
    touch().await.fails(ErrorKind::Conflict, "touch if present before the first write");
    handle.lacks(&key, "read after a conflict").await;
    handle.put(&key, &handle.value("x")).await;
    let before = version(&handle, &key).await;
    assert!(touch().await.must("touch if present"), "a touch if present returned false");
    let left = handle.ttl(&key).await.must("ttl");
    assert!(remains_of(left, HOUR), "the ttl after a touch if present for an hour is {left:?}");
    handle.holds(&key, &handle.value("x"), "read after a touch if present").await;
    assert_eq!(version(&handle, &key).await, before, "a touch if present changed the version");
}

/// A touch if absent returns `false` if the entry does not exist. If the entry exists, the touch is a conflict.
pub async fn touch_if_absent_touches_nothing(target: Target) {
    let Some(handle) = touching(&target).await else { return };
    let key = key("one");
    let touch = || handle.touch(&key, HOUR).if_absent();
    assert!(!touch().await.must("touch if absent"), "a touch if absent returned true");
    handle.lacks(&key, "read after a touch if absent").await;
    handle.put(&key, &handle.value("x")).await;
    touch().await.fails(ErrorKind::Conflict, "touch if absent of an entry");
    never_expires(&handle, &key, "the ttl after a conflict").await;
}

/// A touch at the version that was read sets the new time to live, and keeps value and version.
pub async fn touch_at_the_version_read_touches(target: Target) {
    let Some(handle) = touching(&target).await else { return };
    let (key, value) = (key("one"), handle.value("x"));
    handle.put(&key, &value).await;
    let seen = version(&handle, &key).await;
    for ttl in [DAY, HOUR] {
        let touched = handle.touch(&key, ttl).if_at(seen.clone()).await.must("touch at the version read");
        assert!(touched, "a touch at the version read returned false");
        let left = handle.ttl(&key).await.must("ttl");
        assert!(remains_of(left, ttl), "the ttl after a touch at a version for {ttl:?} is {left:?}");
    }
    handle.touch(&key, Expiry::Never).if_at(seen.clone()).await.must("touch at the version read");
    never_expires(&handle, &key, "the ttl after a touch without a time to live").await;
    handle.holds(&key, &value, "read after a touch at a version").await;
    assert_eq!(version(&handle, &key).await, seen, "a touch at a version changed the version");
    let zero = handle.touch(&key, Duration::ZERO).if_at(seen).await.must("touch with a time to live of zero");
    assert!(zero, "a touch of an entry with a time to live of zero returned false");
    handle.lacks(&key, "read after a touch with a time to live of zero").await;
}

/// A touch at another version, or of a missing entry at any version, is a conflict and changes nothing.
pub async fn touch_at_a_stale_version_changes_nothing(target: Target) {
    let Some(handle) = touching(&target).await else { return };
    let (one, other) = (key("one"), key("other"));
    let stale = create(&handle, &one, "old").await;
    handle.put(&one, &handle.value("new")).await;
    let elsewhere = create(&handle, &other, "elsewhere").await;
    for version in [stale.clone(), elsewhere, Version::unique()] {
        for expiry in [Expiry::After(HOUR), Expiry::After(Duration::ZERO)] {
            let touch = handle.touch(&one, expiry).if_at(version.clone()).await;
            touch.fails(ErrorKind::Conflict, "touch at another version");
        }
    }
    never_expires(&handle, &one, "the ttl after a conflict").await;
    handle.holds(&one, &handle.value("new"), "read after a conflict").await;
    handle.delete(&one).await.must("delete");
    let touch = handle.touch(&one, HOUR).if_at(stale).await;
    touch.fails(ErrorKind::Conflict, "touch at a version of a deleted entry");
    handle.lacks(&one, "read after a conflict").await;
}

/// Conditions treat an expired entry as absent: a touch, a deletion and a write if present are conflicts, and do not
/// restore the entry.
pub async fn expired_entries_are_absent_to_conditional_touches(target: Target) {
    let Some(handle) = touching(&target).await else { return };
    let ttl = Duration::from_millis(120);
    let life = crate::Lifetime::begin(ttl);
    let key = key("one");
    let written = handle.write(&key, handle.value("x")).expires_in(ttl).if_absent().await.must("write");
    let version = written.version.must("take the version of the written entry");
    let last = super::key("last");
    handle.write(&last, handle.value("x")).expires_in(ttl).await.must("write");
    life.written().expires(&handle, &last, "read of the entry written last").await;
    let touch = handle.touch(&key, HOUR).if_at(version.clone()).await;
    touch.fails(ErrorKind::Conflict, "touch at the version of an expired entry");
    handle.touch(&key, HOUR).if_present().await.fails(ErrorKind::Conflict, "touch of an expired entry");
    handle.delete(&key).if_present().await.fails(ErrorKind::Conflict, "delete of an expired entry");
    let write = handle.write(&key, handle.value("y")).if_present().await;
    write.fails(ErrorKind::Conflict, "write if present over an expired entry");
    handle.lacks(&key, "read after conflicts over an expired entry").await;
    let deleted = handle.delete(&key).if_absent().await.must("delete if absent");
    assert!(!deleted, "a delete if absent returned true");
}

/// Of many tasks that delete one entry at the same time, at its version or if present, one wins.
pub async fn conditional_deletes_win_once(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let other = target.open().await;
    for round in 0..target.count(12, 4) {
        let key = key(&format!("raced-{round}"));
        let seen = create(&handle, &key, "x").await;
        let winners = race(target.count(16, 8), |index| {
            let handle = if index % 2 == 0 { handle.clone() } else { other.clone() };
            let (key, seen) = (key.clone(), seen.clone());
            async move {
                // In every second round, all tasks compare the version, which takes a faulty storage longer.
                if round % 2 == 0 || index % 4 < 2 {
                    won(handle.delete(&key).if_at(seen).await)
                } else {
                    won(handle.delete(&key).if_present().await)
                }
            }
        })
        .await;
        only(&winners, "of the tasks that deleted one entry at the same time");
        handle.lacks(&key, "read after a conditional delete").await;
    }
}

/// A write or touch if present that races with a deletion comes before it or is a conflict. It never restores the
/// entry.
pub async fn present_conditions_race_with_deletes(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let (other, expiry) = (target.open().await, handle.info().expiry);
    for round in 0..target.count(24, 8) {
        let key = key(&format!("raced-{round}"));
        handle.put(&key, &handle.value("old")).await;
        race(6, |index| {
            let handle = if index % 2 == 0 { handle.clone() } else { other.clone() };
            let key = key.clone();
            async move {
                if index == 0 {
                    let there = handle.delete(&key).await.must("delete");
                    assert!(there, "a delete of an entry that was only replaced returned false");
                } else if index % 2 == 0 && expiry {
                    won(handle.touch(&key, HOUR).if_present().await);
                } else {
                    won(handle.write(&key, handle.value("new")).if_present().await);
                }
            }
        })
        .await;
        handle.lacks(&key, "read after a delete that raced with changes if present").await;
    }
}

/// Touches at the old version that race with a write come before it or are conflicts. They never change the expiry of
/// the new value.
pub async fn a_touch_at_a_version_never_touches_the_next(target: Target) {
    let Some(handle) = touching(&target).await else { return };
    let other = target.open().await;
    let key = key("raced");
    for round in 0..target.count(24, 8) {
        handle.put(&key, &handle.value(&format!("old {round}"))).await;
        let seen = version(&handle, &key).await;
        let winners = race(6, |index| {
            let handle = if index % 2 == 0 { handle.clone() } else { other.clone() };
            let (key, seen) = (key.clone(), seen.clone());
            async move {
                if index < 2 {
                    let new = handle.value(&format!("new {round} by {index}"));
                    return won(handle.write(&key, new).if_at(seen).await);
                }
                won(handle.touch(&key, HOUR).if_at(seen).await);
                false
            }
        })
        .await;
        let winner = only(&winners, "of the tasks that replaced one version during touches");
        let new = handle.value(&format!("new {round} by {winner}"));
        handle.holds(&key, &new, "read after a write during touches").await;
        never_expires(&handle, &key, "the ttl of an entry written during touches of the old version").await;
    }
}

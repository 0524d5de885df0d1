//! Expired entries are absent in every operation, even if they were not removed yet.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{ErrorKind, Expiry, Key, Purge};

use super::key;
use crate::{Fails, Handle, Lifetime, Must, Target, claims::Ability};

laws![
    expired_entries_are_absent_to_reads,
    expired_entries_are_absent_to_contains_and_ttl,
    expired_entries_are_absent_to_read_many,
    expired_entries_are_absent_to_listings,
    expired_entries_are_absent_to_deletes,
    expired_entries_are_absent_to_clear,
    expired_entries_are_absent_to_touch,
    expired_entries_are_absent_to_conditional_writes,
    expired_entries_are_absent_to_conditional_deletes,
    an_expired_key_can_be_written_again,
    a_purge_counts_expired_entries,
    a_purge_keeps_entries_with_a_later_expiry,
    a_purge_removes_entries_with_an_earlier_expiry,
];

const TTL: Duration = Duration::from_millis(120);

/// Writes entries, and waits until they have expired. They are not read after the write.
async fn expired(target: &Target, names: &[&str]) -> Option<Handle> {
    let handle = target.open().await;
    if !target.claims(&handle, Ability::Expiry).await {
        return None;
    }
    for name in names {
        handle.write(key(name), handle.value("expired")).expiry(Expiry::After(TTL)).await.must("write");
    }
    expire(&handle).await;
    Some(handle)
}

/// Waits until all entries that were written before with the same time to live have expired. It reads another key,
/// because a read may remove an expired entry.
async fn expire(handle: &Handle) {
    let last = key("last");
    let life = Lifetime::begin(TTL);
    handle.write(&last, handle.value("x")).expiry(Expiry::After(TTL)).await.must("write");
    life.written().expires(handle, &last, "read of the entry written last").await;
}

/// A read does not find an expired entry.
pub async fn expired_entries_are_absent_to_reads(target: Target) {
    let Some(handle) = expired(&target, &["one"]).await else { return };
    handle.lacks(&key("one"), "read of an expired entry").await;
}

/// `contains` is false and `ttl` is `None` for an expired entry.
pub async fn expired_entries_are_absent_to_contains_and_ttl(target: Target) {
    let Some(handle) = expired(&target, &["one", "two"]).await else { return };
    assert!(!handle.contains(&key("one")).await.must("contains"), "contains is true for an expired entry");
    assert_eq!(handle.ttl(&key("two")).await.must("ttl"), None, "the ttl of an expired entry");
}

/// `read_many` does not find expired entries among others.
pub async fn expired_entries_are_absent_to_read_many(target: Target) {
    let Some(handle) = expired(&target, &["one", "two"]).await else { return };
    handle.put(&key("stays"), &handle.value("stays")).await;
    let keys: Vec<Key> = ["one", "stays", "two"].map(key).into();
    let found = handle.read_all(&keys, "read_many").await;
    let found: Vec<bool> = found.iter().map(Option::is_some).collect();
    assert_eq!(
        found,
        [false, true, false],
        "whether read_many found an expired, a live and an expired entry"
    );
}

/// `keys` and `entries` do not list expired entries.
pub async fn expired_entries_are_absent_to_listings(target: Target) {
    let Some(handle) = expired(&target, &["one", "two"]).await else { return };
    if !target.claims(&handle, Ability::Listing).await {
        return;
    }
    handle.put(&key("stays"), &handle.value("stays")).await;
    let entries: Vec<_> = handle.entries("").try_collect().await.must("list entries");
    assert!(entries.iter().all(|(listed, _)| *listed == key("stays")), "an expired entry is in entries");
    let keys: Vec<_> = handle.keys("").collect().await;
    for listed in keys {
        assert!(listed.must("list keys") == key("stays"), "an expired entry is in keys");
    }
}

/// Deleting an expired entry returns `false`, alone and in a batch.
pub async fn expired_entries_are_absent_to_deletes(target: Target) {
    let Some(handle) = expired(&target, &["one", "two", "three"]).await else { return };
    assert!(!handle.delete(key("one")).await.must("delete"), "a delete of an expired entry returned true");
    handle.put(&key("stays"), &handle.value("x")).await;
    let keys: Vec<Key> = ["two", "stays", "three"].map(key).into();
    let deleted = handle.delete_all(&keys, "delete in a batch").await;
    assert_eq!(
        deleted, 1,
        "the number of entries that a batch of deletions found, of two expired and one live"
    );
}

/// `clear` does not count expired entries.
pub async fn expired_entries_are_absent_to_clear(target: Target) {
    let Some(handle) = expired(&target, &["one", "two", "three"]).await else { return };
    if !target.claims(&handle, Ability::Listing).await {
        return;
    }
    handle.put(&key("stays"), &handle.value("x")).await;
    let cleared = handle.clear("").await.must("clear");
    assert_eq!(cleared, 1, "the result of a clear of three expired entries and a live one");
}

/// A touch of an expired entry returns `false` and does not restore it.
pub async fn expired_entries_are_absent_to_touch(target: Target) {
    let Some(handle) = expired(&target, &["one", "two"]).await else { return };
    for (name, expiry) in [("one", Expiry::after_secs(60)), ("two", Expiry::Never)] {
        assert!(
            !handle.touch(key(name), expiry).await.must("touch"),
            "a touch of an expired entry returned true"
        );
        handle.lacks(&key(name), "read after a touch of an expired entry").await;
    }
}

/// A write if absent replaces an expired entry. A write at the version of an expired entry is a conflict.
pub async fn expired_entries_are_absent_to_conditional_writes(target: Target) {
    let handle = target.open().await;
    if !target.claims(&handle, Ability::Expiry).await || !target.claims(&handle, Ability::Conditions).await {
        return;
    }
    let value = handle.value("expired");
    let ttl = Expiry::After(TTL);
    let write = handle.write(key("one"), value.clone()).expiry(ttl).if_absent().await;
    let version = write.must("write if absent").version.must("take the version");
    handle.write(key("two"), value.clone()).expiry(ttl).await.must("write");
    expire(&handle).await;
    let write = handle.write(key("one"), value.clone()).if_at(version).await;
    write.fails(ErrorKind::Conflict, "write at the version of an expired entry");
    handle.lacks(&key("one"), "read after a conflict").await;
    let write = handle.write(key("two"), handle.value("new")).if_absent().await;
    write.must("write if absent over an expired entry");
    handle
        .holds(&key("two"), &handle.value("new"), "read after a conditional write over an expired entry")
        .await;
    assert_eq!(
        handle.ttl(&key("two")).await.must("ttl"),
        Some(Expiry::Never),
        "the ttl of an entry that was written over an expired one"
    );
}

/// A deletion at the version of an expired entry is a conflict.
pub async fn expired_entries_are_absent_to_conditional_deletes(target: Target) {
    let handle = target.open().await;
    if !target.claims(&handle, Ability::Expiry).await || !target.claims(&handle, Ability::Conditions).await {
        return;
    }
    let write = handle.write(key("one"), handle.value("x")).expiry(Expiry::After(TTL)).if_absent().await;
    let version = write.must("write if absent").version.must("take the version");
    expire(&handle).await;
    let delete = handle.delete(key("one")).if_at(version.clone()).await;
    delete.fails(ErrorKind::Conflict, "delete at the version of an expired entry");
}

/// After its entry has expired, a key can be written again.
pub async fn an_expired_key_can_be_written_again(target: Target) {
    let Some(handle) = expired(&target, &["one"]).await else { return };
    handle.put(&key("one"), &handle.value("again")).await;
    handle.holds(&key("one"), &handle.value("again"), "read of a key written after it had expired").await;
    handle.purge_expired().await.must("purge_expired");
    handle.holds(&key("one"), &handle.value("again"), "read after a purge").await;
}

/// With `Purge::Sweep`, a purge returns the number of removed entries, removes only expired entries, and removes
/// nothing the second time. With `Purge::Store`, it returns 0.
pub async fn a_purge_counts_expired_entries(target: Target) {
    let Some(handle) = expired(&target, &["one", "two", "three"]).await else { return };
    handle.put(&key("stays"), &handle.value("stays")).await;
    handle.write(key("later"), handle.value("later")).expiry(Expiry::after_secs(60)).await.must("write");
    let purged = handle.purge_expired().await.must("purge_expired");
    match handle.info().purge {
        // The fourth entry is the one of `expire`. Its reads may have removed it.
        Purge::Sweep => {
            assert!((3..=4).contains(&purged), "a purge of 3 or 4 expired entries removed {purged}");
        }
        _ => assert_eq!(purged, 0, "the result of a purge of a store that removes expired entries itself"),
    }
    assert_eq!(handle.purge_expired().await.must("purge_expired"), 0, "the result of a second purge");
    handle.holds(&key("stays"), &handle.value("stays"), "read after a purge").await;
    handle.holds(&key("later"), &handle.value("later"), "read after a purge").await;
    if handle.info().listing {
        assert_eq!(handle.listed("").await.len(), 2, "the number of listed keys after a purge");
    }
}

/// A purge uses the current deadline of an entry: if a touch or a write has moved the expiry later or removed it, the
/// entry remains after its old deadline.
pub async fn a_purge_keeps_entries_with_a_later_expiry(target: Target) {
    let handle = target.open().await;
    if !target.claims(&handle, Ability::Expiry).await {
        return;
    }
    let long = Expiry::after_secs(3600);
    let prolonged = [("touch-long", long), ("touch-stays", Expiry::Never)];
    let written = [("write-long", long), ("write-stays", Expiry::Never)];
    let swapped = [("swap-long", long), ("swap-stays", Expiry::Never)];
    let swapped = if handle.info().conditions() { &swapped[..] } else { &[] };
    // Repeats with longer times to live until the machine was fast enough to prolong them.
    'tries: for millis in [300, 1500, 6000, 20_000] {
        let ttl = Duration::from_millis(millis);
        let life = Lifetime::begin(ttl);
        for (name, _) in prolonged.iter().chain(&written).chain(swapped) {
            handle.write(key(name), handle.value("x")).expiry(Expiry::After(ttl)).await.must("write");
        }
        for (name, expiry) in prolonged {
            if !handle.touch(key(name), expiry).await.must("touch") {
                life.not_early("touch");
                continue 'tries;
            }
        }
        for (name, expiry) in written {
            handle.write(key(name), handle.value("x")).expiry(expiry).await.must("write");
        }
        for &(name, expiry) in swapped {
            let Some(version) = handle.read(key(name)).await.must("read").and_then(|record| record.version)
            else {
                life.not_early("read");
                continue 'tries;
            };
            let swap = handle.write(key(name), handle.value("x")).expiry(expiry).if_at(version).await;
            if swap.is_err() {
                life.not_early("conditional write");
                continue 'tries;
            }
        }
        // This entry is written last: when it has expired, every old deadline has passed.
        let last = key("last");
        let life = Lifetime::begin(ttl);
        handle.write(&last, handle.value("x")).expiry(Expiry::After(ttl)).await.must("write");
        life.written().expires(&handle, &last, "read of the entry written last").await;
        handle.purge_expired().await.must("purge_expired");
        for (name, _) in prolonged.iter().chain(&written).chain(swapped) {
            let why = format!("read of `{name}`, whose expiry was moved later, after a purge");
            handle.holds(&key(name), &handle.value("x"), &why).await;
        }
        return;
    }
    panic!("20 s were not enough for a few operations");
}

/// A purge uses the current deadline of an entry: if a touch or a write has moved the expiry earlier, the entry is
/// removed after its new deadline.
pub async fn a_purge_removes_entries_with_an_earlier_expiry(target: Target) {
    let handle = target.open().await;
    if !target.claims(&handle, Ability::Expiry).await {
        return;
    }
    let (long, short) = (Expiry::after_secs(3600), Expiry::After(TTL));
    let touched = [("touch-long", long), ("touch-stays", Expiry::Never)];
    let written = [("write-long", long), ("write-stays", Expiry::Never)];
    for (name, expiry) in touched.into_iter().chain(written) {
        handle.write(key(name), handle.value("x")).expiry(expiry).await.must("write");
    }
    for (name, _) in touched {
        assert!(handle.touch(key(name), short).await.must("touch"), "a touch of an entry returned false");
    }
    for (name, _) in written {
        handle.write(key(name), handle.value("x")).expiry(short).await.must("write");
    }
    expire(&handle).await;
    let purged = handle.purge_expired().await.must("purge_expired");
    if handle.info().purge == Purge::Sweep {
        // The fifth entry is the one of `expire`. Its reads may have removed it.
        assert!((4..=5).contains(&purged), "a purge of 4 or 5 expired entries removed {purged}");
    }
    for (name, _) in touched.into_iter().chain(written) {
        handle.lacks(&key(name), "read after the earlier deadline").await;
    }
}

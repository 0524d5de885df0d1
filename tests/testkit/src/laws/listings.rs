//! Listing keys and entries, and clearing.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, future::join};
use larder_core::{Change, ErrorKind, Expiry};

use super::key;
use crate::{Fails, Handle, Lifetime, Must, Target, claims::Ability};

laws![
    without_listing_it_is_unsupported,
    an_empty_store_lists_nothing,
    listings_name_every_key,
    entries_carry_value_version_and_remaining_time,
    deleted_keys_are_not_listed,
    a_prefix_is_matched_byte_for_byte,
    a_prefix_with_pattern_characters_is_data,
    ten_thousand_keys_are_listed,
    a_listing_misses_no_key_that_stays,
    listings_dropped_midway_leave_nothing_behind,
    operations_work_during_a_listing,
    clear_deletes_the_keys_with_the_prefix,
    clear_takes_the_prefix_as_data,
    clear_of_everything_counts_everything,
];

/// Opens a handle, if its storage supports listings.
async fn listing(target: &Target) -> Option<Handle> {
    let handle = target.open().await;
    target.claims(&handle, Ability::Listing).await.then_some(handle)
}

/// Writes an entry under each name that the storage accepts. Returns these names.
async fn fill(handle: &Handle, names: &[&str]) -> BTreeSet<String> {
    let mut stored = BTreeSet::new();
    for name in names {
        match handle.write(key(name), handle.value(name)).await {
            Ok(_) => drop(stored.insert((*name).to_owned())),
            Err(error) => assert!(
                error.kind() == ErrorKind::InvalidKey && !handle.info().any_key,
                "write under the key {name:?}: {error}"
            ),
        }
    }
    stored
}

fn beginning(names: &BTreeSet<String>, prefix: &str) -> BTreeSet<String> {
    names.iter().filter(|name| name.starts_with(prefix)).cloned().collect()
}

/// A storage that does not support listings rejects `keys`, `entries` and `clear` as unsupported, and clears nothing.
pub async fn without_listing_it_is_unsupported(target: Target) {
    let handle = target.open().await;
    if handle.info().listing {
        target.ignore("the store claims listings");
        return;
    }
    handle.put(&key("one"), &handle.value("x")).await;
    let first = handle.keys("").next().await.must("the first of keys");
    first.fails(ErrorKind::Unsupported, "keys on a storage that cannot list");
    let first = handle.entries("").next().await.must("the first of entries");
    first.fails(ErrorKind::Unsupported, "entries on a storage that cannot list");
    handle.clear("").await.fails(ErrorKind::Unsupported, "clear on a storage that cannot list");
    handle.holds(&key("one"), &handle.value("x"), "read after an unsupported clear").await;
}

/// The listings of an empty store are empty, and `clear` returns 0. They do not fail.
pub async fn an_empty_store_lists_nothing(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    for prefix in ["", "a"] {
        assert!(handle.listed(prefix).await.is_empty(), "an empty store lists a key");
        assert!(handle.entries(prefix).next().await.is_none(), "an empty store lists an entry");
        assert_eq!(handle.clear(prefix).await.must("clear"), 0, "the result of a clear of an empty store");
    }
}

/// A listing with the empty prefix returns every key.
pub async fn listings_name_every_key(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    let stored = fill(&handle, &["a", "b", "ab", "chat:42", "chat:-100", "A", "0", "zzz"]).await;
    assert_eq!(handle.listed("").await, stored, "the listed keys");
    let entries: Vec<_> = handle.entries("").try_collect().await.must("list entries");
    let names: BTreeSet<String> = entries.iter().map(|(key, _)| key.as_str().to_owned()).collect();
    assert_eq!(names, stored, "the keys of the listed entries");
}

/// A listed entry has the value and the version that a read returns, and its remaining time.
pub async fn entries_carry_value_version_and_remaining_time(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    let expiry = handle.info().expiry;
    let ttl = Duration::from_secs(600);
    let life = Lifetime::begin(ttl);
    for name in ["stays-1", "stays-2", "goes-1", "goes-2"] {
        let expiry = if expiry && name.starts_with("goes") { Expiry::After(ttl) } else { Expiry::Never };
        handle.write(key(name), handle.value(name)).expiry(expiry).await.must("write");
    }
    let life = life.written();
    let asked = std::time::Instant::now();
    let entries: Vec<_> = handle.entries("").try_collect().await.must("list entries");
    for (key, record) in entries {
        let name = key.as_str();
        assert!(handle.same(&record.value, &handle.value(name)), "the listed value of {name} is wrong");
        let read = handle.read(&key).await.must("read").must("read");
        assert!(read.version == record.version, "a listing and a read returned different versions");
        match record.expiry {
            Some(Expiry::After(left)) if expiry && name.starts_with("goes") => {
                life.right(asked, left, "a listing");
            }
            Some(Expiry::Never) if !expiry || name.starts_with("stays") => {}
            other => panic!("the listed remaining time of {name} is {other:?}"),
        }
    }
}

/// A deleted key is not listed. An overwritten key is listed once.
pub async fn deleted_keys_are_not_listed(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    let mut stored = fill(&handle, &["a", "b", "c", "d"]).await;
    fill(&handle, &["a", "c"]).await;
    for name in ["b", "d"] {
        handle.delete(key(name)).await.must("delete");
        stored.remove(name);
    }
    assert_eq!(handle.listed("").await, stored, "the listed keys after deletions");
}

/// A prefix matches the beginning of a key byte for byte, including upper and lower case and the Unicode
/// normalisation form. A key is a prefix of itself.
pub async fn a_prefix_is_matched_byte_for_byte(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    let names = [
        "a",
        "ab",
        "abc",
        "abd",
        "ac",
        "b",
        "ba",
        "A",
        "AB",
        "aB",
        "é",
        "éa",
        "e\u{301}a",
        "名前",
        "名",
        "a b",
        "a:b",
        "a:",
        "user:1",
        "user:10",
        "user:2",
        "user",
        "users",
    ];
    let stored = fill(&handle, &names).await;
    let prefixes = [
        "a",
        "ab",
        "abc",
        "abcd",
        "b",
        "c",
        "A",
        "aB",
        "é",
        "e",
        "名",
        "a ",
        "a:",
        "user:",
        "user:1",
        "user",
        "zzz",
        "\u{10ffff}",
    ];
    for prefix in prefixes {
        assert_eq!(handle.listed(prefix).await, beginning(&stored, prefix), "the listed keys for {prefix:?}");
        let entries: Vec<_> = handle.entries(prefix).try_collect().await.must("list entries");
        let names: BTreeSet<String> = entries.iter().map(|(key, _)| key.as_str().to_owned()).collect();
        assert_eq!(names, beginning(&stored, prefix), "the listed entries for {prefix:?}");
    }
}

/// Names that various kinds of patterns would match.
const PATTERN_LIKE: [&str; 26] = [
    "a", "ab", "axb", "a*", "a*b", "a?", "a?b", "a[bc]", "a[bc]d", "ac", "a%", "a%b", "a_", "a_b", "a\\",
    "a\\b", "a.b", "a.", "^a", "a$", "{a", "{a}b", "a'", "a'b", "a/b", "a/",
];
const PATTERNS: [&str; 18] = [
    "a*", "a?", "a[bc]", "a[", "a%", "a_", "a\\", "a.", "^", "^a", "a$", "{a", "{a}", "a'", "a/", "*", "%",
    "?",
];

/// Wildcard characters have no special meaning in a prefix.
pub async fn a_prefix_with_pattern_characters_is_data(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    let stored = fill(&handle, &PATTERN_LIKE).await;
    for prefix in PATTERNS {
        assert_eq!(handle.listed(prefix).await, beginning(&stored, prefix), "the listed keys for {prefix:?}");
    }
}

/// Writes `count` entries in batches.
async fn fill_many(handle: &Handle, prefix: &str, count: usize) -> BTreeSet<String> {
    let names: Vec<String> = (0..count).map(|index| format!("{prefix}-{index}")).collect();
    for chunk in names.chunks(500) {
        let put = |name: &String| Change::put(key(name), handle.value(name), Expiry::Never);
        handle.apply_all(chunk.iter().map(put).collect(), "write many entries").await;
    }
    names.into_iter().collect()
}

/// `keys` and `entries` return all of ten thousand keys, and with a prefix only the keys that begin with it.
pub async fn ten_thousand_keys_are_listed(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    let even = fill_many(&handle, "even", target.count(5000, 1000)).await;
    let odd = fill_many(&handle, "odd", target.count(5000, 1000)).await;
    let all: BTreeSet<String> = even.union(&odd).cloned().collect();
    let listed = handle.listed("").await;
    assert_eq!(listed.len(), all.len(), "the number of listed keys");
    assert!(listed == all, "the listed keys differ from the written ones");
    assert!(handle.listed("even").await == even, "the listed keys of a prefix differ from the written ones");
    let mut entries = handle.entries("odd");
    let mut found = BTreeSet::new();
    while let Some(entry) = entries.next().await {
        let (key, record) = entry.must("list entries");
        let name = key.as_str();
        assert!(handle.same(&record.value, &handle.value(name)), "the listed value of {name} is wrong");
        found.insert(name.to_owned());
    }
    assert!(found == odd, "the listing returned {} of {} entries", found.len(), odd.len());
}

/// A listing contains every key that exists from its beginning to its end, regardless of concurrent writes and
/// deletions.
pub async fn a_listing_misses_no_key_that_stays(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    let stays = fill_many(&handle, "stays", target.count(1500, 500)).await;
    let done = Arc::new(AtomicBool::new(false));
    let churn = {
        let (handle, done) = (handle.clone(), Arc::clone(&done));
        let overwritten: Vec<String> = stays.iter().take(50).cloned().collect();
        tokio::spawn(async move {
            let mut round = 0;
            while !done.load(Ordering::Acquire) {
                // Creates and deletes keys before and after those that stay, and overwrites some of those.
                for prefix in ["a", "stays-0", "z"] {
                    let key = key(&format!("{prefix}-{}", round % 40));
                    handle.write(&key, handle.value("x")).await?;
                    if round % 2 == 1 {
                        handle.delete(&key).await?;
                    }
                }
                let name = &overwritten[round % overwritten.len()];
                handle.write(key(name), handle.bulk(100 + round % 3000, 7)).await?;
                round += 1;
                tokio::task::yield_now().await;
            }
            Ok::<_, larder_core::Error>(())
        })
    };
    for _ in 0..target.count(6, 3) {
        let mut found = BTreeSet::new();
        let mut keys = handle.keys("");
        while let Some(key) = keys.next().await {
            found.insert(key.must("list keys").as_str().to_owned());
            tokio::task::yield_now().await;
        }
        let missed = stays.difference(&found).count();
        assert_eq!(missed, 0, "a listing missed keys that existed throughout, of {}", stays.len());
        let listed: Vec<_> = handle.entries("stays").try_collect().await.must("list entries");
        let found = listed.iter().map(|(key, _)| key.as_str().to_owned()).collect();
        let missed = stays.difference(&found).count();
        assert_eq!(missed, 0, "a listing missed entries that existed throughout, of {}", stays.len());
    }
    done.store(true, Ordering::Release);
    churn.await.must("write during a listing").must("write during a listing");
}

/// A listing can be dropped at any point, any number of times. It does not keep a connection, lock or cursor that
/// other operations need.
pub async fn listings_dropped_midway_leave_nothing_behind(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    let stored = fill_many(&handle, "many", target.count(1200, 600)).await;
    for round in 0..target.count(60, 30) {
        drop(handle.keys("many"));
        let some: Vec<_> = handle.keys("").take(round % 7).try_collect().await.must("list keys");
        assert_eq!(some.len(), round % 7, "the number of keys taken from a listing");
        let some: Vec<_> = handle.entries("").take(round % 5).try_collect().await.must("list entries");
        assert_eq!(some.len(), round % 5, "the number of entries taken from a listing");
        // Drops the listing while it waits for an answer.
        let _ = crate::abandon(handle.keys("many").count(), round % 4).await;
    }
    handle.put(&key("after"), &handle.value("x")).await;
    handle.holds(&key("after"), &handle.value("x"), "read after dropped listings").await;
    assert!(handle.listed("many").await == stored, "a listing after dropped listings is wrong");
}

/// During a listing, other operations work on the same handle and on the listed keys. Another listing works too.
pub async fn operations_work_during_a_listing(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    let stored = fill_many(&handle, "many", 300).await;
    let mut seen = BTreeSet::new();
    let mut keys = handle.keys("many");
    while let Some(key) = keys.next().await {
        let key = key.must("list keys");
        if seen.insert(key.as_str().to_owned()) {
            handle.holds(&key, &handle.value(key.as_str()), "read during a listing").await;
            assert!(handle.delete(&key).await.must("delete"), "a delete during a listing returned false");
        }
    }
    drop(keys);
    assert!(
        seen == stored,
        "a listing returned {} of {} keys while they were deleted",
        seen.len(),
        stored.len()
    );
    assert!(handle.listed("").await.is_empty(), "a key exists after all listed keys were deleted");

    let stored = fill_many(&handle, "again", 300).await;
    let (left, right) = join(handle.listed(""), handle.listed("again")).await;
    assert!(left == stored && right == stored, "one of two concurrent listings is wrong");
}

/// `clear` deletes exactly the entries whose keys begin with the prefix, and returns their number.
pub async fn clear_deletes_the_keys_with_the_prefix(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    let names = [
        "app",
        "app:1",
        "app:2",
        "app-one",
        "app-one:1",
        "ap",
        "apple",
        "App:1",
        "APP",
        "b",
        "é1",
        "e\u{301}1",
    ];
    let mut stored = fill(&handle, &names).await;
    for prefix in ["app:", "app-one:", "é", "nothing", "app", "AP"] {
        let gone = beginning(&stored, prefix);
        let cleared = handle.clear(prefix).await.must("clear");
        assert_eq!(cleared, gone.len() as u64, "the result of a clear of {prefix:?}");
        stored.retain(|name| !name.starts_with(prefix));
        assert_eq!(handle.listed("").await, stored, "the keys after a clear of {prefix:?}");
        for name in &stored {
            handle.holds(&key(name), &handle.value(name), "read of a key that was not cleared").await;
        }
    }
}

/// `clear` also compares its prefix byte for byte.
pub async fn clear_takes_the_prefix_as_data(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    let mut stored = fill(&handle, &PATTERN_LIKE).await;
    for prefix in PATTERNS {
        let gone = beginning(&stored, prefix);
        let cleared = handle.clear(prefix).await.must("clear");
        assert_eq!(cleared, gone.len() as u64, "the result of a clear of {prefix:?}");
        stored.retain(|name| !name.starts_with(prefix));
        assert_eq!(handle.listed("").await, stored, "the keys after a clear of {prefix:?}");
    }
}

/// `clear("")` deletes all entries, even if there are many, and returns their number.
pub async fn clear_of_everything_counts_everything(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    let stored = fill_many(&handle, "many", 1500).await;
    handle.put(&key("other"), &handle.value("x")).await;
    let cleared = handle.clear("").await.must("clear");
    assert_eq!(cleared, stored.len() as u64 + 1, "the result of a clear of everything");
    assert!(handle.listed("").await.is_empty(), "a key exists after a clear of everything");
    assert_eq!(handle.clear("").await.must("clear"), 0, "the result of a second clear");
    handle.put(&key("after"), &handle.value("x")).await;
    handle.holds(&key("after"), &handle.value("x"), "read after a clear").await;
}

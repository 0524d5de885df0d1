//! The limit, the order and the start of a listing.

use std::{collections::BTreeSet, num::NonZeroUsize, time::Duration};

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{Change, Entry, ErrorKind, Expiry, Key, ListOptions};

use super::key;
use crate::{Fails, Handle, Lifetime, Must, Target, claims::Ability};

laws![
    a_limit_ends_a_listing,
    a_limit_counts_only_listed_entries,
    without_order_a_listing_cannot_start_after_a_key,
    ordered_listings_are_in_the_order_of_bytes,
    a_listing_starts_after_the_key,
    listings_that_start_after_the_last_key_find_each_entry_once,
];

/// Opens a handle, if its store supports listings.
async fn listing(target: &Target) -> Option<Handle> {
    let handle = target.open().await;
    target.claims(&handle, Ability::Listing).await.then_some(handle)
}

/// Opens a handle, if its store lists in the order of the keys.
async fn ordered(target: &Target) -> Option<Handle> {
    let handle = listing(target).await?;
    target.claims(&handle, Ability::Order).await.then_some(handle)
}

fn limited(limit: usize) -> ListOptions {
    ListOptions::new().limit(NonZeroUsize::new(limit).must("make a limit"))
}

async fn list(handle: &Handle, options: ListOptions) -> Vec<Entry> {
    let entries: Vec<Entry> = handle.list(options.clone()).try_collect().await.must("list");
    for entry in &entries {
        let key = entry.key.as_str();
        assert!(key.starts_with(&options.prefix), "a listing returned a key without the prefix");
        assert_eq!(entry.record.is_some(), options.values, "whether a listed entry has a record");
        if let Some(record) = &entry.record {
            assert!(handle.same(&record.value, &handle.value(key)), "the listed value of {key} is wrong");
        }
    }
    entries
}

fn names(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

/// Writes an entry under each name.
async fn fill(handle: &Handle, names: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let names: BTreeSet<String> = names.into_iter().collect();
    let put = |name: &String| Change::put(key(name), handle.value(name), Expiry::Never);
    handle.apply_all(names.iter().map(put).collect(), "write many entries").await;
    names
}

/// A listing ends at its limit, or after the last entry.
pub async fn a_limit_ends_a_listing(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    let apples = fill(&handle, (0..40).map(|index| format!("apple-{index:02}"))).await;
    fill(&handle, (0..40).map(|index| format!("pear-{index:02}"))).await;
    for (prefix, all) in [("apple-", 40), ("apple-1", 10), ("", 80), ("plum", 0)] {
        for limit in [1, 2, 9, 10, 11, 39, 40, 41, 80, 81, 10_000] {
            for options in [limited(limit), limited(limit).keys_only()] {
                let entries = list(&handle, options.prefix(prefix)).await;
                let found: BTreeSet<_> = names(&entries).into_iter().collect();
                if handle.info().lists_once {
                    let expected = limit.min(all);
                    assert_eq!(
                        entries.len(),
                        expected,
                        "entries of a listing of {all} with a limit of {limit}"
                    );
                    assert_eq!(found.len(), expected, "keys of a listing of {all} with a limit of {limit}");
                } else {
                    let right = entries.len() <= limit && entries.is_empty() == (all == 0);
                    assert!(right, "{} entries of {all} with a limit of {limit}", entries.len());
                }
            }
        }
    }
    let whole = list(&handle, ListOptions::new().prefix("apple-")).await;
    let whole: BTreeSet<String> = names(&whole).into_iter().map(str::to_owned).collect();
    assert!(whole == apples, "a listing without a limit, after listings with a limit, is wrong");
}

/// A limit counts only listed entries, not expired entries or entries without the prefix.
pub async fn a_limit_counts_only_listed_entries(target: Target) {
    let Some(handle) = listing(&target).await else { return };
    if !handle.info().lists_once {
        target.ignore("the store does not claim to list each key once");
        return;
    }
    if handle.info().expiry {
        let ttl = Duration::from_millis(120);
        for index in 0..30 {
            let name = format!("b-{index:02}-expired");
            handle.write(key(&name), handle.value(&name)).expires_in(ttl).await.must("write");
        }
        let last = key("last");
        let life = Lifetime::begin(ttl);
        handle.write(&last, handle.value("last")).expires_in(ttl).await.must("write");
        life.written().expires(&handle, &last, "read of the entry written last").await;
    }
    for prefix in ["a", "b", "c"] {
        fill(&handle, (0..30).map(|index| format!("{prefix}-{index:02}-stays"))).await;
    }
    for limit in [1, 15, 29, 30] {
        for options in [limited(limit), limited(limit).keys_only()] {
            let entries = list(&handle, options.prefix("b-")).await;
            assert_eq!(entries.len(), limit, "entries of a listing with a limit of {limit}");
        }
    }
}

/// A store without ordered listings rejects a listing that starts after a key.
pub async fn without_order_a_listing_cannot_start_after_a_key(target: Target) {
    let handle = target.open().await;
    if handle.info().ordered {
        target.ignore("the store claims ordered listings");
        return;
    }
    handle.put(&key("b"), &handle.value("b")).await;
    let first = handle.list(ListOptions::new().start_after(key("a"))).next().await;
    let first = first.must("the first of a listing that starts after a key");
    first.fails(ErrorKind::Unsupported, "a listing that starts after a key, of a store without order");
}

/// Names whose order differs between bytes, UTF-16 code units, and languages.
const UNORDERED: [&str; 22] = [
    "a",
    "B",
    "b",
    "A",
    "aa",
    "a b",
    "a-b",
    "a_b",
    "ab",
    "aB",
    "Z",
    "z",
    "~",
    "é",
    "e",
    "f",
    "ö",
    "\u{e000}",
    "\u{ffff}",
    "\u{10000}",
    "🍕",
    "10",
];

async fn fill_unordered(handle: &Handle) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for name in UNORDERED.iter().chain(&["9", "1", "100", "user:1", "user:10", "user:2", "User:1"]) {
        if handle.write(key(name), handle.value(name)).await.is_ok() {
            all.insert((*name).to_owned());
        }
    }
    all.extend(fill(handle, (0..1100).map(|index| format!("many-{index}"))).await);
    all
}

/// Listings are in the order of the keys' bytes, also across pages, with a prefix and with a limit.
pub async fn ordered_listings_are_in_the_order_of_bytes(target: Target) {
    let Some(handle) = ordered(&target).await else { return };
    let all = fill_unordered(&handle).await;
    for prefix in ["", "a", "many-", "many-1", "user:", "\u{10000}"] {
        let expected: Vec<&str> =
            all.iter().map(String::as_str).filter(|name| name.starts_with(prefix)).collect();
        for options in [ListOptions::new(), ListOptions::new().keys_only()] {
            let entries = list(&handle, options.prefix(prefix)).await;
            assert!(names(&entries) == expected, "a listing is not in the order of the keys' bytes");
        }
        let entries = list(&handle, limited(7).prefix(prefix)).await;
        let few = &expected[..expected.len().min(7)];
        assert!(names(&entries) == few, "a listing with a limit does not return the first keys");
    }
}

/// A listing that starts after a key returns the keys after it, even if that entry does not exist, and even if that
/// key does not begin with the prefix.
pub async fn a_listing_starts_after_the_key(target: Target) {
    let Some(handle) = ordered(&target).await else { return };
    let all = fill_unordered(&handle).await;
    let long = "m".repeat(Key::MAX_BYTES);
    let starts = [
        " ",
        "0",
        "a",
        "a-",
        "aB",
        "b",
        "many-",
        "many-1",
        "many-10",
        "many-99",
        "many-999",
        "many-999x",
        "many.",
        "m",
        &long,
        "user:1",
        "user;",
        "z",
        "\u{ffff}",
        "\u{10ffff}",
    ];
    for start in starts {
        for prefix in ["", "a", "many-", "many-1", "user:", "zzz"] {
            let expected: Vec<&str> = all
                .iter()
                .map(String::as_str)
                .filter(|name| *name > start && name.starts_with(prefix))
                .collect();
            let options = ListOptions::new().prefix(prefix).start_after(key(start));
            let found = list(&handle, options.clone()).await;
            assert!(
                names(&found) == expected,
                "a listing of {prefix:?} that starts after {start:?} returned {} keys; expected {}",
                found.len(),
                expected.len(),
            );
            let few = list(&handle, options.keys_only().limit(NonZeroUsize::MIN)).await;
            let right = names(&few).first() == expected.first() && few.len() <= 1;
            assert!(right, "a listing of {prefix:?} with a limit of 1 that starts after {start:?} is wrong");
        }
    }
}

/// Successive listings with a limit, each starting after the last key of the previous one, return each entry once,
/// even if that key is deleted in between.
pub async fn listings_that_start_after_the_last_key_find_each_entry_once(target: Target) {
    let Some(handle) = ordered(&target).await else { return };
    for (limit, deletes) in [(1, false), (7, true), (256, false), (300, true), (5000, false)] {
        let prefix = format!("round-{limit}-");
        let count = if limit == 1 { 60 } else { 700 };
        let all = fill(&handle, (0..count).map(|index| format!("{prefix}{index}"))).await;
        let mut options = limited(limit).prefix(&prefix);
        let mut found = Vec::new();
        loop {
            let entries = list(&handle, options.clone()).await;
            let Some(last) = entries.last().map(|entry| entry.key.clone()) else { break };
            found.extend(names(&entries).into_iter().map(str::to_owned));
            assert!(found.len() <= all.len(), "successive listings returned a key twice");
            if deletes {
                assert!(handle.delete(&last).await.must("delete"), "a delete of an entry returned false");
            }
            options = options.start_after(last);
        }
        let expected: Vec<String> = all.into_iter().collect();
        assert!(
            found == expected,
            "successive listings with a limit of {limit} returned {} of {} keys",
            found.len(),
            expected.len(),
        );
    }
}

//! Listings that miss, repeat or invent, and clears that go too far.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures_util::{StreamExt, TryStreamExt, stream};
use larder_core::{
    Bytes, Capabilities, EntryStream, Error, ErrorKind, Expiry, Key, KeyStream, Result, Storage, async_trait,
};
use larder_memory::MemoryStorage;

use crate::{Fault, fault, twist::Twist};

/// Lists, but does not claim to.
struct ClaimsNoListing;

impl Twist for ClaimsNoListing {
    fn capabilities(&self, _: &MemoryStorage) -> Capabilities {
        Capabilities::minimal()
    }
}

/// Has an entry of its own in the listing.
struct ListsItsOwn;

impl Twist for ListsItsOwn {
    fn keys<'a>(&'a self, inner: &'a MemoryStorage, prefix: &'a str) -> KeyStream<'a> {
        stream::once(async { Key::new("larder:schema") }).chain(inner.keys(prefix)).boxed()
    }
}

/// Leaves the first one out.
struct SkipsOne;

impl Twist for SkipsOne {
    fn entries<'a>(&'a self, inner: &'a MemoryStorage, prefix: &'a str) -> EntryStream<'a> {
        inner.entries(prefix).skip(1).boxed()
    }
}

/// Names each key twice, but does not say that it may.
struct Repeats;

impl Twist for Repeats {
    fn keys<'a>(&'a self, inner: &'a MemoryStorage, prefix: &'a str) -> KeyStream<'a> {
        inner.keys(prefix).chain(inner.keys(prefix)).boxed()
    }
}

/// Keeps a set of all keys ever written.
#[derive(Default)]
struct KeepsASet(Mutex<BTreeSet<Key>>);

#[async_trait]
impl Twist for KeepsASet {
    async fn write(&self, inner: &MemoryStorage, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.0.lock().unwrap().insert(key.clone());
        inner.write(key, value, expiry).await
    }

    fn keys<'a>(&'a self, _: &'a MemoryStorage, prefix: &'a str) -> KeyStream<'a> {
        let keys: Vec<Key> = self.0.lock().unwrap().iter().cloned().collect();
        stream::iter(keys.into_iter().filter(move |key| key.as_str().starts_with(prefix)).map(Ok)).boxed()
    }
}

/// Matches prefixes in its own way, in listings and clears.
struct Matches(fn(&str, &str) -> bool);

#[async_trait]
impl Twist for Matches {
    fn keys<'a>(&'a self, inner: &'a MemoryStorage, prefix: &'a str) -> KeyStream<'a> {
        let matches = self.0;
        inner.keys("").try_filter(move |key| std::future::ready(matches(key.as_str(), prefix))).boxed()
    }

    async fn clear(&self, inner: &MemoryStorage, prefix: &str) -> Result<u64> {
        let keys: Vec<Key> = self.keys(inner, prefix).try_collect().await?;
        inner.delete_many(&keys).await
    }
}

/// `%` and `_` mean something, as in LIKE, and `*` and `?` do, as in SCAN.
fn like(key: &str, pattern: &str) -> bool {
    fn matches(key: &[char], pattern: &[char]) -> bool {
        match pattern.split_first() {
            // What comes after the prefix.
            None => true,
            Some(('*' | '%', rest)) => (0..=key.len()).any(|skipped| matches(&key[skipped..], rest)),
            Some(('?' | '_', rest)) => key.split_first().is_some_and(|(_, key)| matches(key, rest)),
            Some((c, rest)) => key.split_first().is_some_and(|(k, key)| k == c && matches(key, rest)),
        }
    }
    let (key, pattern): (Vec<char>, Vec<char>) = (key.chars().collect(), pattern.chars().collect());
    matches(&key, &pattern)
}

/// Lists and clears a page of 1,000.
struct OnePage;

#[async_trait]
impl Twist for OnePage {
    fn keys<'a>(&'a self, inner: &'a MemoryStorage, prefix: &'a str) -> KeyStream<'a> {
        inner.keys(prefix).take(1000).boxed()
    }

    async fn clear(&self, inner: &MemoryStorage, prefix: &str) -> Result<u64> {
        let keys: Vec<Key> = inner.keys(prefix).take(1000).try_collect().await?;
        inner.delete_many(&keys).await
    }
}

/// Pages by offset: what is written and deleted meanwhile shifts the pages.
struct PagesByOffset;

impl Twist for PagesByOffset {
    fn keys<'a>(&'a self, inner: &'a MemoryStorage, prefix: &'a str) -> KeyStream<'a> {
        stream::try_unfold(0, move |offset| async move {
            let mut keys: Vec<Key> = inner.keys(prefix).try_collect().await?;
            keys.sort();
            let page: Vec<Result<Key>> = keys.into_iter().skip(offset).take(50).map(Ok).collect();
            let next = offset + page.len();
            Ok::<_, Error>((!page.is_empty()).then(|| (stream::iter(page), next)))
        })
        .try_flatten()
        .boxed()
    }
}

/// Has ten connections, and never gets back that of a listing that was dropped.
#[derive(Default)]
struct LeaksConnections(Arc<AtomicUsize>);

impl Twist for LeaksConnections {
    fn keys<'a>(&'a self, inner: &'a MemoryStorage, prefix: &'a str) -> KeyStream<'a> {
        let (taken, given) = (Arc::clone(&self.0), Arc::clone(&self.0));
        let take = stream::once(async move {
            match taken.fetch_add(1, Ordering::Relaxed) {
                0..10 => Ok(None),
                _ => Err(Error::new(ErrorKind::Unavailable, "no connection is free")),
            }
        });
        let give = stream::once(async move {
            given.fetch_sub(1, Ordering::Relaxed);
            Ok(None)
        });
        let keys = inner.keys(prefix).map_ok(Some);
        take.chain(keys).chain(give).try_filter_map(|key| async { Ok(key) }).boxed()
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault("claims no listing", || ClaimsNoListing, &["without_listing_it_is_unsupported"]),
        fault(
            "lists a key of its own",
            || ListsItsOwn,
            &["an_empty_store_lists_nothing", "ping_leaves_no_entry"],
        ),
        fault(
            "leaves one entry out",
            || SkipsOne,
            &["listings_name_every_key", "ten_thousand_keys_are_listed"],
        ),
        fault("lists keys twice", || Repeats, &["listings_name_every_key"]),
        fault("lists what was deleted", KeepsASet::default, &["deleted_keys_are_not_listed"]),
        fault(
            "ignores case in prefixes",
            || Matches(|key, prefix| key.to_lowercase().starts_with(&prefix.to_lowercase())),
            &["a_prefix_is_matched_byte_for_byte", "clear_removes_what_begins_with_the_prefix"],
        ),
        fault(
            "takes prefixes for patterns",
            || Matches(like),
            &["a_prefix_with_pattern_characters_is_data", "clear_takes_the_prefix_as_data"],
        ),
        fault(
            "lists one page",
            || OnePage,
            &["ten_thousand_keys_are_listed", "clear_of_everything_counts_everything"],
        ),
        fault(
            "pages by offset",
            || PagesByOffset,
            &["a_listing_misses_no_key_that_stays", "operations_work_during_a_listing"],
        ),
        fault(
            "leaks a connection per dropped listing",
            LeaksConnections::default,
            &["listings_dropped_midway_leave_nothing_behind"],
        ),
    ]
}

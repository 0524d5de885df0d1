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
    Applied, Bytes, Change, Entry, EntryStream, Error, ErrorKind, Expiry, Key, ListOptions, Record, Result,
    Store, WriteOptions, Written, async_trait,
};

use crate::{Fault, fault, twist::Twist};

/// An entry that nobody has written.
fn invented(key: Key) -> Entry {
    Entry::new(key, Record::new(Bytes::new()).expires(Expiry::Never))
}

/// Has an entry of its own in the listing.
struct ListsItsOwn;

impl Twist for ListsItsOwn {
    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        let own = stream::once(async { Key::new("larder:schema").map(invented) });
        own.chain(inner.list(options)).boxed()
    }
}

/// Leaves the first one out, if it lists values.
struct SkipsOne;

impl Twist for SkipsOne {
    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        let skipped = usize::from(options.values);
        inner.list(options).skip(skipped).boxed()
    }
}

/// Names each key twice, but does not say that it may.
struct Repeats;

impl Twist for Repeats {
    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        inner.list(options.clone()).chain(inner.list(options)).boxed()
    }
}

/// Keeps a set of all keys ever written.
#[derive(Default)]
struct KeepsASet(Mutex<BTreeSet<Key>>);

#[async_trait]
impl Twist for KeepsASet {
    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.0.lock().unwrap().insert(key.clone());
        inner.write_with(key, value, options).await
    }

    fn list(self: Arc<Self>, _: Store, options: ListOptions) -> EntryStream {
        let keys: Vec<Key> = self.0.lock().unwrap().iter().cloned().collect();
        let begin = move |key: &Key| key.as_str().starts_with(&options.prefix);
        stream::iter(keys.into_iter().filter(begin).map(invented).map(Ok)).boxed()
    }
}

/// Deletes what the listing `entries` names.
async fn delete_listed(inner: &Store, entries: EntryStream) -> Result<u64> {
    let deletions: Vec<Change> = entries.map_ok(|entry| Change::delete(entry.key)).try_collect().await?;
    let results = inner.apply(deletions).await;
    Ok(results.into_iter().filter(|result| matches!(result, Ok(Applied::Deleted(true)))).count() as u64)
}

/// Matches prefixes in its own way, in listings and clears.
struct Matches(fn(&str, &str) -> bool);

#[async_trait]
impl Twist for Matches {
    fn list(self: Arc<Self>, inner: Store, mut options: ListOptions) -> EntryStream {
        let prefix = std::mem::take(&mut options.prefix);
        let matches = move |entry: &Entry| std::future::ready((self.0)(entry.key.as_str(), &prefix));
        inner.list(options).try_filter(matches).boxed()
    }

    async fn clear(self: Arc<Self>, inner: Store, prefix: &str) -> Result<u64> {
        let entries = self.list(inner.clone(), ListOptions::new().prefix(prefix).keys_only());
        delete_listed(&inner, entries).await
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
    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        inner.list(options).take(1000).boxed()
    }

    async fn clear(self: Arc<Self>, inner: Store, prefix: &str) -> Result<u64> {
        let entries = self.list(inner.clone(), ListOptions::new().prefix(prefix).keys_only());
        delete_listed(&inner, entries).await
    }
}

/// Pages by offset: what is written and deleted meanwhile shifts the pages.
struct PagesByOffset;

impl Twist for PagesByOffset {
    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        stream::try_unfold(0, move |offset| {
            let entries = inner.list(options.clone());
            async move {
                let mut entries: Vec<Entry> = entries.try_collect().await?;
                entries.sort_by(|one, other| one.key.cmp(&other.key));
                let page: Vec<Result<Entry>> = entries.into_iter().skip(offset).take(50).map(Ok).collect();
                let next = offset + page.len();
                Ok::<_, Error>((!page.is_empty()).then(|| (stream::iter(page), next)))
            }
        })
        .try_flatten()
        .boxed()
    }
}

/// Has ten connections, and never gets back that of a listing that was dropped.
#[derive(Default)]
struct LeaksConnections(AtomicUsize);

impl Twist for LeaksConnections {
    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        let (taken, given) = (Arc::clone(&self), self);
        let take = stream::once(async move {
            match taken.0.fetch_add(1, Ordering::Relaxed) {
                0..10 => Ok(None),
                _ => Err(Error::new(ErrorKind::Unavailable, "no connection is free")),
            }
        });
        let give = stream::once(async move {
            given.0.fetch_sub(1, Ordering::Relaxed);
            Ok(None)
        });
        let entries = inner.list(options).map_ok(Some);
        take.chain(entries).chain(give).try_filter_map(|entry| async { Ok(entry) }).boxed()
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
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

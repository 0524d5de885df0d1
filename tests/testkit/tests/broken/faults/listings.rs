//! Listings that miss, repeat or invent entries, and clears that delete too much.

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

/// Creates an entry that was never written.
fn invented(key: Key) -> Entry {
    Entry::new(key, Record::new(Bytes::new()).expires(Expiry::Never))
}

/// Lists an internal entry of its own.
struct ListsItsOwn;

impl Twist for ListsItsOwn {
    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        let own = stream::once(async { Key::new("larder:schema").map(invented) });
        own.chain(inner.list(options)).boxed()
    }
}

/// Omits the first entry of a listing with values.
struct SkipsOne;

impl Twist for SkipsOne {
    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        let skipped = usize::from(options.values);
        inner.list(options).skip(skipped).boxed()
    }
}

/// Lists each key twice, but claims to list keys once.
struct Repeats;

impl Twist for Repeats {
    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        inner.list(options.clone()).chain(inner.list(options)).boxed()
    }
}

/// Lists from a set of all keys that were ever written.
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

/// Deletes the entries of a listing.
async fn delete_listed(inner: &Store, entries: EntryStream) -> Result<u64> {
    let deletions: Vec<Change> = entries.map_ok(|entry| Change::delete(entry.key)).try_collect().await?;
    let results = inner.apply(deletions).await;
    Ok(results.into_iter().filter(|result| matches!(result, Ok(Applied::Deleted(true)))).count() as u64)
}

/// Matches prefixes with the function `0`, in listings and clears.
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

/// Interprets `%` and `_` as LIKE does, and `*` and `?` as SCAN does.
fn like(key: &str, pattern: &str) -> bool {
    fn matches(key: &[char], pattern: &[char]) -> bool {
        match pattern.split_first() {
            // The rest of the key, after the prefix.
            None => true,
            Some(('*' | '%', rest)) => (0..=key.len()).any(|skipped| matches(&key[skipped..], rest)),
            Some(('?' | '_', rest)) => key.split_first().is_some_and(|(_, key)| matches(key, rest)),
            Some((c, rest)) => key.split_first().is_some_and(|(k, key)| k == c && matches(key, rest)),
        }
    }
    let (key, pattern): (Vec<char>, Vec<char>) = (key.chars().collect(), pattern.chars().collect());
    matches(&key, &pattern)
}

/// Lists and clears only one page of 1,000 entries.
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

/// Pages by offset: concurrent writes and deletions shift the pages.
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

/// Has ten connections, and loses the connection of each dropped listing.
#[derive(Default)]
struct LeaksConnections(AtomicUsize);

impl Twist for LeaksConnections {
    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        let (taken, given) = (Arc::clone(&self), self);
        let take = stream::once(async move {
            match taken.0.fetch_add(1, Ordering::Relaxed) {
                0..10 => Ok(None),
                _ => Err(Error::new(ErrorKind::Unavailable, "all connections are in use")),
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
        fault("omits one entry", || SkipsOne, &["listings_name_every_key", "ten_thousand_keys_are_listed"]),
        fault("lists keys twice", || Repeats, &["listings_name_every_key"]),
        fault("lists deleted entries", KeepsASet::default, &["deleted_keys_are_not_listed"]),
        fault(
            "ignores case in prefixes",
            || Matches(|key, prefix| key.to_lowercase().starts_with(&prefix.to_lowercase())),
            &["a_prefix_is_matched_byte_for_byte", "clear_deletes_the_keys_with_the_prefix"],
        ),
        fault(
            "interprets prefixes as patterns",
            || Matches(like),
            &["a_prefix_with_pattern_characters_is_data", "clear_takes_the_prefix_as_data"],
        ),
        fault(
            "lists only one page",
            || OnePage,
            &["ten_thousand_keys_are_listed", "clear_of_everything_counts_everything"],
        ),
        fault(
            "pages by offset",
            || PagesByOffset,
            &["a_listing_misses_no_key_that_stays", "operations_work_during_a_listing"],
        ),
        fault(
            "loses a connection per dropped listing",
            LeaksConnections::default,
            &["listings_dropped_midway_leave_nothing_behind"],
        ),
    ]
}

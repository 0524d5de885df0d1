//! Listings that end or begin in the wrong place, or are in the wrong order.

use std::{future::ready, sync::Arc};

use futures_util::{FutureExt, Stream, StreamExt, TryFutureExt, TryStreamExt, stream};
use larder_core::{Entry, EntryStream, Info, Key, ListOptions, Result, Store};

use crate::{Fault, fault, twist::Twist};

/// Applies the limit before it selects the entries with the prefix.
struct LimitsBeforePrefix;

impl Twist for LimitsBeforePrefix {
    fn list(self: Arc<Self>, inner: Store, mut options: ListOptions) -> EntryStream {
        let prefix = std::mem::take(&mut options.prefix);
        let begins = move |entry: &Entry| ready(entry.key.as_str().starts_with(&prefix));
        inner.list(options).try_filter(begins).boxed()
    }
}

/// Lists one entry less than the limit.
struct EndsEarly;

impl Twist for EndsEarly {
    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        let most = options.limit.map_or(usize::MAX, |limit| limit.get() - 1);
        inner.list(options).take(most).boxed()
    }
}

/// Lists all entries with the prefix, in the order of `order`.
fn sorted<K: Ord>(
    inner: Store,
    options: &ListOptions,
    order: impl Fn(&Entry) -> K + Send + 'static,
) -> impl Stream<Item = Result<Entry>> + Send + 'static {
    let mut all = ListOptions::new().prefix(&options.prefix);
    all.values = options.values;
    let sort = async move {
        let mut entries: Vec<Entry> = inner.list(all).try_collect().await?;
        entries.sort_by_key(order);
        Ok(stream::iter(entries).map(Ok))
    };
    sort.try_flatten_stream()
}

/// Lists in the order of the keys. Selects the keys for which `0` returns `true`, given the key to start after.
struct Starts(fn(&Key, &Key) -> bool);

impl Twist for Starts {
    fn info(&self, inner: &Store) -> Info {
        inner.info().with_ordered_listing()
    }

    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        let entries = sorted(inner, &options, |entry| entry.key.clone());
        let starts = move |entry: &Entry| {
            ready(options.start_after.as_ref().is_none_or(|start| (self.0)(&entry.key, start)))
        };
        entries.try_filter(starts).boxed()
    }
}

/// Lists in the order of the keys, but ignores case.
struct SortsWithoutCase;

impl Twist for SortsWithoutCase {
    fn info(&self, inner: &Store) -> Info {
        inner.info().with_ordered_listing()
    }

    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        sorted(inner, &options, |entry| entry.key.as_str().to_lowercase()).boxed()
    }
}

/// Finds nothing if the entry to start after does not exist.
struct LooksForTheKey;

impl Twist for LooksForTheKey {
    fn info(&self, inner: &Store) -> Info {
        inner.info().with_ordered_listing()
    }

    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        let correct = Arc::new(Starts(|key, start| key > start));
        let Some(start) = options.start_after.clone() else { return correct.list(inner, options) };
        async move {
            if inner.contains(&start).await.unwrap_or(false) {
                correct.list(inner, options)
            } else {
                stream::empty().boxed()
            }
        }
        .flatten_stream()
        .boxed()
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    let starts = &["a_listing_starts_after_the_key"];
    let resumes = &["listings_that_start_after_the_last_key_find_each_entry_once"];
    let both =
        &["a_listing_starts_after_the_key", "listings_that_start_after_the_last_key_find_each_entry_once"];
    vec![
        fault(
            "applies the limit before the prefix",
            || LimitsBeforePrefix,
            &["a_limit_ends_a_listing", "a_limit_counts_only_listed_entries"],
        ),
        fault("ends before the limit", || EndsEarly, &["a_limit_ends_a_listing"]),
        fault(
            "ignores case in the order",
            || SortsWithoutCase,
            &["ordered_listings_are_in_the_order_of_bytes"],
        ),
        fault("starts at the beginning", || Starts(|_, _| true), starts),
        fault("starts with the key", || Starts(|key, start| key >= start), both),
        fault("requires the key to start after to exist", || LooksForTheKey, resumes),
    ]
}

/// Returns a correct storage, and the laws that must hold on it.
pub(crate) fn correct() -> Fault {
    fault(
        "lists in the order of the keys",
        || Starts(|key, start| key > start),
        &[
            "a_limit_ends_a_listing",
            "ordered_listings_are_in_the_order_of_bytes",
            "a_listing_starts_after_the_key",
            "listings_that_start_after_the_last_key_find_each_entry_once",
        ],
    )
}

//! Listings that end or begin in the wrong place, or are in another order.

use std::{future::ready, sync::Arc};

use futures_util::{FutureExt, Stream, StreamExt, TryFutureExt, TryStreamExt, stream};
use larder_core::{Entry, EntryStream, Info, Key, ListOptions, Result, Store};

use crate::{Fault, fault, twist::Twist};

/// Reads as many entries as the limit says, and then picks those with the prefix.
struct LimitsBeforeItPicks;

impl Twist for LimitsBeforeItPicks {
    fn list(self: Arc<Self>, inner: Store, mut options: ListOptions) -> EntryStream {
        let prefix = std::mem::take(&mut options.prefix);
        let begins = move |entry: &Entry| ready(entry.key.as_str().starts_with(&prefix));
        inner.list(options).try_filter(begins).boxed()
    }
}

/// Lists one entry less than the limit says.
struct EndsEarly;

impl Twist for EndsEarly {
    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        let most = options.limit.map_or(usize::MAX, |limit| limit.get() - 1);
        inner.list(options).take(most).boxed()
    }
}

/// All entries with the prefix, in the order that `order` gives.
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

/// Lists in the order of the keys, those for which `0` is true with the key to start after.
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

/// Lists in the order of the keys without regard to case.
struct SortsLikeALibrary;

impl Twist for SortsLikeALibrary {
    fn info(&self, inner: &Store) -> Info {
        inner.info().with_ordered_listing()
    }

    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        sorted(inner, &options, |entry| entry.key.as_str().to_lowercase()).boxed()
    }
}

/// Finds nothing if there is no entry to start after.
struct LooksForTheKey;

impl Twist for LooksForTheKey {
    fn info(&self, inner: &Store) -> Info {
        inner.info().with_ordered_listing()
    }

    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        let right = Arc::new(Starts(|key, start| key > start));
        let Some(start) = options.start_after.clone() else { return right.list(inner, options) };
        async move {
            if inner.contains(&start).await.unwrap_or(false) {
                right.list(inner, options)
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
            "limits before it picks",
            || LimitsBeforeItPicks,
            &["a_limit_ends_a_listing", "a_limit_counts_what_is_listed"],
        ),
        fault("ends before the limit", || EndsEarly, &["a_limit_ends_a_listing"]),
        fault(
            "sorts without regard to case",
            || SortsLikeALibrary,
            &["ordered_listings_are_in_the_order_of_bytes"],
        ),
        fault("starts at the beginning", || Starts(|_, _| true), starts),
        fault("starts with the key", || Starts(|key, start| key >= start), both),
        fault("looks for the key to start after", || LooksForTheKey, resumes),
    ]
}

/// A storage that is right, and the laws that must hold on it.
pub(crate) fn right() -> Fault {
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

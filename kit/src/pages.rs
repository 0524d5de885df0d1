//! Listings that read page by page.

use std::{fmt, sync::Arc};

use futures_util::{StreamExt, stream};
use larder_core::{Entry, EntryStream, Error, ErrorKind, ListOptions, Record, Result};

use crate::{prefix_end, stored_key};

/// Reads a listing page by page.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not read pages",
    label = "does not implement `Pager`",
    note = "implement `Pager::next_page`, which returns the next page, or `None` at the end"
)]
pub trait Pager: Send + 'static {
    /// Reads the next page; `None` at the end. A page may be empty.
    ///
    /// An entry that cannot be named or read is an `Err` in the page, and the listing continues. An `Err`
    /// instead of a page ends it.
    fn next_page(&mut self) -> impl Future<Output = Result<Option<Vec<Result<Entry>>>>> + Send;
}

/// Returns a stream of the entries of all pages. Reads a page once the previous page has been consumed.
///
/// After an error that [concerns one entry](Error::concerns_one_entry), callers expect that the listing
/// continues. If reading a whole page fails with such an error, the stream instead ends with an error of kind
/// [`Other`](ErrorKind::Other) whose source is the original error.
pub fn pages(pager: impl Pager) -> EntryStream {
    stream::unfold(Some(pager), |pager| async move {
        let mut pager = pager?;
        match pager.next_page().await {
            Ok(Some(page)) => Some((page, Some(pager))),
            Ok(None) => None,
            Err(error) => Some((vec![Err(incomplete(error))], None)),
        }
    })
    .flat_map(stream::iter)
    .boxed()
}

fn incomplete(error: Error) -> Error {
    if !error.concerns_one_entry() {
        return error;
    }
    Error::new(ErrorKind::Other, "the listing could not continue: a page of the store is damaged")
        .with_source(error)
}

/// A store that reads its entries in the order of the bytes of their keys, for [`ranges`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not read ranges of keys",
    label = "does not implement `Ranged`",
    note = "implement `Ranged::read_range`, which returns the entries between two keys"
)]
pub trait Ranged: Send + Sync + 'static {
    /// Reads the first entries of a range, in the order of the bytes of their keys. Returns fewer than the limit only
    /// at the end of the range.
    fn read_range(&self, range: KeyRange<'_>) -> impl Future<Output = Result<Vec<StoredEntry>>> + Send;
}

/// The entries that one page of a listing reads. `Debug` does not print the keys.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub struct KeyRange<'a> {
    /// The keys begin here, in the order of bytes.
    pub from: &'a [u8],
    /// Whether an entry with the key `from` is left out.
    pub after: bool,
    /// The keys are less than this.
    pub end: Option<&'a str>,
    /// The maximum number of entries.
    pub limit: usize,
    /// Whether to read records, not only keys.
    pub values: bool,
}

impl fmt::Debug for KeyRange<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, values, .. } = self;
        f.debug_struct("KeyRange").field("limit", limit).field("values", values).finish_non_exhaustive()
    }
}

/// A key as stored, which another program may have written, and the record if it was requested.
pub type StoredEntry = (Vec<u8>, Option<Result<Record>>);

/// Returns a listing in the order of keys. It reads pages of 1 to `max` entries, depending on the size of the values.
///
/// Keys that are not valid, and records that cannot be read, are errors in place of their entries.
pub fn ranges<S: Ranged>(storage: Arc<S>, options: ListOptions, max: usize) -> EntryStream {
    let from = match &options.start_after {
        Some(key) if *key.as_str() >= *options.prefix => (key.as_bytes().to_vec(), true),
        _ => (options.prefix.clone().into_bytes(), false),
    };
    let size = PageSize::new(if options.values { FIRST_PAGE } else { max }, max);
    pages(Ranges { storage, from: Some(from), end: prefix_end(&options.prefix), size, options })
}

/// The number of entries in the first page with values, whose sizes are not known yet.
const FIRST_PAGE: usize = 16;

struct Ranges<S> {
    storage: Arc<S>,
    /// The beginning of the next page, and whether it is left out; `None` at the end.
    from: Option<(Vec<u8>, bool)>,
    end: Option<String>,
    size: PageSize,
    options: ListOptions,
}

impl<S: Ranged> Pager for Ranges<S> {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        let Some((from, after)) = self.from.take() else { return Ok(None) };
        let limit = self.options.page(self.size.entries());
        let (end, values) = (self.end.as_deref(), self.options.values);
        let found = self.storage.read_range(KeyRange { from: &from, after, end, limit, values }).await?;
        self.from = found.last().filter(|_| found.len() >= limit).map(|(last, _)| (last.clone(), true));
        let entry = |(key, record): StoredEntry| {
            let key = stored_key(key)?;
            match record {
                Some(Ok(record)) => Ok(Entry::new(key, record)),
                Some(Err(error)) => Err(error.with_key(&key)),
                None => Ok(Entry::key(key)),
            }
        };
        // A key that is not UTF-8 may be between the last text with the prefix and the end.
        let found = found.into_iter().filter(|(key, _)| key.starts_with(self.options.prefix.as_bytes()));
        let entries: Vec<_> = found.map(entry).collect();
        let records = entries.iter().flatten().filter_map(|entry| entry.record.as_ref());
        self.size.adapt(entries.len(), records.map(|record| record.value.len()).sum());
        Ok(Some(entries))
    }
}

/// The number of entries to read at once. Adapts to pages with about 1 MiB of values.
#[derive(Clone, Copy, Debug)]
pub struct PageSize {
    entries: usize,
    max: usize,
}

impl PageSize {
    /// The intended size of the values of a page, in bytes.
    const BYTES: usize = 1 << 20;

    /// Creates a page size of `first` entries for the first page, whose value sizes are not known yet. Later pages
    /// have 1 to `max` entries.
    #[must_use]
    pub fn new(first: usize, max: usize) -> Self {
        let max = max.max(1);
        Self { entries: first.clamp(1, max), max }
    }

    /// Returns the number of entries to read at once.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.entries
    }

    /// Adapts the size of the next page to the last page, which had `entries` entries with `bytes` bytes of values.
    pub fn adapt(&mut self, entries: usize, bytes: usize) {
        if let Some(size) = bytes.checked_div(entries) {
            self.entries = (Self::BYTES / size.max(1)).clamp(1, self.max);
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_core::Key;

    use super::*;

    /// Returns its pages one by one, in reverse order.
    struct Pages(Vec<Result<Vec<Result<Entry>>>>);

    impl Pager for Pages {
        async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
            self.0.pop().transpose()
        }
    }

    fn entry(key: &str) -> Result<Entry> {
        Ok(Entry::key(Key::new(key).unwrap()))
    }

    fn failure(kind: ErrorKind) -> Error {
        Error::new(kind, "no")
    }

    async fn listed(pages: Vec<Result<Vec<Result<Entry>>>>) -> Vec<String> {
        let name = |entry: Result<Entry>| {
            entry.map_or_else(|error| error.kind().to_string(), |entry| entry.key.to_string())
        };
        super::pages(Pages(pages.into_iter().rev().collect())).map(name).collect().await
    }

    #[tokio::test]
    async fn pages_are_listed_in_order() {
        let pages = vec![
            Ok(vec![entry("a"), entry("b")]),
            Ok(vec![]),
            Ok(vec![Err(failure(ErrorKind::Corrupt)), entry("c")]),
        ];
        assert_eq!(listed(pages).await, ["a", "b", "corrupt", "c"]);
    }

    #[tokio::test]
    async fn an_unreadable_page_ends_the_listing() {
        for kind in [ErrorKind::Unavailable, ErrorKind::Corrupt, ErrorKind::InvalidKey] {
            let pages = vec![Ok(vec![entry("a")]), Err(failure(kind)), Ok(vec![entry("b")])];
            let reported = if kind == ErrorKind::Unavailable { kind } else { ErrorKind::Other };
            assert_eq!(listed(pages).await, ["a", &reported.to_string()]);
        }
    }

    /// A store with one key that is not UTF-8.
    struct Foreign(&'static [u8]);

    impl Ranged for Foreign {
        async fn read_range(&self, range: KeyRange<'_>) -> Result<Vec<StoredEntry>> {
            let inside = range.from <= self.0 && range.end.is_some_and(|end| self.0 < end.as_bytes());
            Ok(if inside && !range.after { vec![(self.0.to_vec(), None)] } else { Vec::new() })
        }
    }

    #[tokio::test]
    async fn a_key_that_does_not_begin_with_the_prefix_is_not_listed() {
        for (prefix, key, listed) in [("a:\u{7f}", &b"a:\x80"[..], 0), ("a:", b"a:\x80", 1)] {
            let options = ListOptions::new().prefix(prefix).keys_only();
            let entries: Vec<_> = ranges(Arc::new(Foreign(key)), options, 8).collect().await;
            assert_eq!(entries.len(), listed);
            assert!(
                entries
                    .iter()
                    .all(|entry| entry.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidKey))
            );
        }
    }

    #[test]
    fn the_page_size_adapts_to_the_size_of_values() {
        let mut size = PageSize::new(16, 512);
        assert_eq!(size.entries(), 16);
        size.adapt(16, 16 * 100);
        assert_eq!(size.entries(), 512);
        size.adapt(512, 512 << 14);
        assert_eq!(size.entries(), 64);
        size.adapt(2, 8 << 20);
        assert_eq!(size.entries(), 1);
        size.adapt(0, 0);
        assert_eq!(size.entries(), 1);
        size.adapt(1, 0);
        assert_eq!(size.entries(), 512);
    }
}

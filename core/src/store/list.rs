//! The listings of a store.

use std::{future, num::NonZeroUsize, sync::Arc};

use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, stream};
use tracing::{Instrument, Span};

use super::{Store, claims, has_ttl};
use crate::{Entry, EntryStream, Error, ErrorKind, Key, ListOptions, Operation, Record, Result};

impl Store {
    /// Lists entries. The stream borrows nothing, reads only when it is polled, and may be dropped at
    /// any point. After an `Err` that [concerns one entry](Error::concerns_one_entry), the listing
    /// continues. Any other error ends it, and so does closing the store. See
    /// [`Storage::list`](crate::Storage::list).
    pub fn list(&self, options: ListOptions) -> EntryStream {
        let limit = options.limit.map_or(usize::MAX, NonZeroUsize::get);
        let refused = |error| stream::once(future::ready(Err(error))).boxed();
        let entries = self.stored_entries(options).unwrap_or_else(refused);
        let span = self.span(Operation::List);
        let listing = Listing { store: self.clone(), entries, span, limit, listed: 0 };
        stream::unfold(Some(listing), |listing| async move {
            let mut listing = listing?;
            match listing.next().await {
                Ok(None) => {
                    listing.end("ok");
                    None
                }
                Ok(Some(entry)) => Some((Ok(entry), Some(listing))),
                Err(error) => {
                    let goes_on = error.concerns_one_entry();
                    if !goes_on {
                        listing.end(error.kind().as_str());
                    }
                    Some((Err(listing.store.named(error, Operation::List)), goes_on.then_some(listing)))
                }
            }
        })
        .boxed()
    }

    /// Lists the keys that begin with `prefix`; the empty prefix lists all. See [`list`](Store::list).
    pub fn keys(&self, prefix: &str) -> BoxStream<'static, Result<Key>> {
        let keys = self.list(ListOptions::new().prefix(prefix).keys_only());
        keys.map_ok(|entry| entry.key).boxed()
    }

    /// Lists the entries whose keys begin with `prefix`; the empty prefix lists all. Each record has its
    /// [`expiry`](Record::expiry). See [`list`](Store::list).
    pub fn entries(&self, prefix: &str) -> BoxStream<'static, Result<(Key, Record)>> {
        let entries = self.list(ListOptions::new().prefix(prefix));
        let with_record = |entry: Entry| Ok(entry.record.map(|record| (entry.key, record)));
        entries.try_filter_map(move |entry| future::ready(with_record(entry))).boxed()
    }

    /// Deletes all entries whose keys begin with `prefix`. Returns the number of deleted entries. The empty prefix
    /// deletes all entries of the store or namespace. Entries that a listing cannot name are not deleted. After an
    /// error, some of the entries may have been deleted.
    ///
    /// # Errors
    ///
    /// - [`Unsupported`](crate::ErrorKind::Unsupported) if the store does not support
    ///   [listings](crate::Info::listing)
    /// - the errors of [`Storage::clear`](crate::Storage::clear)
    pub async fn clear(&self, prefix: &str) -> Result<u64> {
        let call = async {
            claims(self.shared.info.listing)?;
            let prefix = format!("{}{prefix}", self.shared.namespace);
            if !begins_a_key(&prefix) {
                return Ok(0);
            }
            // A failed clear may have deleted some of the entries.
            Arc::clone(&self.shared.storage).clear(&prefix).await.map_err(Error::partly_applied)
        };
        self.run(Operation::Clear, |deleted| deleted.copied().unwrap_or(0), call).await
    }

    /// Lists the entries of the storage, with their keys in the whole store.
    fn stored_entries(&self, mut options: ListOptions) -> Result<EntryStream> {
        self.check_open(Operation::List)?;
        claims(self.shared.info.listing)?;
        if let Some(key) = &options.start_after {
            if !self.shared.info.ordered {
                let message =
                    "this storage does not list keys in order, so it does not support `start_after`";
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            // Not an `InvalidKey`: that would concern one entry of the listing.
            let too_long = |_| {
                let message =
                    "the key of `start_after` is too long for this namespace; use a key of the namespace";
                Error::new(ErrorKind::InvalidValue, message)
            };
            options.start_after = Some(self.full(key).map_err(too_long)?.into_owned());
        }
        options.prefix.insert_str(0, &self.shared.namespace);
        if !begins_a_key(&options.prefix) {
            return Ok(stream::empty().boxed());
        }
        Ok(Arc::clone(&self.shared.storage).list(options))
    }
}

/// A listing under way.
struct Listing {
    store: Store,
    entries: EntryStream,
    span: Span,
    limit: usize,
    listed: usize,
}

impl Listing {
    /// Returns the next entry; `None` at the end. Polls the storage only until the limit.
    async fn next(&mut self) -> Result<Option<Entry>> {
        while self.listed < self.limit {
            self.store.check_open(Operation::List)?;
            let Some(entry) = self.entries.next().instrument(self.span.clone()).await else {
                // A storage that is being closed may have dropped its entries: the listing is not complete.
                self.store.check_open(Operation::List)?;
                break;
            };
            let entry = entry?;
            if let Some(record) = entry.record.as_ref().filter(|_| self.store.shared.info.expiry) {
                has_ttl(record)?;
            }
            if let Some(entry) = self.strip(entry) {
                self.listed += 1;
                return Ok(Some(entry));
            }
        }
        Ok(None)
    }

    /// Removes the namespace from the entry's key. Returns `None` if the key is the namespace itself, so that
    /// nothing remains.
    fn strip(&self, mut entry: Entry) -> Option<Entry> {
        let namespace = self.store.prefix();
        if !namespace.is_empty() {
            entry.key = Key::new(entry.key.as_str().strip_prefix(namespace)?).ok()?;
        }
        Some(entry)
    }

    fn end(&self, outcome: &'static str) {
        self.span.record("outcome", outcome).record("size", self.listed);
    }
}

/// Returns whether any key can begin with `prefix`.
fn begins_a_key(prefix: &str) -> bool {
    prefix.is_empty() || Key::new(prefix).is_ok()
}

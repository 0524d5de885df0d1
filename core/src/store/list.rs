//! Listings through a store.

use std::{future, num::NonZeroUsize, sync::Arc};

use futures_core::stream::BoxStream;
use futures_util::{StreamExt, stream};
use tracing::{Instrument, Span};

use super::{Store, claims, has_ttl, removed};
use crate::{Entry, EntryStream, Error, ErrorKind, Key, ListOptions, Operation, Record, Result};

impl Store {
    /// Lists entries. The stream owns what it needs, reads on only as it is polled, and may be dropped at
    /// any point. After an `Err` that [concerns one entry](Error::concerns_one_entry) the listing goes
    /// on; any other error ends it, as closing the store does. See
    /// [`Storage::list`](crate::Storage::list).
    pub fn list(&self, options: ListOptions) -> EntryStream {
        match self.checked(options) {
            Ok(options) => self.listing(options),
            Err(error) => {
                let error = self.named(error, Operation::List);
                stream::once(future::ready(Err(error))).boxed()
            }
        }
    }

    /// Lists the keys that begin with `prefix`; the empty prefix lists all. See [`list`](Store::list).
    pub fn keys(&self, prefix: &str) -> BoxStream<'static, Result<Key>> {
        let keys = self.list(ListOptions::new().prefix(prefix).keys_only());
        keys.map(|entry| entry.map(|entry| entry.key)).boxed()
    }

    /// Lists the entries whose keys begin with `prefix`; the empty prefix lists all. Each record has its
    /// [`expiry`](Record::expiry). See [`list`](Store::list).
    pub fn entries(&self, prefix: &str) -> BoxStream<'static, Result<(Key, Record)>> {
        let entries = self.list(ListOptions::new().prefix(prefix));
        let with_record = |entry: Result<Entry>| {
            let entry = entry.map(|entry| entry.record.map(|record| (entry.key, record))).transpose();
            future::ready(entry)
        };
        entries.filter_map(with_record).boxed()
    }

    /// Deletes all entries whose keys begin with `prefix`; returns how many there were. The empty prefix
    /// deletes all of the store or namespace. Entries that a listing cannot name stay. If it fails, some of the
    /// entries may have been deleted.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) where there are no
    /// [listings](crate::Info::listing); otherwise as [`Storage::clear`](crate::Storage::clear).
    pub async fn clear(&self, prefix: &str) -> Result<u64> {
        let call = async {
            claims(self.shared.info.listing)?;
            let prefix = format!("{}{prefix}", self.shared.namespace);
            if !begins_a_key(&prefix) {
                return Ok(0);
            }
            // A clear that fails may have deleted some of the entries.
            Arc::clone(&self.shared.storage).clear(&prefix).await.map_err(Error::partly_applied)
        };
        self.run(Operation::Clear, removed, call).await
    }

    /// The options as the storage gets them.
    fn checked(&self, mut options: ListOptions) -> Result<ListOptions> {
        self.check_open(Operation::List)?;
        claims(self.shared.info.listing)?;
        if let Some(key) = &options.start_after {
            if !self.shared.info.ordered {
                return Err(Error::new(
                    ErrorKind::Unsupported,
                    "the listings of this storage have no order, so they cannot start after a key",
                ));
            }
            // Not an `InvalidKey`, which would concern one entry of the listing.
            let too_long = |_| {
                let message =
                    "with its namespace, the key to start after is too long; no key of the store is so long";
                Error::new(ErrorKind::InvalidValue, message)
            };
            options.start_after = Some(self.full(key).map_err(too_long)?.into_owned());
        }
        if !self.shared.namespace.is_empty() {
            options.prefix.insert_str(0, &self.shared.namespace);
        }
        Ok(options)
    }

    fn listing(&self, options: ListOptions) -> EntryStream {
        if !begins_a_key(&options.prefix) {
            return stream::empty().boxed();
        }
        let limit = options.limit.map_or(usize::MAX, NonZeroUsize::get);
        let progress = Progress { store: self.clone(), span: self.span(Operation::List), entries: 0, limit };
        let entries = Arc::clone(&self.shared.storage).list(options);
        stream::unfold((entries, Some(progress)), |(mut entries, progress)| async move {
            let mut progress = progress?;
            loop {
                // The storage is not asked for more than the limit.
                let next =
                    if progress.entries < progress.limit { progress.next(&mut entries).await } else { None };
                match next {
                    None => {
                        progress.end("ok");
                        return None;
                    }
                    Some(Ok(Some(entry))) => {
                        progress.entries += 1;
                        return Some((Ok(entry), (entries, Some(progress))));
                    }
                    // Its key is the namespace itself, and nothing remains.
                    Some(Ok(None)) => {}
                    Some(Err(error)) => {
                        let goes_on = error.concerns_one_entry();
                        if !goes_on {
                            progress.end(error.kind().as_str());
                        }
                        let error = progress.store.named(error, Operation::List);
                        return Some((Err(error), (entries, goes_on.then_some(progress))));
                    }
                }
            }
        })
        .boxed()
    }
}

/// A listing on its way.
struct Progress {
    store: Store,
    span: Span,
    entries: usize,
    limit: usize,
}

impl Progress {
    /// The next entry under the namespace's names; `Some(Ok(None))` for an entry that it cannot name.
    async fn next(&self, entries: &mut EntryStream) -> Option<Result<Option<Entry>>> {
        if let Err(closed) = self.store.check_open(Operation::List) {
            return Some(Err(closed));
        }
        let Some(entry) = entries.next().instrument(self.span.clone()).await else {
            // A storage that is being closed may have let go of its entries: the listing is not complete.
            return self.store.check_open(Operation::List).err().map(Err);
        };
        Some(entry.and_then(|entry| {
            if let Some(record) = entry.record.as_ref().filter(|_| self.store.shared.info.expiry) {
                has_ttl(record)?;
            }
            Ok(self.strip(entry))
        }))
    }

    fn strip(&self, mut entry: Entry) -> Option<Entry> {
        let namespace = &*self.store.shared.namespace;
        if !namespace.is_empty() {
            entry.key = Key::new(entry.key.as_str().strip_prefix(namespace)?).ok()?;
        }
        Some(entry)
    }

    fn end(&self, outcome: &'static str) {
        self.span.record("outcome", outcome).record("size", self.entries);
    }
}

/// Whether any key can begin with `prefix`.
fn begins_a_key(prefix: &str) -> bool {
    prefix.is_empty() || Key::new(prefix).is_ok()
}

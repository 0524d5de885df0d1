//! Entries, gathered to batches of bounded size.

use std::time::Instant;

use futures_util::{StreamExt, stream::Fuse};
use larder_core::{Entry, EntryStream, Error, ErrorKind, Expiry, Record, Result, Storage};

/// Enough to make the round trips of a network store cheap, little enough to hold in memory.
const MAX_ENTRIES: usize = 256;
const MAX_BYTES: usize = 4 << 20;

/// An entry and when it was read: what it has left runs down while it waits to be written.
pub(super) struct Found {
    entry: Entry,
    at: Instant,
}

impl Found {
    pub(super) fn entry(&self) -> &Entry {
        &self.entry
    }

    /// The time to live that the entry has left now; `None` if it has expired meanwhile.
    pub(super) fn remaining(&self) -> Option<Expiry> {
        match self.entry.expiry {
            Expiry::Never => Some(Expiry::Never),
            Expiry::After(left) => {
                left.checked_sub(self.at.elapsed()).filter(|left| !left.is_zero()).map(Expiry::After)
            }
        }
    }
}

/// The next entries of `entries`, and the errors met on the way; `None` at the end.
///
/// It waits until a batch is full: a listing is always ready to go on, so this adds no delay that
/// matters.
pub(super) async fn next(entries: &mut Fuse<EntryStream<'_>>) -> Option<(Vec<Found>, Vec<Error>)> {
    let (mut batch, mut errors, mut bytes) = (Vec::new(), Vec::new(), 0);
    while batch.len() + errors.len() < MAX_ENTRIES && bytes < MAX_BYTES {
        match entries.next().await {
            Some(Ok(entry)) => {
                bytes += entry.record.value.len();
                batch.push(Found { entry, at: Instant::now() });
            }
            Some(Err(error)) => errors.push(error),
            None if batch.is_empty() && errors.is_empty() => return None,
            None => break,
        }
    }
    Some((batch, errors))
}

/// What `storage` holds under the keys of `batch`, each for itself: one damaged entry does not hide
/// the others.
pub(super) async fn counterparts(
    storage: &dyn Storage,
    batch: &[Found],
) -> Result<Vec<Result<Option<Record>>>> {
    let keys: Vec<_> = batch.iter().map(|found| found.entry.key.clone()).collect();
    match storage.read_many(&keys).await {
        Ok(records) => Ok(records.into_iter().map(Ok).collect()),
        Err(error) if stops_everything(error.kind()) => Err(error),
        Err(_) => {
            let mut records = Vec::with_capacity(keys.len());
            for key in &keys {
                records.push(storage.read(key).await);
            }
            Ok(records)
        }
    }
}

/// Whether the next entry would meet the same error.
pub(super) const fn stops_everything(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::Full
            | ErrorKind::Denied
            | ErrorKind::Configuration
            | ErrorKind::Closed
    )
}

/// Whether an error that a listing yields is that of one entry, after which it goes on. Any other
/// means that entries are missing from the listing, and nobody knows which.
pub(super) const fn is_of_one_entry(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Corrupt | ErrorKind::InvalidKey | ErrorKind::InvalidValue)
}

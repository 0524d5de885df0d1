//! Entries, gathered to batches of bounded size.

use std::time::Instant;

use futures_util::{StreamExt, stream::Fuse};
use larder_core::{Entry, EntryStream, Error, ErrorKind, Expiry, Key, KeyStream, Record, Result, Storage};

use super::scope::Scope;

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

/// The keys of `batch`.
pub(super) fn keys(batch: &[Found]) -> Vec<Key> {
    batch.iter().map(|found| found.entry.key.clone()).collect()
}

/// Reads every key of `keys` from `storage`. An entry that cannot be read is an error in its own
/// place and does not hide the others.
pub(super) async fn read_each(storage: &dyn Storage, keys: &[Key]) -> Result<Vec<Result<Option<Record>>>> {
    match storage.read_many(keys).await {
        Ok(records) => Ok(records.into_iter().map(Ok).collect()),
        Err(error) if stops_everything(error.kind()) => Err(error),
        Err(_) => {
            let mut records = Vec::with_capacity(keys.len());
            for key in keys {
                records.push(storage.read(key).await);
            }
            Ok(records)
        }
    }
}

/// What [`Extras::next`] finds in the target.
pub(super) enum Extra {
    /// An entry that the source does not have.
    Entry(Key),
    /// An entry that the target's listing cannot name, so that it cannot be looked up.
    Unlisted(Error),
}

/// The entries of a target that its source does not have.
pub(super) struct Extras<'a> {
    from: &'a dyn Storage,
    keys: Fuse<KeyStream<'a>>,
    scope: &'a Scope,
}

impl<'a> Extras<'a> {
    pub(super) fn new(from: &'a dyn Storage, to: &'a dyn Storage, scope: &'a Scope) -> Self {
        Self { from, keys: to.keys(&scope.prefix).fuse(), scope }
    }

    /// Those among the next keys of the target, perhaps none; `None` at the end.
    ///
    /// Every key is looked up in the source, so no order of the listings matters. An entry that the
    /// source has and cannot read is not an extra one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Extra>>> {
        let (mut extras, mut unknown, mut seen) = (Vec::new(), Vec::new(), 0);
        while seen < MAX_ENTRIES {
            let Some(key) = self.keys.next().await else { break };
            seen += 1;
            match key {
                Ok(key) if self.scope.is_of_source(&key) => {}
                Ok(key) if self.scope.is_of_target(&key) => extras.push(Extra::Entry(key)),
                Ok(key) => unknown.push(key),
                Err(error) if error.concerns_one_entry() => extras.push(Extra::Unlisted(error)),
                Err(error) => return Err(error),
            }
        }
        if seen == 0 {
            return Ok(None);
        }
        let records = read_each(self.from, &unknown).await?;
        for (key, record) in unknown.into_iter().zip(records) {
            if matches!(record, Ok(None)) {
                extras.push(Extra::Entry(key));
            }
        }
        Ok(Some(extras))
    }
}

/// Whether the next entry would meet the same error.
pub(super) const fn stops_everything(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::StorageFull
            | ErrorKind::PermissionDenied
            | ErrorKind::InvalidConfig
            | ErrorKind::Closed
    )
}

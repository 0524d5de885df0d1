//! Batches of entries, of bounded size.

use std::time::Instant;

use futures_util::{
    StreamExt,
    stream::{self, BoxStream, Fuse},
};
use larder_core::{Error, ErrorKind, Expiry, Key, ReadOptions, Record, Result, Store};

use super::scope::{Entries, Scope, with_ttl};

/// Large enough to save round trips to a server, and small enough to hold a few batches in memory.
pub(super) const MAX_ENTRIES: usize = 1_000;
const MAX_BYTES: usize = 2 << 20;

/// The number of batches in flight: the source reads the next one while the target writes others.
pub(super) const AT_ONCE: usize = 3;

/// An entry of the source and the time of the read, because the remaining time to live decreases until the write.
pub(super) struct Found {
    pub(super) key: Key,
    pub(super) record: Record,
    at: Instant,
}

impl Found {
    /// Creates one for an entry that was read just now.
    pub(super) fn now(key: Key, record: Record) -> Self {
        Self { key, record, at: Instant::now() }
    }

    /// The time to live that remains now, or `None` if the entry has expired since it was read.
    pub(super) fn remaining(&self) -> Option<Expiry> {
        match ttl(&self.record) {
            Expiry::Never => Some(Expiry::Never),
            Expiry::After(left) => {
                left.checked_sub(self.at.elapsed()).filter(|left| !left.is_zero()).map(Expiry::After)
            }
        }
    }
}

/// The time to live at the time of the read, for stores with and without expiry.
pub(super) fn ttl(record: &Record) -> Expiry {
    record.expiry.unwrap_or_default()
}

/// Entries, and the errors of the listing between them.
pub(super) type Batch = (Vec<Found>, Vec<Error>);

/// Splits the entries into batches.
///
/// Waits until a batch is full. A listing is always ready to continue, so the delay is negligible.
pub(super) fn batches(entries: Entries) -> BoxStream<'static, Batch> {
    let next = |mut entries| async move { Some((next(&mut entries).await?, entries)) };
    stream::unfold(entries, next).boxed()
}

async fn next(entries: &mut Entries) -> Option<Batch> {
    let (mut batch, mut errors, mut bytes) = (Vec::new(), Vec::new(), 0);
    while batch.len() + errors.len() < MAX_ENTRIES && bytes < MAX_BYTES {
        match entries.next().await {
            Some(Ok((key, record))) => {
                bytes += record.value.len();
                batch.push(Found::now(key, record));
            }
            Some(Err(error)) => errors.push(error),
            None if batch.is_empty() && errors.is_empty() => return None,
            None => break,
        }
    }
    Some((batch, errors))
}

/// Reads the entries under the keys of `batch` from the target.
pub(super) async fn read_target(to: &Store, batch: &[Found]) -> Vec<Result<Option<Record>>> {
    let keys: Vec<_> = batch.iter().map(|found| found.key.clone()).collect();
    to.read_many(&keys, &with_ttl(to)).await
}

/// Returns an error that would also affect the next entry, if any.
pub(super) fn check<T>(results: &[Result<T>]) -> Result<()> {
    let mut errors = results.iter().filter_map(|result| result.as_ref().err());
    errors.find(|error| stops_everything(error)).map_or(Ok(()), |error| Err(error.clone()))
}

/// An item of [`Extras`].
pub(super) enum Extra {
    /// An entry that the source lacks.
    Entry(Key),
    /// An entry whose key the listing of the target could not read, so it cannot be looked up.
    Unlisted(Error),
}

/// The entries of a target that its source lacks.
pub(super) struct Extras<'a> {
    from: &'a Store,
    keys: Fuse<BoxStream<'static, Result<Key>>>,
    scope: &'a Scope,
}

impl<'a> Extras<'a> {
    pub(super) fn new(from: &'a Store, to: &Store, scope: &'a Scope) -> Self {
        Self { from, keys: to.keys(&scope.prefix).fuse(), scope }
    }

    /// Checks the next keys of the target and returns the extra ones, which may be none. Returns `None` at the end.
    ///
    /// It looks up every key in the source, so the listings need no order.
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
        let records = self.from.read_many(&unknown, &ReadOptions::new().without_value()).await;
        check(&records)?;
        // An unreadable entry of the source is not missing there.
        let missing = unknown.into_iter().zip(records).filter(|(_, record)| matches!(record, Ok(None)));
        extras.extend(missing.map(|(key, _)| Extra::Entry(key)));
        Ok(Some(extras))
    }
}

/// Whether the error would also affect the next entry.
pub(super) fn stops_everything(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Unavailable
            | ErrorKind::Timeout
            | ErrorKind::StorageFull
            | ErrorKind::PermissionDenied
            | ErrorKind::InvalidConfig
            | ErrorKind::Closed
    )
}

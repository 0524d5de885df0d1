//! Entries, gathered to batches of bounded size.

use std::time::Instant;

use futures_util::{
    StreamExt,
    stream::{self, BoxStream, Fuse},
};
use larder_core::{Error, ErrorKind, Expiry, Key, ReadOptions, Record, Result, Store};

use super::scope::{Entries, Scope, with_ttl};

/// Enough to make the round trips of a network store cheap, little enough to hold a few in memory.
pub(super) const MAX_ENTRIES: usize = 1_000;
const MAX_BYTES: usize = 2 << 20;

/// How many batches are under way at once: while the target takes some, the source reads the next.
pub(super) const AT_ONCE: usize = 3;

/// An entry of the source, and when it was read: the time that it has left runs down while it waits to be
/// written.
pub(super) struct Found {
    pub(super) key: Key,
    pub(super) record: Record,
    at: Instant,
}

impl Found {
    /// An entry that was read just now.
    pub(super) fn now(key: Key, record: Record) -> Self {
        Self { key, record, at: Instant::now() }
    }

    /// The time that the entry has left now; `None` if it has expired since it was read.
    pub(super) fn remaining(&self) -> Option<Expiry> {
        match ttl(&self.record) {
            Expiry::Never => Some(Expiry::Never),
            Expiry::After(left) => {
                left.checked_sub(self.at.elapsed()).filter(|left| !left.is_zero()).map(Expiry::After)
            }
        }
    }
}

/// The time that an entry had left when it was read, in a store with or without expiry.
pub(super) fn ttl(record: &Record) -> Expiry {
    record.expiry.unwrap_or_default()
}

/// Entries, and the errors met on the way.
pub(super) type Batch = (Vec<Found>, Vec<Error>);

/// All entries in batches.
///
/// A batch is not returned before it is full: a listing is always ready to go on, so this adds no delay that
/// matters.
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

/// Passes on an error that the next entry would meet too.
pub(super) fn check<T>(results: &[Result<T>]) -> Result<()> {
    let mut errors = results.iter().filter_map(|result| result.as_ref().err());
    errors.find(|error| stops_everything(error)).map_or(Ok(()), |error| Err(error.clone()))
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
    from: &'a Store,
    keys: Fuse<BoxStream<'static, Result<Key>>>,
    scope: &'a Scope,
}

impl<'a> Extras<'a> {
    pub(super) fn new(from: &'a Store, to: &Store, scope: &'a Scope) -> Self {
        Self { from, keys: to.keys(&scope.prefix).fuse(), scope }
    }

    /// Those among the next keys of the target, perhaps none; `None` at the end.
    ///
    /// Every key is looked up in the source, so no order of the listings matters.
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
        // An entry that the source has and cannot read is not an extra one.
        let missing = unknown.into_iter().zip(records).filter(|(_, record)| matches!(record, Ok(None)));
        extras.extend(missing.map(|(key, _)| Extra::Entry(key)));
        Ok(Some(extras))
    }
}

/// Whether the next entry would meet the same error.
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

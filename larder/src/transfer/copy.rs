//! Copying.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::{StreamExt, future};
use larder_core::{
    Applied, Change, Condition, Error, ErrorKind, Expiry, Key, Operation, Overlap, Record, Result, Store,
};

use super::{
    batch::{self, Extra, Extras, Found, stops_everything},
    equal::{Comparison, TOLERANCE, close},
    scope::Scope,
};

/// What [`copy`] does, and what it leaves alone.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CopyOptions {
    prefix: String,
    resume: bool,
    drop_expiry: bool,
    delete: bool,
    dry_run: bool,
}

impl CopyOptions {
    /// Copies only the keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Continues a copy that was cut off: writes only the entries that the target does not have, and
    /// never overwrites one. An entry that the target has with another value or time to live is
    /// reported as [`Event::Kept`].
    ///
    /// A target with compare-and-swap decides by itself whether an entry is absent. Without it the
    /// target is read first, and an entry that another program writes between that read and the
    /// write is overwritten.
    #[must_use]
    pub const fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Into a target with no expiry, copies entries that expire as entries that never do. Without
    /// it each of them is a failure.
    #[must_use]
    pub const fn drop_expiry(mut self, drop_expiry: bool) -> Self {
        self.drop_expiry = drop_expiry;
        self
    }

    /// After copying, deletes the entries of the target that the source does not have, below the
    /// [prefix](CopyOptions::prefix) only.
    ///
    /// Nothing is deleted if an entry could not be copied, or if the source has no entries: an
    /// empty source is more often a mistake than an order to empty the target.
    #[must_use]
    pub const fn delete(mut self, delete: bool) -> Self {
        self.delete = delete;
        self
    }

    /// Reads and reports, and writes and deletes nothing.
    #[must_use]
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

/// The result of a copy. With [`CopyOptions::dry_run`], what the result would be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyReport {
    /// Entries written to the target.
    pub copied: u64,
    /// Bytes of values written to the target.
    pub bytes: u64,
    /// Entries that a resumed copy found in the target already.
    pub unchanged: u64,
    /// Entries that a resumed copy found in the target with another value or time to live, and did
    /// not overwrite; each was reported as [`Event::Kept`].
    pub kept: u64,
    /// Entries that expired between being read and being written.
    pub expired: u64,
    /// Entries of the target that were deleted; each was reported as [`Event::Deleted`].
    pub deleted: u64,
    /// Entries that could not be read, written or deleted; each was reported as [`Event::Failed`].
    pub failed: u64,
}

/// What happens while a copy runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A batch is done; this is the report so far.
    Progress(&'a CopyReport),
    /// An entry was not copied or not deleted. The copy goes on.
    Failed {
        /// Its key, unless reading the entry failed before the key was known.
        key: Option<&'a Key>,
        /// Why.
        error: &'a Error,
    },
    /// The target holds an entry under this key with another value or time to live, and a resumed
    /// copy does not overwrite it.
    Kept(&'a Key),
    /// The source does not have this entry of the target, and it was deleted (in a dry run: it would
    /// be).
    Deleted(&'a Key),
    /// Entries failed, so no entry of the target was deleted.
    NothingDeleted,
}

/// Copies the entries of `from` to `to`, and calls `event` on the way. An entry of `to` under the same
/// key is overwritten, unless the copy is [resumed](CopyOptions::resume). An entry keeps the time to
/// live that it has left. Entries of `to` under other keys stay, unless they are to be
/// [deleted](CopyOptions::delete).
///
/// An entry that fails by itself (damaged in the source, refused by the target) is reported and
/// counted, and the copy goes on.
///
/// If one store is a part of the other one (by their [locations](Store::location)), the copy lists all keys of
/// the source before the first write, and holds them in memory. Entries of the target are not copied, and no
/// entry of the source is overwritten or deleted.
///
/// # Errors
///
/// Any error that the next entry would meet too: a store cannot be reached, has no listing, is full.
/// [`ErrorKind::InvalidConfig`] if the two are the same store, or if entries are to be deleted and the source
/// has none or the stores do not tell whether they are the same. The entries
/// copied until then stay; a later call with [`CopyOptions::resume`] copies the rest.
pub async fn copy(
    from: &Store,
    to: &Store,
    options: &CopyOptions,
    event: impl FnMut(Event<'_>) + Send,
) -> Result<CopyReport> {
    if options.delete && !to.info().listing {
        return Err(Error::unsupported().with_adapter(to.info().name).with_operation(Operation::List));
    }
    let scope = Scope::between(from, to, &options.prefix).await?;
    match scope.overlap {
        Some(Overlap::Same) => {
            let message = "source and target are the same store; name another target";
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        None if options.delete => {
            let message = "the server does not tell whether source and target are the same store (this user may lack \
                           the right to ask), so nothing was copied or deleted; copy without deleting";
            return Err(Error::new(ErrorKind::InvalidConfig, message));
        }
        _ => {}
    }
    let entries = scope.entries(from);
    let sending = Arc::new(Sending {
        to: to.clone(),
        options: options.clone(),
        comparison: Comparison::between(from, to),
        keeps_expiry: to.info().expiry,
        scope,
    });
    let mut copying = Copying { sending: Arc::clone(&sending), report: CopyReport::default(), event };
    // A key that a listing repeats can have changed in between: its writes take turns.
    let at_once = if from.info().lists_once { batch::AT_ONCE } else { 1 };
    let stopped = &AtomicBool::new(false);
    let mut done = batch::batches(entries)
        .take_while(|_| future::ready(!stopped.load(Ordering::Relaxed)))
        .map(move |(batch, errors)| {
            let sending = Arc::clone(&sending);
            async move { (sending.batch(batch).await, errors) }
        })
        .buffered(at_once);
    let (mut found, mut outcome) = (0, Ok(()));
    // After an error the batches under way are not cut off, so that all entries that arrive are counted.
    while let Some((fates, errors)) = done.next().await {
        found += fates.len() + errors.len();
        outcome = outcome.and(copying.record(fates, errors));
        stopped.store(outcome.is_err(), Ordering::Relaxed);
    }
    outcome?;
    if options.delete {
        if found == 0 {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the source has no entries, so nothing was deleted in the target; check the source, or delete \
                 the entries of the target by themselves",
            ));
        }
        copying.delete_extras(from).await?;
    }
    if !options.dry_run {
        to.flush().await?;
    }
    Ok(copying.report)
}

/// What became of an entry of the source.
enum Fate {
    /// It was written, with as many bytes.
    Copied(u64),
    Unchanged,
    Kept,
    Expired,
    Failed(Error),
}

/// What writes batches, several at once.
struct Sending {
    to: Store,
    options: CopyOptions,
    scope: Scope,
    comparison: Comparison,
    keeps_expiry: bool,
}

impl Sending {
    /// Copies the entries of a batch. Returns what became of each, in their order.
    async fn batch(&self, batch: Vec<Found>) -> Vec<(Key, Fate)> {
        let present = match self.options.resume {
            true => batch::read_target(&self.to, &batch).await,
            false => vec![Ok(None); batch.len()],
        };
        let mut writes = Vec::with_capacity(batch.len());
        let fate = |(found, present): (Found, _)| {
            let fate = match present {
                Ok(Some(there)) => self.beside(&found, &there),
                Err(error) => Fate::Failed(error),
                Ok(None) => match self.write_of(&found) {
                    Ok(write) => {
                        writes.push(write);
                        Fate::Copied(found.record.value.len() as u64)
                    }
                    Err(fate) => fate,
                },
            };
            (found.key, fate)
        };
        let mut fates: Vec<_> = batch.into_iter().zip(present).map(fate).collect();
        let written = self.apply(writes).await;
        let sent = fates.iter_mut().filter(|(_, fate)| matches!(fate, Fate::Copied(_)));
        for ((_, fate), done) in sent.zip(written) {
            match done {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Conflict => *fate = Fate::Kept,
                Err(error) => *fate = Fate::Failed(error),
            }
        }
        fates
    }

    /// What becomes of `found` where the target has an entry under its key, which then stays as it is.
    fn beside(&self, found: &Found, there: &Record) -> Fate {
        let is_equal = self.comparison.equal(&there.value, &found.record.value)
            && (!self.keeps_expiry || close(found.remaining(), Some(batch::ttl(there)), TOLERANCE));
        if is_equal { Fate::Unchanged } else { Fate::Kept }
    }

    /// The write that copies `found`, or what becomes of it without one.
    fn write_of(&self, found: &Found) -> Result<Change, Fate> {
        let error = match found.remaining() {
            None => return Err(Fate::Expired),
            Some(_) if self.scope.is_of_source(&found.key) => Error::new(
                ErrorKind::InvalidKey,
                "under this key the target would overwrite an entry of the source; copy to another place",
            ),
            Some(Expiry::After(_)) if !self.keeps_expiry && !self.options.drop_expiry => Error::new(
                ErrorKind::Unsupported,
                "the entry expires, and the target has no expiry; drop the expiry (`--drop-ttl`, \
                 `CopyOptions::drop_expiry`) to copy it without",
            ),
            Some(left) => {
                let expiry = if self.keeps_expiry { left } else { Expiry::Never };
                let write = Change::put(found.key.clone(), found.record.value.clone(), expiry);
                // A store that has versions decides by itself whether there is an entry.
                let absent = self.options.resume && self.to.info().conditions();
                return Ok(if absent { write.on(Condition::Absent) } else { write });
            }
        };
        Err(Fate::Failed(error.with_adapter(self.to.info().name).with_operation(Operation::Write)))
    }

    /// Applies the changes, unless this is a dry run. Whether each had something to change.
    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<bool>> {
        if self.options.dry_run {
            return changes.iter().map(|_| Ok(true)).collect();
        }
        let applied = self.to.apply(changes).await.into_iter();
        applied.map(|result| result.map(|applied| applied != Applied::Deleted(false))).collect()
    }
}

/// What counts and reports.
struct Copying<E> {
    sending: Arc<Sending>,
    report: CopyReport,
    event: E,
}

impl<E: FnMut(Event<'_>) + Send> Copying<E> {
    /// Takes what became of a batch, and the errors met on the way to it.
    ///
    /// # Errors
    ///
    /// An error that the next entry would meet too.
    fn record(&mut self, fates: Vec<(Key, Fate)>, errors: Vec<Error>) -> Result<()> {
        let mut outcome = Ok(());
        for error in errors {
            if error.concerns_one_entry() {
                self.failed(None, &error);
            } else {
                outcome = outcome.and(Err(error));
            }
        }
        for (key, fate) in fates {
            match fate {
                Fate::Copied(bytes) => {
                    self.report.copied += 1;
                    self.report.bytes += bytes;
                }
                Fate::Unchanged => self.report.unchanged += 1,
                Fate::Kept => {
                    self.report.kept += 1;
                    (self.event)(Event::Kept(&key));
                }
                Fate::Expired => self.report.expired += 1,
                Fate::Failed(error) if stops_everything(&error) => outcome = outcome.and(Err(error)),
                Fate::Failed(error) => self.failed(Some(&key), &error),
            }
        }
        (self.event)(Event::Progress(&self.report));
        outcome
    }

    async fn delete_extras(&mut self, from: &Store) -> Result<()> {
        if self.report.failed > 0 {
            (self.event)(Event::NothingDeleted);
            return Ok(());
        }
        let sending = Arc::clone(&self.sending);
        let mut extras = Extras::new(from, &sending.to, &sending.scope);
        while let Some(extras) = extras.next().await? {
            let mut keys = Vec::with_capacity(extras.len());
            for extra in extras {
                match extra {
                    Extra::Entry(key) => keys.push(key),
                    Extra::Unlisted(error) => self.failed(None, &error),
                }
            }
            let deleted = sending.apply(keys.iter().cloned().map(Change::delete).collect()).await;
            for (key, done) in keys.iter().zip(deleted) {
                match done {
                    Ok(true) => {
                        self.report.deleted += 1;
                        (self.event)(Event::Deleted(key));
                    }
                    // It has expired, or the listing has named it twice.
                    Ok(false) => {}
                    Err(error) if stops_everything(&error) => return Err(error),
                    Err(error) => self.failed(Some(key), &error),
                }
            }
            (self.event)(Event::Progress(&self.report));
        }
        Ok(())
    }

    fn failed(&mut self, key: Option<&Key>, error: &Error) {
        self.report.failed += 1;
        (self.event)(Event::Failed { key, error });
    }
}

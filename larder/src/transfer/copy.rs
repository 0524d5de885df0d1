//! Copies entries.

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

/// The options of [`copy`]. Default: every entry is copied, and nothing is deleted.
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

    /// Continues an interrupted copy: writes only the entries that the target lacks, and never overwrites an
    /// entry. If the target has an entry with another value or time to live, that is reported as
    /// [`Event::Kept`].
    ///
    /// A target with compare-and-swap checks on its own that an entry is absent. Other targets are read first;
    /// an entry that another program writes between that read and the write is overwritten.
    #[must_use]
    pub const fn resume(mut self, resume: bool) -> Self {
        self.resume = resume;
        self
    }

    /// Copies entries that expire into a target without expiry, where they never expire. Otherwise each of them
    /// fails.
    #[must_use]
    pub const fn drop_expiry(mut self, drop_expiry: bool) -> Self {
        self.drop_expiry = drop_expiry;
        self
    }

    /// After copying, deletes the entries of the target that the source lacks. Considers only keys that begin
    /// with the [prefix](CopyOptions::prefix).
    ///
    /// Nothing is deleted if an entry could not be copied, or if the source has no entries: an empty source is
    /// more likely a mistake than a request to empty the target.
    #[must_use]
    pub const fn delete(mut self, delete: bool) -> Self {
        self.delete = delete;
        self
    }

    /// Reads and reports, but writes and deletes nothing.
    #[must_use]
    pub const fn dry_run(mut self, dry_run: bool) -> Self {
        self.dry_run = dry_run;
        self
    }
}

/// The result of a copy. With [`CopyOptions::dry_run`], the result that the copy would have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyReport {
    /// Entries written to the target.
    pub copied: u64,
    /// Bytes of values written to the target.
    pub bytes: u64,
    /// Entries that a resumed copy found in the target, with the same value and time to live.
    pub unchanged: u64,
    /// Entries that a resumed copy found in the target with another value or time to live, and did not
    /// overwrite. Each was reported as [`Event::Kept`].
    pub kept: u64,
    /// Entries that expired between the read and the write.
    pub expired: u64,
    /// Entries of the target that were deleted. Each was reported as [`Event::Deleted`].
    pub deleted: u64,
    /// Entries that could not be read, written or deleted. Each was reported as [`Event::Failed`].
    pub failed: u64,
}

/// An event during a copy.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A batch is done. Contains the report so far.
    Progress(&'a CopyReport),
    /// An entry was not copied or not deleted. The copy continues.
    Failed {
        /// The key of the entry, or `None` if the listing could not read the key.
        key: Option<&'a Key>,
        /// The reason.
        error: &'a Error,
    },
    /// The target has an entry under this key with another value or time to live, which a resumed copy does not
    /// overwrite.
    Kept(&'a Key),
    /// The source lacks this entry of the target, and it was deleted. In a dry run it would be deleted.
    Deleted(&'a Key),
    /// Entries failed, so no entry of the target was deleted.
    NothingDeleted,
}

/// Copies the entries of `from` to `to`, and calls `event` for each [event](Event).
///
/// An entry keeps its remaining time to live. An entry of `to` under the same key is overwritten, unless the copy
/// is [resumed](CopyOptions::resume). Entries of `to` under other keys stay, unless the copy
/// [deletes](CopyOptions::delete) them.
///
/// If only one entry fails (it is damaged in the source, or the target refuses it), the entry is reported and
/// counted, and the copy continues.
///
/// If one store is a part of the other store (by their [locations](Store::location)), the copy lists all keys of
/// the source before the first write, and holds them in memory. Entries of the target are not copied, and no entry
/// of the source is overwritten or deleted.
///
/// # Errors
///
/// Any error that would also affect the next entry: a store cannot be reached, does not list its entries, or is
/// full. [`ErrorKind::InvalidConfig`]
///
/// - if source and target are the same store;
/// - if entries should be deleted, and the source has no entries;
/// - if entries should be deleted, and the stores do not tell whether they are the same.
///
/// After an error the target keeps the entries that were copied. A later call with [`CopyOptions::resume`] copies
/// the rest.
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
            let message = "cannot find out whether source and target are the same store (the user may lack a \
                           permission), so nothing was copied or deleted; copy without deleting";
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
    // A key that a listing repeats can have changed in between, so its writes must not overlap.
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
    // After an error, wait for the batches in flight, to count all entries that arrive.
    while let Some((results, errors)) = done.next().await {
        found += results.len() + errors.len();
        outcome = outcome.and(copying.record(results, errors));
        stopped.store(outcome.is_err(), Ordering::Relaxed);
    }
    outcome?;
    if options.delete {
        if found == 0 {
            return Err(Error::new(
                ErrorKind::InvalidConfig,
                "the source has no entries, so nothing was deleted in the target; check the source, or delete the \
                 entries of the target directly",
            ));
        }
        copying.delete_extras(from).await?;
    }
    if !options.dry_run {
        to.flush().await?;
    }
    Ok(copying.report)
}

/// The result of copying one entry.
enum Copied {
    /// It was written; the number of bytes of its value.
    Written(u64),
    Unchanged,
    Kept,
    Expired,
    Failed(Error),
}

/// Writes batches, several at once.
struct Sending {
    to: Store,
    options: CopyOptions,
    scope: Scope,
    comparison: Comparison,
    keeps_expiry: bool,
}

impl Sending {
    /// Copies the entries of a batch. Returns the result of each, in their order.
    async fn batch(&self, batch: Vec<Found>) -> Vec<(Key, Copied)> {
        let present = match self.options.resume {
            true => batch::read_target(&self.to, &batch).await,
            false => vec![Ok(None); batch.len()],
        };
        let mut writes = Vec::with_capacity(batch.len());
        let result = |(found, present): (Found, _)| {
            let result = match present {
                Ok(Some(there)) => self.existing(&found, &there),
                Err(error) => Copied::Failed(error),
                Ok(None) => match self.write_of(&found) {
                    Ok(write) => {
                        writes.push(write);
                        Copied::Written(found.record.value.len() as u64)
                    }
                    Err(result) => result,
                },
            };
            (found.key, result)
        };
        let mut results: Vec<_> = batch.into_iter().zip(present).map(result).collect();
        let written = self.apply(writes).await;
        let sent = results.iter_mut().filter(|(_, result)| matches!(result, Copied::Written(_)));
        for ((_, result), done) in sent.zip(written) {
            match done {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Conflict => *result = Copied::Kept,
                Err(error) => *result = Copied::Failed(error),
            }
        }
        results
    }

    /// The result for `found` if the target has an entry under its key, which is kept.
    fn existing(&self, found: &Found, there: &Record) -> Copied {
        let is_equal = self.comparison.equal(&there.value, &found.record.value)
            && (!self.keeps_expiry || close(found.remaining(), Some(batch::ttl(there)), TOLERANCE));
        if is_equal { Copied::Unchanged } else { Copied::Kept }
    }

    /// The write that copies `found`, or the result if it is not written.
    fn write_of(&self, found: &Found) -> Result<Change, Copied> {
        let error = match found.remaining() {
            None => return Err(Copied::Expired),
            Some(_) if self.scope.is_of_source(&found.key) => Error::new(
                ErrorKind::InvalidKey,
                "the target would store this entry over an entry of the source; use another target",
            ),
            Some(Expiry::After(_)) if !self.keeps_expiry && !self.options.drop_expiry => Error::new(
                ErrorKind::Unsupported,
                "the entry expires, but the target does not support expiry; to copy it without a time to live, use \
                 `--drop-ttl` (`CopyOptions::drop_expiry`)",
            ),
            Some(left) => {
                let expiry = if self.keeps_expiry { left } else { Expiry::Never };
                let write = Change::put(found.key.clone(), found.record.value.clone(), expiry);
                // A store with versions checks on its own that the entry is absent.
                let absent = self.options.resume && self.to.info().conditions();
                return Ok(if absent { write.on(Condition::Absent) } else { write });
            }
        };
        Err(Copied::Failed(error.with_adapter(self.to.info().name).with_operation(Operation::Write)))
    }

    /// Applies the changes, unless this is a dry run. Returns whether each changed something.
    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<bool>> {
        if self.options.dry_run {
            return changes.iter().map(|_| Ok(true)).collect();
        }
        let applied = self.to.apply(changes).await.into_iter();
        applied.map(|result| result.map(|applied| applied != Applied::Deleted(false))).collect()
    }
}

/// Counts and reports.
struct Copying<E> {
    sending: Arc<Sending>,
    report: CopyReport,
    event: E,
}

impl<E: FnMut(Event<'_>) + Send> Copying<E> {
    /// Counts and reports the results of a batch, and the errors of the listing before it.
    ///
    /// # Errors
    ///
    /// An error that would also affect the next entry.
    fn record(&mut self, results: Vec<(Key, Copied)>, errors: Vec<Error>) -> Result<()> {
        let mut outcome = Ok(());
        for error in errors {
            if error.concerns_one_entry() {
                self.failed(None, &error);
            } else {
                outcome = outcome.and(Err(error));
            }
        }
        for (key, result) in results {
            match result {
                Copied::Written(bytes) => {
                    self.report.copied += 1;
                    self.report.bytes += bytes;
                }
                Copied::Unchanged => self.report.unchanged += 1,
                Copied::Kept => {
                    self.report.kept += 1;
                    (self.event)(Event::Kept(&key));
                }
                Copied::Expired => self.report.expired += 1,
                Copied::Failed(error) if stops_everything(&error) => outcome = outcome.and(Err(error)),
                Copied::Failed(error) => self.failed(Some(&key), &error),
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
                    // The entry has expired, or the listing repeats its key.
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

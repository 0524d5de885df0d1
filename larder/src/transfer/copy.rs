//! Copying.

use larder_core::{
    Action, Applied, Change, Condition, Error, ErrorKind, Expiry, Key, Operation, Overlap, Record, Result,
    Store,
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
    let mut entries = scope.entries(from);
    let mut copying = Copying {
        to,
        options,
        scope: &scope,
        comparison: Comparison::between(from, to),
        keeps_expiry: to.info().expiry,
        report: CopyReport::default(),
        event,
    };
    let mut found = 0;
    while let Some((batch, errors)) = batch::next(&mut entries).await {
        found += batch.len() + errors.len();
        copying.batch(&batch, errors).await?;
    }
    drop(entries);
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

struct Copying<'a, E> {
    to: &'a Store,
    options: &'a CopyOptions,
    scope: &'a Scope,
    comparison: Comparison,
    keeps_expiry: bool,
    report: CopyReport,
    event: E,
}

impl<E: FnMut(Event<'_>) + Send> Copying<'_, E> {
    async fn batch(&mut self, batch: &[Found], errors: Vec<Error>) -> Result<()> {
        for error in errors {
            if !error.concerns_one_entry() {
                return Err(error);
            }
            self.failed(None, &error);
        }
        let mut present = match self.options.resume {
            true => batch::read_target(self.to, batch).await?.into_iter(),
            false => Vec::new().into_iter(),
        };
        let mut writes = Vec::with_capacity(batch.len());
        for found in batch {
            let is_present = present.next().is_some_and(|present| self.is_present(found, present));
            if !is_present {
                writes.extend(self.write_of(found));
            }
        }
        let written = self.write(writes).await;
        (self.event)(Event::Progress(&self.report));
        written
    }

    /// Whether the target has an entry under the key of `found`, which then stays as it is.
    fn is_present(&mut self, found: &Found, present: Result<Option<Record>>) -> bool {
        match present {
            Ok(None) => return false,
            Err(error) => self.failed(Some(&found.key), &error),
            Ok(Some(there)) => {
                let is_equal = self.comparison.equal(&there.value, &found.record.value)
                    && (!self.keeps_expiry || close(found.remaining(), Some(batch::ttl(&there)), TOLERANCE));
                if is_equal {
                    self.report.unchanged += 1;
                } else {
                    self.kept(&found.key);
                }
            }
        }
        true
    }

    /// The write that copies `found`, unless there is a reason not to.
    fn write_of(&mut self, found: &Found) -> Option<Change> {
        let error = match found.remaining() {
            None => {
                self.report.expired += 1;
                return None;
            }
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
                return Some(if absent { write.on(Condition::Absent) } else { write });
            }
        };
        let error = error.with_adapter(self.to.info().name).with_operation(Operation::Write);
        self.failed(Some(&found.key), &error);
        None
    }

    async fn write(&mut self, writes: Vec<Change>) -> Result<()> {
        // What the report needs of a write, which the store takes.
        let sent: Vec<_> = writes.iter().map(|write| (write.key.clone(), length(write))).collect();
        let written = self.apply(writes).await;
        let mut stopped = Ok(());
        for ((key, bytes), done) in sent.iter().zip(written) {
            match done {
                Ok(_) => {
                    self.report.copied += 1;
                    self.report.bytes += bytes;
                }
                Err(error) if error.kind() == ErrorKind::Conflict => self.kept(key),
                Err(error) if stops_everything(&error) => stopped = stopped.and(Err(error)),
                Err(error) => self.failed(Some(key), &error),
            }
        }
        stopped
    }

    /// Applies the changes, unless this is a dry run. Whether each had something to change.
    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<bool>> {
        if self.options.dry_run {
            return changes.iter().map(|_| Ok(true)).collect();
        }
        let applied = self.to.apply(changes).await.into_iter();
        applied.map(|result| result.map(|applied| applied != Applied::Deleted(false))).collect()
    }

    async fn delete_extras(&mut self, from: &Store) -> Result<()> {
        if self.report.failed > 0 {
            (self.event)(Event::NothingDeleted);
            return Ok(());
        }
        let mut extras = Extras::new(from, self.to, self.scope);
        while let Some(extras) = extras.next().await? {
            let mut keys = Vec::with_capacity(extras.len());
            for extra in extras {
                match extra {
                    Extra::Entry(key) => keys.push(key),
                    Extra::Unlisted(error) => self.failed(None, &error),
                }
            }
            let deleted = self.apply(keys.iter().cloned().map(Change::delete).collect()).await;
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

    fn kept(&mut self, key: &Key) {
        self.report.kept += 1;
        (self.event)(Event::Kept(key));
    }

    fn failed(&mut self, key: Option<&Key>, error: &Error) {
        self.report.failed += 1;
        (self.event)(Event::Failed { key, error });
    }
}

/// How many bytes the value of a write has.
fn length(write: &Change) -> u64 {
    match &write.action {
        Action::Put(value, _) => value.len() as u64,
        Action::Delete | Action::Touch(_) => 0,
    }
}

//! Copying.

use futures_util::{StreamExt, stream};
use larder_core::{
    Condition, Error, ErrorKind, Expiry, Failure, Key, Operation, Record, Result, Storage, Write,
};

use super::{
    batch::{self, Extra, Extras, Found, stops_everything},
    equal::{Comparison, TOLERANCE, close},
    scope::{Nesting, Scope},
};

/// How many conditional writes a resumed copy has under way.
const WRITES: usize = 64;

/// What [`copy`] does, and what it leaves alone.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CopyOptions {
    scope: Scope,
    resume: bool,
    drop_expiry: bool,
    delete: bool,
    dry_run: bool,
}

impl CopyOptions {
    /// Copies only the keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.scope.prefix = prefix.into();
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

    /// Says how the two stores share one key space.
    ///
    /// The copy then lists all keys of the source before the first write, and holds them in memory.
    /// Entries of the target are not copied, and no entry of the source is overwritten or deleted.
    #[must_use]
    pub fn nesting(mut self, nesting: impl Into<Option<Nesting>>) -> Self {
        self.scope.nesting = nesting.into();
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
/// The two must be different stores. If they share a key space, say so with [`CopyOptions::nesting`]:
/// otherwise the listing of the source may meet what the copy writes.
///
/// # Errors
///
/// Any error that the next entry would meet too: a store cannot be reached, has no listing, is full.
/// [`ErrorKind::InvalidConfig`] if entries are to be deleted and the source has none. The entries
/// copied until then stay; a later call with [`CopyOptions::resume`] copies the rest.
pub async fn copy(
    from: &dyn Storage,
    to: &dyn Storage,
    options: &CopyOptions,
    event: impl FnMut(Event<'_>) + Send,
) -> Result<CopyReport> {
    if options.delete && !to.capabilities().listing {
        return Err(Error::unsupported().with_adapter(to.name()).with_operation(Operation::Keys));
    }
    let mut copying = Copying {
        to,
        options,
        comparison: Comparison::between(from, to),
        keeps_expiry: to.capabilities().expiry,
        report: CopyReport::default(),
        event,
    };
    let mut entries = options.scope.entries(from);
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
    to: &'a dyn Storage,
    options: &'a CopyOptions,
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
        let mut present = if self.options.resume {
            batch::read_each(self.to, &batch::keys(batch)).await?.into_iter()
        } else {
            Vec::new().into_iter()
        };
        let mut writes = Vec::with_capacity(batch.len());
        for found in batch {
            if let Some(present) = present.next()
                && self.is_present(found, present).await?
            {
                continue;
            }
            writes.extend(self.write_of(found));
        }
        if self.options.dry_run {
            writes.iter().for_each(|write| self.copied(write));
        } else if self.options.resume && self.to.capabilities().compare_and_swap() {
            self.write_absent(writes).await?;
        } else {
            self.write(&writes).await?;
        }
        (self.event)(Event::Progress(&self.report));
        Ok(())
    }

    /// Whether the target has an entry under the key of `found`, which then stays as it is.
    async fn is_present(&mut self, found: &Found, present: Result<Option<Record>>) -> Result<bool> {
        let key = &found.entry().key;
        match present {
            Ok(None) => return Ok(false),
            Err(error) => self.failed(Some(key), &error),
            Ok(Some(there)) => {
                if self.comparison.equal(&there.value, &found.entry().record.value)
                    && (!self.keeps_expiry || close(found.remaining(), self.to.ttl(key).await?, TOLERANCE))
                {
                    self.report.unchanged += 1;
                } else {
                    self.kept(key);
                }
            }
        }
        Ok(true)
    }

    /// The write that copies `found`, unless there is a reason not to.
    fn write_of(&mut self, found: &Found) -> Option<Write> {
        let entry = found.entry();
        let error = match found.remaining() {
            None => {
                self.report.expired += 1;
                return None;
            }
            Some(_) if self.options.scope.is_of_source(&entry.key) => Error::new(
                ErrorKind::InvalidKey,
                "under this key the target would overwrite an entry of the source; copy to another place",
            ),
            Some(Expiry::After(_)) if !self.keeps_expiry && !self.options.drop_expiry => Error::new(
                ErrorKind::Unsupported,
                "the entry expires, and the target has no expiry; drop the expiry (`--drop-ttl`, \
                 `CopyOptions::drop_expiry`) to copy it all the same",
            ),
            Some(left) => {
                let expiry = if self.keeps_expiry { left } else { Expiry::Never };
                return Some(Write::new(entry.key.clone(), entry.record.value.clone(), expiry));
            }
        };
        let error = error.with_adapter(self.to.name()).with_operation(Operation::Write);
        self.failed(Some(&entry.key), &error);
        None
    }

    /// Writes each entry if the target has none under its key.
    async fn write_absent(&mut self, writes: Vec<Write>) -> Result<()> {
        let to = self.to;
        let mut written = stream::iter(writes)
            .map(|write| async move {
                let done =
                    to.write_if(&write.key, write.value.clone(), write.expiry, Condition::Absent).await;
                (write, done)
            })
            .buffer_unordered(WRITES);
        while let Some((write, done)) = written.next().await {
            match done {
                Ok(_) => self.copied(&write),
                Err(error) if error.kind() == ErrorKind::Conflict => self.kept(&write.key),
                Err(error) if stops_everything(error.kind()) => return Err(error),
                Err(error) => self.failed(Some(&write.key), &error),
            }
        }
        Ok(())
    }

    async fn write(&mut self, writes: &[Write]) -> Result<()> {
        let mut failed = Vec::new();
        match self.to.write_many(writes).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Partial => failed = error.into_failures(),
            // Refused as a whole, perhaps for the sake of one entry: find out which.
            Err(error) if !stops_everything(error.kind()) => {
                for (index, write) in writes.iter().enumerate() {
                    if let Err(error) = self.to.write(&write.key, write.value.clone(), write.expiry).await {
                        failed.push(Failure::new(index, error));
                    }
                }
            }
            Err(error) => return Err(error),
        }
        let mut refused = vec![false; writes.len()];
        for failure in failed {
            let key = writes.get(failure.index).map(|write| &write.key);
            if let Some(refused) = refused.get_mut(failure.index) {
                *refused = true;
            }
            if stops_everything(failure.error.kind()) {
                return Err(failure.error);
            }
            self.failed(key, &failure.error);
        }
        for (write, _) in writes.iter().zip(refused).filter(|(_, refused)| !refused) {
            self.copied(write);
        }
        Ok(())
    }

    async fn delete_extras(&mut self, from: &dyn Storage) -> Result<()> {
        if self.report.failed > 0 {
            (self.event)(Event::NothingDeleted);
            return Ok(());
        }
        let mut extras = Extras::new(from, self.to, &self.options.scope);
        while let Some(extras) = extras.next().await? {
            let mut keys = Vec::with_capacity(extras.len());
            for extra in extras {
                match extra {
                    Extra::Entry(key) => keys.push(key),
                    Extra::Unlisted(error) => self.failed(None, &error),
                }
            }
            let failures = match self.options.dry_run {
                true => Vec::new(),
                false => match self.to.delete_many(&keys).await {
                    Ok(_) => Vec::new(),
                    Err(error) if error.kind() == ErrorKind::Partial => error.into_failures(),
                    Err(error) => return Err(error),
                },
            };
            let mut failures = failures.into_iter().peekable();
            for (index, key) in keys.iter().enumerate() {
                match failures.next_if(|failure| failure.index == index) {
                    Some(failure) => self.failed(Some(key), &failure.error),
                    None => {
                        self.report.deleted += 1;
                        (self.event)(Event::Deleted(key));
                    }
                }
            }
            (self.event)(Event::Progress(&self.report));
        }
        Ok(())
    }

    fn copied(&mut self, write: &Write) {
        self.report.copied += 1;
        self.report.bytes += write.value.len() as u64;
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

//! Copying.

use std::time::Duration;

use futures_util::StreamExt;
use larder_core::{Error, ErrorKind, Expiry, Failure, Key, Operation, Result, Storage, Write};

use super::{
    batch::{self, is_of_one_entry, stops_everything},
    equal::{Comparison, close},
};

/// A resumed copy takes times to live that differ by no more than this for the same.
const EXPIRY_TOLERANCE: Duration = Duration::from_secs(5);

/// What [`copy`] does, and what it leaves alone.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct CopyOptions {
    prefix: String,
    resume: bool,
    drop_expiry: bool,
}

impl CopyOptions {
    /// Copies only the keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Takes up a copy that was cut off: reads the target first and does not write an entry that is
    /// there already with the same value and time to live. What has changed since is written.
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
}

/// What a copy came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CopyReport {
    /// Entries written to the target.
    pub copied: u64,
    /// Bytes of values written to the target.
    pub bytes: u64,
    /// Entries that a resumed copy found in the target already.
    pub unchanged: u64,
    /// Entries whose time ran out between being read and being written.
    pub expired: u64,
    /// Entries that could not be read or written; each was reported as [`Event::Failed`].
    pub failed: u64,
}

/// What happens while a copy runs.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A batch is done; this is the report so far.
    Progress(&'a CopyReport),
    /// An entry was not copied. The copy goes on.
    Failed {
        /// Its key, unless reading the entry failed before the key was known.
        key: Option<&'a Key>,
        /// Why.
        error: &'a Error,
    },
}

/// Copies the entries of `from` to `to`, over what is there under their keys, and calls `event` on
/// the way. An entry keeps the time to live that it has left. Entries of `to` under other keys stay.
///
/// An entry that fails by itself (damaged in the source, refused by the target) is reported and
/// counted, and the copy goes on.
///
/// # Errors
///
/// What makes going on pointless: a store that cannot be reached, has no listing, is full. What was
/// copied until then stays; a later call with [`CopyOptions::resume`] takes it up.
pub async fn copy(
    from: &dyn Storage,
    to: &dyn Storage,
    options: &CopyOptions,
    mut event: impl FnMut(Event<'_>) + Send,
) -> Result<CopyReport> {
    let comparison = Comparison::between(from, to);
    let keeps_expiry = to.capabilities().expiry;
    let mut report = CopyReport::default();
    let mut entries = from.entries(&options.prefix).fuse();
    while let Some((batch, errors)) = batch::next(&mut entries).await {
        for error in errors {
            if !is_of_one_entry(error.kind()) {
                return Err(error);
            }
            report.failed += 1;
            event(Event::Failed { key: None, error: &error });
        }
        let present = if options.resume { batch::counterparts(to, &batch).await? } else { Vec::new() };
        let mut writes = Vec::with_capacity(batch.len());
        for (index, found) in batch.iter().enumerate() {
            let entry = found.entry();
            // What is damaged there is written anew.
            if let Some(Ok(Some(there))) = present.get(index)
                && comparison.equal(&there.value, &entry.record.value)
                && (!keeps_expiry || close(found.remaining(), to.ttl(&entry.key).await?, EXPIRY_TOLERANCE))
            {
                report.unchanged += 1;
                continue;
            }
            match found.remaining() {
                None => report.expired += 1,
                Some(Expiry::After(_)) if !keeps_expiry && !options.drop_expiry => {
                    let error = Error::new(
                        ErrorKind::Unsupported,
                        "the entry expires, and the target has no expiry; drop the expiry to copy it all the same",
                    )
                    .with_adapter(to.name())
                    .with_operation(Operation::Write);
                    report.failed += 1;
                    event(Event::Failed { key: Some(&entry.key), error: &error });
                }
                Some(left) => {
                    let expiry = if keeps_expiry { left } else { Expiry::Never };
                    writes.push(Write::new(entry.key.clone(), entry.record.value.clone(), expiry));
                }
            }
        }
        write(to, &writes, &mut report, &mut event).await?;
        event(Event::Progress(&report));
    }
    drop(entries);
    to.flush().await?;
    Ok(report)
}

async fn write(
    to: &dyn Storage,
    writes: &[Write],
    report: &mut CopyReport,
    event: &mut (impl FnMut(Event<'_>) + Send),
) -> Result<()> {
    let mut failed = Vec::new();
    match to.write_many(writes).await {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::Partial => failed = error.into_failures(),
        // Refused as a whole, perhaps for the sake of one entry: find out which.
        Err(error) if !stops_everything(error.kind()) => {
            for (index, write) in writes.iter().enumerate() {
                if let Err(error) = to.write(&write.key, write.value.clone(), write.expiry).await {
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
        report.failed += 1;
        event(Event::Failed { key, error: &failure.error });
    }
    for (write, _) in writes.iter().zip(refused).filter(|(_, refused)| !refused) {
        report.copied += 1;
        report.bytes += write.value.len() as u64;
    }
    Ok(())
}

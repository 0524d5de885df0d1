//! Comparing two stores.

use std::time::Duration;

use futures_util::StreamExt;
use larder_core::{Error, Key, Result, Storage};

use super::{
    batch::{self, is_of_one_entry},
    equal::{Comparison, close},
};

/// What a verification came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Entries of the source that the target has too, with the same value and time to live.
    pub equal: u64,
    /// Entries that differ; each was reported.
    pub different: u64,
    /// Entries of the source that could not be read; each was reported.
    pub failed: u64,
}

/// How an entry of the source differs in the target.
#[derive(Debug)]
#[non_exhaustive]
pub enum Difference<'a> {
    /// The target has no entry under the key.
    Missing(&'a Key),
    /// The values differ.
    Value(&'a Key),
    /// The times to live differ by more than the tolerance.
    Expiry(&'a Key),
    /// The target's entry could not be read.
    Damaged(&'a Key, &'a Error),
    /// An entry of the source could not be read.
    Failed(&'a Error),
}

/// Reads every entry of `from` whose key begins with `prefix` and the one under the same key in
/// `to`, and reports what differs.
///
/// Values are compared byte for byte, or as JSON where one of the stores keeps JSON in a form of its
/// own. Times to live may differ by `tolerance` (clocks of two servers, and the time between two
/// reads); they are not compared if `to` has no expiry. A store that is written meanwhile shows
/// differences that are none.
///
/// # Errors
///
/// As [`Storage::entries`] and [`Storage::read_many`], but for entries that fail alone.
pub async fn verify(
    from: &dyn Storage,
    to: &dyn Storage,
    prefix: &str,
    tolerance: Duration,
    mut difference: impl FnMut(Difference<'_>) + Send,
) -> Result<VerifyReport> {
    let comparison = Comparison::between(from, to);
    let keeps_expiry = to.capabilities().expiry;
    let mut report = VerifyReport::default();
    let mut entries = from.entries(prefix).fuse();
    while let Some((batch, errors)) = batch::next(&mut entries).await {
        for error in errors {
            if !is_of_one_entry(error.kind()) {
                return Err(error);
            }
            report.failed += 1;
            difference(Difference::Failed(&error));
        }
        let records = batch::counterparts(to, &batch).await?;
        for (found, record) in batch.iter().zip(&records) {
            let (key, value) = (&found.entry().key, &found.entry().record.value);
            let found_difference = match record {
                Err(error) => Some(Difference::Damaged(key, error)),
                // What has expired on both sides is equal.
                Ok(None) if found.remaining().is_none() => None,
                Ok(None) => Some(Difference::Missing(key)),
                Ok(Some(record)) if !comparison.equal(&record.value, value) => Some(Difference::Value(key)),
                Ok(Some(_)) if keeps_expiry => {
                    let there = to.ttl(key).await?;
                    (!close(found.remaining(), there, tolerance)).then_some(Difference::Expiry(key))
                }
                Ok(Some(_)) => None,
            };
            match found_difference {
                None => report.equal += 1,
                Some(found) => {
                    report.different += 1;
                    difference(found);
                }
            }
        }
    }
    Ok(report)
}

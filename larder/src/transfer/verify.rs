//! Comparing two stores.

use std::time::Duration;

use larder_core::{Error, Key, Result, Store};

use super::{
    batch::{self, Extra, Extras},
    equal::{Comparison, TOLERANCE, close},
    scope::Scope,
};

/// What [`verify`] compares.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifyOptions {
    prefix: String,
    tolerance: Duration,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self { prefix: String::new(), tolerance: TOLERANCE }
    }
}

impl VerifyOptions {
    /// Compares only the keys that begin with `prefix`.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Lets times to live differ by `tolerance`, for the clocks of two servers and the time between
    /// two reads. Five seconds if this is not called.
    #[must_use]
    pub const fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }
}

/// The result of a verification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Entries of the source that the target has too, with the same value and time to live.
    pub equal: u64,
    /// Entries of the source that are missing in the target or differ there; each was reported.
    pub different: u64,
    /// Entries of the target that the source does not have; each was reported.
    pub extra: u64,
    /// Entries of either store that could not be listed or read; each was reported.
    pub failed: u64,
}

impl VerifyReport {
    /// Whether both stores hold the same entries, and every entry could be read.
    #[must_use]
    pub const fn is_equal(&self) -> bool {
        self.different == 0 && self.extra == 0 && self.failed == 0
    }
}

/// One difference between source and target.
#[derive(Debug)]
#[non_exhaustive]
pub enum Difference<'a> {
    /// The target has no entry under the key.
    Missing(&'a Key),
    /// The target has an entry under the key, and the source has none.
    Extra(&'a Key),
    /// The values differ.
    Value(&'a Key),
    /// The times to live differ by more than the tolerance.
    Expiry(&'a Key),
    /// The target's entry could not be read.
    Damaged(&'a Key, &'a Error),
    /// An entry of the source could not be read.
    Failed(&'a Error),
    /// An entry of the target has a name that is not a key, or could not be listed.
    Unlisted(&'a Error),
}

/// Reads every entry of `from` and the entry under the same key in `to`, looks for entries of `to`
/// that `from` does not have, and reports each difference.
///
/// Values are compared byte for byte, or as JSON where one of the stores keeps JSON in a form of its
/// own. Times to live are not compared if `to` has no expiry. Extra entries are not looked for if `to`
/// has no listing. If a store is written at the same time, the report may name differences that are gone.
///
/// # Errors
///
/// As [`Store::entries`] and [`Store::read_many`], except that an entry that fails alone is only
/// reported.
pub async fn verify(
    from: &Store,
    to: &Store,
    options: &VerifyOptions,
    mut difference: impl FnMut(Difference<'_>) + Send,
) -> Result<VerifyReport> {
    let comparison = Comparison::between(from, to);
    let info = to.info();
    let mut report = VerifyReport::default();
    let scope = Scope::between(from, to, &options.prefix).await?;
    let mut entries = scope.entries(from);
    while let Some((batch, errors)) = batch::next(&mut entries).await {
        for error in errors {
            if !error.concerns_one_entry() {
                return Err(error);
            }
            report.failed += 1;
            difference(Difference::Failed(&error));
        }
        let records = batch::read_target(to, &batch).await?;
        for (found, record) in batch.iter().zip(&records) {
            let (key, value) = (&found.key, &found.record.value);
            let found_difference = match record {
                Err(error) => Some(Difference::Damaged(key, error)),
                // An entry that has expired on both sides is equal.
                Ok(None) if found.remaining().is_none() => None,
                Ok(None) => Some(Difference::Missing(key)),
                Ok(Some(record)) if !comparison.equal(&record.value, value) => Some(Difference::Value(key)),
                Ok(Some(record)) if info.expiry => {
                    let there = Some(batch::ttl(record));
                    (!close(found.remaining(), there, options.tolerance)).then_some(Difference::Expiry(key))
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
    if info.listing {
        let mut extras = Extras::new(from, to, &scope);
        while let Some(extras) = extras.next().await? {
            for extra in extras {
                match extra {
                    Extra::Entry(key) => {
                        report.extra += 1;
                        difference(Difference::Extra(&key));
                    }
                    Extra::Unlisted(error) => {
                        report.failed += 1;
                        difference(Difference::Unlisted(&error));
                    }
                }
            }
        }
    }
    Ok(report)
}

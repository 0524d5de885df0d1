//! Compares two stores.

use std::{cmp::Ordering, mem, time::Duration};

use futures_util::{
    StreamExt, future,
    stream::{self, BoxStream},
};
use larder_core::{Error, Key, Overlap, Record, Result, Store};

use super::{
    batch::{self, Extra, Extras, Found, MAX_ENTRIES, check},
    equal::{Comparison, TOLERANCE, close},
    scope::{Scope, with_ttl},
};

/// The options of [`verify`].
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

    /// The greatest difference between two times to live that count as equal. It allows for the clocks of two
    /// servers and for the time between two reads. Default: 5 seconds.
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
    /// Entries that the target has with the same value and time to live.
    pub equal: u64,
    /// Entries of the source that the target lacks or that differ there. Each was reported.
    pub different: u64,
    /// Entries of the target that the source lacks. Each was reported.
    pub extra: u64,
    /// Entries of either store that could not be listed or read. Each was reported.
    pub failed: u64,
}

impl VerifyReport {
    /// Whether both stores have the same entries, and every entry could be read.
    #[must_use]
    pub const fn is_equal(&self) -> bool {
        self.different == 0 && self.extra == 0 && self.failed == 0
    }
}

/// A difference between source and target.
#[derive(Debug)]
#[non_exhaustive]
pub enum Difference<'a> {
    /// The target lacks the entry.
    Missing(&'a Key),
    /// The source lacks the entry.
    Extra(&'a Key),
    /// The values differ.
    Value(&'a Key),
    /// The times to live differ by more than the tolerance.
    Expiry(&'a Key),
    /// The entry of the target could not be read.
    Damaged(&'a Key, &'a Error),
    /// An entry of the source could not be read.
    Failed(&'a Error),
    /// An entry of the target could not be listed, or its name is not a valid key.
    Unlisted(&'a Error),
}

/// Compares the entries of `from` and `to`, and calls `difference` for each difference.
///
/// - Values are compared byte for byte, or as JSON if one of the stores does not keep the text of JSON.
/// - Times to live are compared if `to` has expiry.
/// - Extra entries of `to` are found if `to` lists its entries.
///
/// If both stores list entries in the order of their keys, this reads two listings in parallel. Otherwise it looks up
/// the keys of each store in the other store. If another program writes to a store at the same time, the report may
/// contain differences that no longer exist.
///
/// # Errors
///
/// As [`Store::entries`] and [`Store::read_many`]. An error that concerns only one entry is reported as a difference.
pub async fn verify(
    from: &Store,
    to: &Store,
    options: &VerifyOptions,
    difference: impl FnMut(Difference<'_>) + Send,
) -> Result<VerifyReport> {
    let scope = Scope::between(from, to, &options.prefix).await?;
    let mut verifying = Verifying {
        from,
        to,
        comparison: Comparison::between(from, to),
        tolerance: options.tolerance,
        report: VerifyReport::default(),
        event: difference,
    };
    if from.info().ordered && to.info().ordered && scope.overlap == Some(Overlap::Disjoint) {
        verifying.in_order(&scope.prefix).await?;
    } else {
        verifying.by_keys(&scope).await?;
    }
    Ok(verifying.report)
}

struct Verifying<'a, D> {
    from: &'a Store,
    to: &'a Store,
    comparison: Comparison,
    tolerance: Duration,
    report: VerifyReport,
    event: D,
}

impl<D: FnMut(Difference<'_>) + Send> Verifying<'_, D> {
    /// Reads both listings in parallel. Reads entries that differ once more: they may have changed since, or their
    /// times to live may have decreased while a page of one listing waited for the other listing.
    async fn in_order(&mut self, prefix: &str) -> Result<()> {
        // Each store reads its next page while the entries of this page are compared.
        let ahead = |entries: BoxStream<'static, _>| {
            entries.ready_chunks(MAX_ENTRIES).map(future::ready).buffered(2).flat_map(stream::iter).fuse()
        };
        let (mut source, mut target) = (ahead(self.from.entries(prefix)), ahead(self.to.entries(prefix)));
        let (mut here, mut there) = future::join(source.next(), target.next()).await;
        let mut doubtful = Vec::new();
        loop {
            let order = match (&here, &there) {
                (None, None) => break,
                (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
                (_, Some(Err(_))) | (None, Some(_)) => Ordering::Greater,
                (Some(Ok((here, _))), Some(Ok((there, _)))) => here.cmp(there),
            };
            let one = if order.is_le() { here.take() } else { None };
            let other = if order.is_ge() { there.take() } else { None };
            match (one, other) {
                (Some(Err(error)), _) => self.failed(error)?,
                (_, Some(Err(error))) => self.unlisted(error)?,
                (Some(Ok((key, record))), Some(Ok((_, there)))) => {
                    let found = Found::now(key, record);
                    match self.difference(&found, &there) {
                        None => self.report.equal += 1,
                        Some(_) => doubtful.push(found.key),
                    }
                }
                (Some(Ok((key, _))), None) | (None, Some(Ok((key, _)))) => doubtful.push(key),
                (None, None) => {}
            }
            if doubtful.len() == MAX_ENTRIES {
                self.look_up(mem::take(&mut doubtful)).await?;
            }
            match order {
                Ordering::Less => here = source.next().await,
                Ordering::Greater => there = target.next().await,
                Ordering::Equal => (here, there) = future::join(source.next(), target.next()).await,
            }
        }
        if doubtful.is_empty() { Ok(()) } else { self.look_up(doubtful).await }
    }

    /// Reads the entries of both stores under `keys`, and compares them.
    async fn look_up(&mut self, keys: Vec<Key>) -> Result<()> {
        let (options, others) = (with_ttl(self.from), with_ttl(self.to));
        let (here, there) =
            future::join(self.from.read_many(&keys, &options), self.to.read_many(&keys, &others)).await;
        check(&here)?;
        check(&there)?;
        for ((key, here), there) in keys.into_iter().zip(here).zip(there) {
            match (here, there) {
                (Err(error), _) => self.failed(error)?,
                (Ok(Some(record)), there) => self.compare(&Found::now(key, record), &there),
                // Both stores have deleted it in the meantime.
                (Ok(None), Ok(None)) => {}
                (Ok(None), _) => self.extra(&key),
            }
        }
        Ok(())
    }

    /// Looks up every key of each store in the other store.
    async fn by_keys(&mut self, scope: &Scope) -> Result<()> {
        let to = self.to.clone();
        let mut batches = batch::batches(scope.entries(self.from))
            .map(move |(batch, errors)| {
                let to = to.clone();
                async move { (batch::read_target(&to, &batch).await, batch, errors) }
            })
            .buffered(batch::AT_ONCE);
        while let Some((records, batch, errors)) = batches.next().await {
            errors.into_iter().try_for_each(|error| self.failed(error))?;
            check(&records)?;
            batch.iter().zip(&records).for_each(|(found, there)| self.compare(found, there));
        }
        if !self.to.info().listing {
            return Ok(());
        }
        let mut extras = Extras::new(self.from, self.to, scope);
        while let Some(extras) = extras.next().await? {
            for extra in extras {
                match extra {
                    Extra::Entry(key) => self.extra(&key),
                    Extra::Unlisted(error) => self.unlisted(error)?,
                }
            }
        }
        Ok(())
    }

    /// Compares an entry of the source with the target's entry under the same key, and reports a difference.
    fn compare(&mut self, found: &Found, there: &Result<Option<Record>>) {
        let key = &found.key;
        let difference = match there {
            Err(error) => Some(Difference::Damaged(key, error)),
            // An entry that has expired on both sides is equal.
            Ok(None) if found.remaining().is_none() => None,
            Ok(None) => Some(Difference::Missing(key)),
            Ok(Some(there)) => self.difference(found, there),
        };
        match difference {
            None => self.report.equal += 1,
            Some(difference) => {
                self.report.different += 1;
                (self.event)(difference);
            }
        }
    }

    /// The difference between an entry of the source and the target's entry, which was read just now.
    fn difference<'k>(&self, found: &'k Found, there: &Record) -> Option<Difference<'k>> {
        if !self.comparison.equal(&there.value, &found.record.value) {
            return Some(Difference::Value(&found.key));
        }
        let expires = self.to.info().expiry;
        let differs = expires && !close(found.remaining(), Some(batch::ttl(there)), self.tolerance);
        differs.then_some(Difference::Expiry(&found.key))
    }

    fn extra(&mut self, key: &Key) {
        self.report.extra += 1;
        (self.event)(Difference::Extra(key));
    }

    /// Reports an error of the source's listing, or returns it if it ends the listing.
    fn failed(&mut self, error: Error) -> Result<()> {
        if !error.concerns_one_entry() {
            return Err(error);
        }
        self.report.failed += 1;
        (self.event)(Difference::Failed(&error));
        Ok(())
    }

    /// Reports an error of the target's listing, or returns it if it ends the listing.
    fn unlisted(&mut self, error: Error) -> Result<()> {
        if !error.concerns_one_entry() {
            return Err(error);
        }
        self.report.failed += 1;
        (self.event)(Difference::Unlisted(&error));
        Ok(())
    }
}

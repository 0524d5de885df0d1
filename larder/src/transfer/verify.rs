//! Comparing two stores.

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
/// that `from` does not have, and reports each difference. Where both stores list entries in the order of their
/// keys, it reads two listings side by side; otherwise it looks up the keys of each store in the other one.
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
    /// Reads both listings side by side, each entry once. Where they differ, the entries are read once more: they
    /// may have changed since, or a page of a listing has waited for the other one while times to live ran down.
    async fn in_order(&mut self, prefix: &str) -> Result<()> {
        // Each store is asked for its next page before the entries of this one are compared.
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
                // It is gone from both.
                (Ok(None), Ok(None)) => {}
                (Ok(None), _) => self.extra(&key),
            }
        }
        Ok(())
    }

    /// Looks every key of each store up in the other one.
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

    /// Compares an entry of the source with that under its key in the target, and reports a difference.
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

    /// In what an entry of the source differs from that in the target, which was read just now.
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

    /// Reports an error of the source's listing, unless it ends that.
    fn failed(&mut self, error: Error) -> Result<()> {
        if !error.concerns_one_entry() {
            return Err(error);
        }
        self.report.failed += 1;
        (self.event)(Difference::Failed(&error));
        Ok(())
    }

    /// Reports an error of the target's listing, unless it ends that.
    fn unlisted(&mut self, error: Error) -> Result<()> {
        if !error.concerns_one_entry() {
            return Err(error);
        }
        self.report.failed += 1;
        (self.event)(Difference::Unlisted(&error));
        Ok(())
    }
}

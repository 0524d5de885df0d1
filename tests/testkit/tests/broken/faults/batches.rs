//! Batches whose changes or results are lost, mixed up or wrong.

use larder_core::{
    Action, Applied, Change, Error, ErrorKind, Expiry, Info, Key, ReadOptions, Record, Result, Store, Values,
    Written, async_trait,
};

use crate::{Fault, fault, twist::Twist};

/// Returns a result for an empty list of keys.
struct NothingIsOne;

#[async_trait]
impl Twist for NothingIsOne {
    async fn read_many(
        &self,
        inner: &Store,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Record>>> {
        if keys.is_empty() { vec![Ok(None)] } else { inner.read_many(keys, options).await }
    }
}

/// Reports the changes that `0` selects as done, but does not send them.
struct Loses(fn(&[Change], usize) -> bool);

#[async_trait]
impl Twist for Loses {
    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let mut results = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            results.push(if (self.0)(&changes, index) {
                Ok(done(&change.action))
            } else {
                inner.apply(vec![change.clone()]).await.remove(0)
            });
        }
        results
    }
}

fn done(action: &Action) -> Applied {
    match action {
        Action::Put(..) => Applied::Put(Written::default()),
        Action::Delete => Applied::Deleted(true),
        Action::Touch(_) => Applied::Touched(true),
    }
}

/// Replaces each change by means of the function `0`.
struct Sends(fn(&[Change], Change) -> Change);

#[async_trait]
impl Twist for Sends {
    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let sent = changes.iter().map(|change| (self.0)(&changes, change.clone())).collect();
        inner.apply(sent).await
    }
}

struct Sorts;

#[async_trait]
impl Twist for Sorts {
    async fn read_many(
        &self,
        inner: &Store,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Record>>> {
        let mut keys = keys.to_vec();
        keys.sort();
        inner.read_many(&keys, options).await
    }
}

struct LeavesOutTheMissing;

#[async_trait]
impl Twist for LeavesOutTheMissing {
    async fn read_many(
        &self,
        inner: &Store,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Record>>> {
        let mut records = inner.read_many(keys, options).await;
        records.retain(|record| !matches!(record, Ok(None)));
        records
    }
}

/// Reads each key once, and returns only its first occurrence.
struct AnswersOnce;

#[async_trait]
impl Twist for AnswersOnce {
    async fn read_many(
        &self,
        inner: &Store,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Record>>> {
        let mut records = inner.read_many(keys, options).await;
        for (index, record) in records.iter_mut().enumerate() {
            if keys[..index].contains(&keys[index]) {
                *record = Ok(None);
            }
        }
        records
    }
}

/// Reports that every deletion has found an entry.
struct CountsKeys;

#[async_trait]
impl Twist for CountsKeys {
    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let found = |result| match result {
            Ok(Applied::Deleted(_)) => Ok(Applied::Deleted(true)),
            result => result,
        };
        inner.apply(changes).await.into_iter().map(found).collect()
    }
}

fn is_json(change: &Change) -> bool {
    match &change.action {
        Action::Put(value, _) => serde_json::from_slice::<serde_json::Value>(value).is_ok(),
        _ => true,
    }
}

fn invalid() -> Error {
    Error::new(ErrorKind::InvalidValue, "not JSON")
}

/// Rejects a batch as a whole, although it has stored a part.
struct FailsAsAWhole;

#[async_trait]
impl Twist for FailsAsAWhole {
    fn info(&self, inner: &Store) -> Info {
        inner.info().with_values(Values::JsonText)
    }

    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let count = changes.len();
        let whole = changes.iter().all(is_json);
        let results = inner.apply(changes.into_iter().take_while(is_json).collect()).await;
        if whole { results } else { (0..count).map(|_| Err(invalid())).collect() }
    }
}

/// Reports changes that it has not applied as done.
struct FailsInSilence;

#[async_trait]
impl Twist for FailsInSilence {
    fn info(&self, inner: &Store) -> Info {
        inner.info().with_values(Values::JsonText)
    }

    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        Loses(|changes, index| !is_json(&changes[index])).apply(inner, changes).await
    }
}

fn has_been_put(changes: &[Change], index: usize) -> bool {
    changes[..index].iter().any(|change| change.key == changes[index].key)
}

fn with_one_life(changes: &[Change], change: Change) -> Change {
    let life = changes.iter().find_map(|change| match change.action {
        Action::Put(_, expiry) => Some(expiry),
        _ => None,
    });
    match change.action {
        Action::Put(value, _) => Change::put(change.key, value, life.unwrap_or(Expiry::Never)),
        _ => change,
    }
}

/// Creates entries in a batch, but does not replace them.
struct OnlyInserts;

#[async_trait]
impl Twist for OnlyInserts {
    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let mut results = Vec::new();
        for change in changes {
            let put = matches!(change.action, Action::Put(..));
            results.push(match inner.contains(&change.key).await {
                Ok(true) if put => Ok(done(&change.action)),
                _ => inner.apply(vec![change]).await.remove(0),
            });
        }
        results
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault("returns a result for an empty batch", || NothingIsOne, &["empty_batches_do_nothing"]),
        fault(
            "loses the last change of a batch",
            || Loses(|changes, index| index + 1 == changes.len()),
            &["batches_of_one", "batches_of_a_thousand"],
        ),
        fault(
            "applies only 999 changes of a batch",
            || Loses(|_, index| index >= 999),
            &["batches_of_a_thousand"],
        ),
        fault("returns results in the order of the keys", || Sorts, &["read_many_answers_in_order"]),
        fault("omits missing entries", || LeavesOutTheMissing, &["read_many_answers_in_order"]),
        fault("returns a repeated key once", || AnswersOnce, &["read_many_reads_a_key_twice"]),
        fault(
            "keeps the first of two writes in a batch",
            || Loses(has_been_put),
            &["the_last_write_of_a_key_in_a_batch_wins"],
        ),
        fault(
            "counts keys instead of entries",
            || CountsKeys,
            &["only_the_first_deletion_of_a_key_in_a_batch_finds_it", "batches_of_one"],
        ),
        fault("does not replace entries in a batch", || OnlyInserts, &["batches_change_only_their_keys"]),
        fault(
            "has one time to live for a batch",
            || Sends(with_one_life),
            &["each_write_of_a_batch_has_its_own_time_to_live"],
        ),
        fault("rejects a batch as a whole", || FailsAsAWhole, &["a_batch_reports_each_failed_change"]),
        fault("hides failed changes", || FailsInSilence, &["a_batch_reports_each_failed_change"]),
    ]
}

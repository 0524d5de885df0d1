//! Batches that ignore conditions or the order of changes.

use larder_core::{Action, Applied, Change, Condition, Result, Store, Version, Written, async_trait};

use crate::{Fault, fault, twist::Twist};

/// Applies each change, even if its condition does not hold.
struct ForgetsConditions;

#[async_trait]
impl Twist for ForgetsConditions {
    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        inner.apply(changes.into_iter().map(|change| change.on(Condition::Any)).collect()).await
    }
}

/// Sends only the last change of each key, and reports the others as done.
struct SendsTheLastOfEachKey;

#[async_trait]
impl Twist for SendsTheLastOfEachKey {
    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let mut results = Vec::new();
        for (index, change) in changes.iter().enumerate() {
            let superseded = changes[index + 1..].iter().any(|later| later.key == change.key);
            results.push(if superseded {
                Ok(match change.action {
                    Action::Put(..) => Applied::Put(Written::default()),
                    Action::Delete => Applied::Deleted(true),
                    Action::Touch(_) => Applied::Touched(true),
                })
            } else {
                inner.apply(vec![change.clone()]).await.remove(0)
            });
        }
        results
    }
}

/// Applies nothing after the first change that fails.
struct StopsAtTheFirstFailure;

#[async_trait]
impl Twist for StopsAtTheFirstFailure {
    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let mut results: Vec<Result<Applied>> = Vec::new();
        for change in changes {
            results.push(match results.last() {
                Some(Err(error)) => Err(error.clone()),
                _ => inner.apply(vec![change]).await.remove(0),
            });
        }
        results
    }
}

/// Returns versions that it has not stored.
struct InventsVersions;

#[async_trait]
impl Twist for InventsVersions {
    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let invent = |applied| match applied {
            Applied::Put(_) => Applied::Put(Written::at(Version::unique())),
            applied => applied,
        };
        inner.apply(changes).await.into_iter().map(|result| result.map(invent)).collect()
    }
}

/// Applies the touches of a batch after all other changes.
struct TouchesLast;

#[async_trait]
impl Twist for TouchesLast {
    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let mut results: Vec<Option<Result<Applied>>> = changes.iter().map(|_| None).collect();
        for touches in [false, true] {
            for (index, change) in changes.iter().enumerate() {
                if matches!(change.action, Action::Touch(_)) == touches {
                    results[index] = Some(inner.apply(vec![change.clone()]).await.remove(0));
                }
            }
        }
        results.into_iter().flatten().collect()
    }
}

/// Reads the versions of a batch, compares them, and writes later.
struct ComparesFirst;

#[async_trait]
impl Twist for ComparesFirst {
    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let mut results = Vec::new();
        for change in changes {
            let seen = inner.read(&change.key).await.ok().flatten().and_then(|record| record.version);
            if !change.condition.holds(seen.as_ref()) {
                results.push(Err(larder_core::Error::conflict()));
                continue;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            results.push(inner.apply(vec![change.on(Condition::Any)]).await.remove(0));
        }
        results
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault(
            "ignores the conditions of a batch",
            || ForgetsConditions,
            &[
                "each_change_of_a_batch_has_its_own_condition",
                "changes_of_one_key_apply_in_order",
                "touches_in_a_batch_follow_earlier_changes",
                "many_changes_on_conditions_fail_alone",
                "batches_on_one_version_win_once",
            ],
        ),
        fault(
            "sends only the last change of each key",
            || SendsTheLastOfEachKey,
            &["changes_of_one_key_apply_in_order", "touches_in_a_batch_follow_earlier_changes"],
        ),
        fault(
            "stops at the first change that fails",
            || StopsAtTheFirstFailure,
            &[
                "each_change_of_a_batch_has_its_own_condition",
                "many_changes_on_conditions_fail_alone",
                "a_batch_reports_each_failed_change",
            ],
        ),
        fault(
            "invents the versions of a batch",
            || InventsVersions,
            &["reads_return_the_versions_of_a_batch"],
        ),
        fault(
            "touches after all other changes",
            || TouchesLast,
            &["touches_in_a_batch_follow_earlier_changes"],
        ),
        fault("compares before it writes a batch", || ComparesFirst, &["batches_on_one_version_win_once"]),
    ]
}

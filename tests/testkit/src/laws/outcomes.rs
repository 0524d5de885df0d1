//! The outcome of failed changes: applied or not.
//!
//! Each law makes the store unreachable, before a change can be sent or before its answer arrives.

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};
use larder_core::{Action, Change, Error, Expiry, Key, Outcome, ReadOptions, Result};

use super::{
    key,
    stage::{Stage, may_be_repeated},
};
use crate::{Handle, Must, Target, until};

laws![
    changes_that_cannot_be_sent_are_not_applied,
    a_batch_that_cannot_be_sent_fails_change_by_change,
    reads_without_a_store_fail_key_by_key,
    a_change_whose_connection_is_cut_after_it_was_sent_is_unknown,
    a_change_whose_answer_never_comes_is_unknown,
    a_change_whose_answer_is_damaged_is_unknown,
    a_batch_cut_short_reports_no_applied_change_as_not_applied,
    the_rest_of_a_batch_without_an_answer_is_not_applied,
];

/// Returns one change of each kind, each with a different key.
fn changes(handle: &Handle, round: usize) -> Vec<Change> {
    let key = |name: &str| key(&format!("{name}-{round}"));
    let mut changes = vec![
        Change::put(key("put"), handle.value("new"), Expiry::Never),
        Change::delete(key("deleted")),
        Change::put(key("put-too"), handle.value("new"), Expiry::Never),
    ];
    if handle.info().conditions() {
        let put = Change::put(key("created"), handle.value("new"), Expiry::Never);
        changes.push(put.on(larder_core::Condition::Absent));
    }
    if handle.info().expiry {
        changes.push(Change::touch(key("touched"), Expiry::after_secs(3600)));
    }
    changes
}

/// Writes the entries that the deletion and the touch of [`changes`] need.
async fn prepare(handle: &Handle, round: usize) {
    for name in ["deleted", "touched"] {
        handle.put(&key(&format!("{name}-{round}")), &handle.value("old")).await;
    }
}

/// Returns whether the change has been applied.
async fn has_happened(handle: &Handle, change: &Change) -> bool {
    let there = handle.contains(&change.key).await.must("contains");
    match change.action {
        Action::Put(..) => there,
        Action::Delete => !there,
        Action::Touch(_) => handle.ttl(&change.key).await.must("ttl") != Some(Expiry::Never),
    }
}

/// Returns the outcome of an error of an unreachable store.
fn outcome(error: &Error, what: &str) -> Outcome {
    may_be_repeated(error, what);
    error.outcome()
}

/// If all connections are closed and new ones are rejected, the storage soon reports each change as not applied, and
/// does not apply it.
pub async fn changes_that_cannot_be_sent_are_not_applied(target: Target) {
    let Some(stage) = Stage::open(&target).await else { return };
    let changes = changes(&stage.handle, 0);
    prepare(&stage.free, 0).await;
    stage.line.refuse();
    for change in &changes {
        let what = format!("a change ({:?}) that cannot be sent", change.action);
        until(&format!("{what} is reported as not applied"), PATIENCE, || async {
            let error = stage.handle.apply_single(change).await.err().must(&format!("the error of {what}"));
            outcome(&error, &what) == Outcome::NotApplied
        })
        .await;
    }
    stage.line.restore();
    stage.works_on().await;
    for change in &changes {
        let happened = has_happened(&stage.free, change).await;
        assert!(!happened, "a change ({:?}) that could not be sent was applied", change.action);
    }
}

/// The same holds for a batch: each change has an error, and no change is applied.
pub async fn a_batch_that_cannot_be_sent_fails_change_by_change(target: Target) {
    let Some(stage) = Stage::open(&target).await else { return };
    let changes = changes(&stage.handle, 0);
    prepare(&stage.free, 0).await;
    stage.line.refuse();
    until("each change of a batch is reported as not applied", PATIENCE, || async {
        let results = stage.handle.apply(changes.clone()).await;
        assert_eq!(results.len(), changes.len(), "the number of results of a batch that cannot be sent");
        let what = "a change of a batch that cannot be sent";
        let outcomes = results.into_iter().map(|result| {
            let error = result.err().must(&format!("the error of {what}"));
            outcome(&error, what)
        });
        outcomes.filter(|outcome| *outcome == Outcome::NotApplied).count() == changes.len()
    })
    .await;
    stage.line.restore();
    stage.works_on().await;
    for change in &changes {
        let happened = has_happened(&stage.free, change).await;
        assert!(!happened, "a change ({:?}) of a batch that could not be sent was applied", change.action);
    }
}

/// If the store is unreachable, a read returns an error for each key, and never reports an entry as absent.
pub async fn reads_without_a_store_fail_key_by_key(target: Target) {
    let Some(stage) = Stage::open(&target).await else { return };
    let keys: Vec<Key> = (0..5).map(|index| key(&format!("read-{index}"))).collect();
    stage.line.refuse();
    let mut reads = vec![ReadOptions::new()];
    if stage.handle.info().expiry {
        reads.push(ReadOptions::new().with_touch(Expiry::after_secs(3600)));
    }
    for options in reads {
        let results = stage.handle.read_many(&keys, &options).await;
        assert_eq!(results.len(), keys.len(), "the number of results of read_many without a store");
        for result in results {
            let error = result.err().must("the error of read_many without a store");
            may_be_repeated(&error, "read_many without a store");
        }
    }
    let error = stage.handle.read(&keys[0]).await.err().must("the error of a read without a store");
    may_be_repeated(&error, "a read without a store");
    stage.line.restore();
    stage.works_on().await;
}

/// The end of a change that receives no valid answer.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The storage's own timeout.
    Timeout,
    /// A cut of the connection, after the store has applied the change or a part of it.
    Cut,
    /// An answer that no storage can decode.
    Damage,
}

/// How long an adapter may take to notice that its connections are closed.
const PATIENCE: Duration = Duration::from_secs(15);

/// The number of puts at the end of a batch. If an earlier put has failed, they must not all succeed.
const TAIL: usize = 64;

const NOTHING_DISCARDED: &str = "no answer could be discarded";

impl Stage {
    /// Returns the result of `change` if its answers are discarded or damaged. `begun` is ready once the store has
    /// applied the change or a part of it.
    async fn unanswered<T>(
        &self,
        change: impl Future<Output = T>,
        begun: impl Future<Output = ()>,
        end: End,
    ) -> T {
        match end {
            End::Timeout | End::Cut => self.line.swallow(),
            End::Damage => self.line.damage(),
        }
        let (mut change, begun) = (pin!(change), pin!(begun));
        let result = match select(change.as_mut(), begun).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => {
                if end == End::Cut {
                    self.line.cut();
                }
                change.await
            }
        };
        self.line.release().await;
        result
    }
}

/// Sends each kind of change, and discards or damages its answer.
async fn lost_answer(target: Target, end: End) {
    let Some(stage) = Stage::open(&target).await else { return };
    let (count, mut lost) = (changes(&stage.handle, 0).len(), 0);
    for round in 0..count {
        prepare(&stage.free, round).await;
        // Uses the connection, which opens it before its answers are discarded.
        stage.works_on().await;
        let change = &changes(&stage.handle, round)[round];
        let what = format!("a change ({:?}) whose answer is lost", change.action);
        let applied = until(&what, PATIENCE, || has_happened(&stage.free, change));
        let result = stage.unanswered(stage.handle.apply_single(change), applied, end).await;
        // A driver that asks again may find out that the change has been applied.
        if let Err(error) = result {
            lost += 1;
            let outcome = if end == End::Damage { error.outcome() } else { outcome(&error, &what) };
            let applied = has_happened(&stage.free, change).await;
            assert!(
                !applied || outcome == Outcome::Unknown,
                "{what} was applied, but is reported as not applied"
            );
        }
        stage.works_on().await;
    }
    if lost == 0 {
        target.ignore(NOTHING_DISCARDED);
    }
}

/// If the connection is cut after a change was sent and before its answer arrives, the outcome is unknown.
pub async fn a_change_whose_connection_is_cut_after_it_was_sent_is_unknown(target: Target) {
    lost_answer(target, End::Cut).await;
}

/// If the answer to a change does not arrive in time, the outcome is unknown.
pub async fn a_change_whose_answer_never_comes_is_unknown(target: Target) {
    lost_answer(target, End::Timeout).await;
}

/// If the answer to a change arrives damaged, the outcome is unknown.
pub async fn a_change_whose_answer_is_damaged_is_unknown(target: Target) {
    lost_answer(target, End::Damage).await;
}

/// Puts `count` values of `length` bytes in one batch whose answers are discarded. Returns the outcome of each failed
/// put, and whether the put is stored nevertheless.
///
/// A storage may send a batch in parts, in several concurrent sequences. Each sequence must stop at the first failed
/// part. The end of the batch contains the last puts of each sequence, so all of them succeed only if the whole batch
/// does.
async fn unanswered_batch(
    target: &Target,
    count: usize,
    length: usize,
    end: End,
) -> Option<Vec<(Outcome, bool)>> {
    let stage = Stage::open(target).await?;
    stage.works_on().await;
    let keys: Vec<Key> = (0..count).map(|index| key(&format!("cut-{index}"))).collect();
    let value = stage.handle.bulk(length, 1);
    let puts = keys.iter().map(|key| Change::put(key.clone(), value.clone(), Expiry::Never)).collect();
    let begun = until("the batch has begun", PATIENCE, || async {
        stage.free.contains(&keys[0]).await.must("contains")
    });
    let results = stage.unanswered(stage.handle.apply(puts), begun, end).await;
    assert_eq!(results.len(), keys.len(), "the number of results of a batch without an answer");
    let goes_on = results.iter().rev().take(TAIL).all(Result::is_ok);
    let stored = stage.free.read_all(&keys, "read the entries of a batch").await;
    let mut failed = Vec::new();
    for (result, stored) in results.into_iter().zip(stored) {
        match result {
            Ok(_) => assert!(stored.is_some(), "a change of a batch was acknowledged, but is not stored"),
            Err(error) => {
                let outcome = outcome(&error, "a change of a batch without an answer");
                let right = stored.is_none() || outcome == Outcome::Unknown;
                assert!(right, "a change of a batch was applied, but is reported as not applied");
                failed.push((outcome, stored.is_some()));
            }
        }
    }
    assert!(failed.is_empty() || !goes_on, "a batch continued after a part of it received no answer");
    if failed.is_empty() {
        target.ignore(NOTHING_DISCARDED);
    }
    stage.works_on().await;
    Some(failed)
}

/// If the connection is cut in the middle of a large batch, no applied change is reported as not applied, and the
/// storage does not send the rest.
pub async fn a_batch_cut_short_reports_no_applied_change_as_not_applied(target: Target) {
    unanswered_batch(&target, target.count(3000, 500), 1000, End::Cut).await;
}

/// If a batch receives no answer in time, the changes that were not sent yet are never sent, and are reported as not
/// applied.
///
/// The line discards only answers, so every sent change is stored. A change that is not stored was therefore not
/// sent. The case is ignored if the storage sends the whole batch at once.
pub async fn the_rest_of_a_batch_without_an_answer_is_not_applied(target: Target) {
    let count = target.count(3000, 1200);
    let Some(failed) = unanswered_batch(&target, count, 8, End::Timeout).await else { return };
    for (outcome, stored) in &failed {
        let right = *stored || *outcome == Outcome::NotApplied;
        assert!(right, "a change of a batch was not sent, but its outcome is reported as unknown");
    }
    if failed.iter().all(|(_, stored)| *stored) {
        target.ignore("the whole batch was sent at once");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use larder_core::{Store, async_trait};
    use larder_memory::MemoryStorage;

    use super::*;
    use crate::{Factory, Line};

    /// A line that has no effect: every answer arrives.
    struct Ineffective(Store);

    #[async_trait]
    impl Factory for Ineffective {
        async fn open(&self, _: &str) -> Result<Store> {
            Ok(self.0.clone())
        }

        async fn open_over_line(&self, _: &str) -> Result<Option<(Store, Arc<dyn Line>)>> {
            Ok(Some((self.0.clone(), Arc::new(Self(self.0.clone())))))
        }
    }

    #[async_trait]
    impl Line for Ineffective {
        fn hold(&self) {}

        fn held(&self) -> usize {
            0
        }

        fn swallow(&self) {}

        fn damage(&self) {}

        fn cut(&self) {}

        fn refuse(&self) {}

        fn restore(&self) {}

        async fn release(&self) {}
    }

    #[tokio::test]
    async fn laws_are_ignored_if_no_answer_can_be_discarded() {
        for law in [
            "a_change_whose_connection_is_cut_after_it_was_sent_is_unknown",
            "a_change_whose_answer_never_comes_is_unknown",
            "a_change_whose_answer_is_damaged_is_unknown",
            "a_batch_cut_short_reports_no_applied_change_as_not_applied",
            "the_rest_of_a_batch_without_an_answer_is_not_applied",
        ] {
            let target = Target::new(Arc::new(Ineffective(MemoryStorage::new().into())));
            crate::laws::named(law).unwrap().run(target.clone()).await;
            assert_eq!(target.ignored().as_deref(), Some(NOTHING_DISCARDED), "{law}");
        }
    }
}

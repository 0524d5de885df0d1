//! Whether a change that failed has happened.
//!
//! Each law takes the store away: before a change can be sent, or with its answer on the way.

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
    a_batch_cut_short_denies_no_change_that_was_applied,
    the_rest_of_a_batch_without_an_answer_is_not_applied,
];

/// One change of each kind, each under a key of its own.
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

/// Writes what the deletion and the touch of [`changes`] change.
async fn prepare(handle: &Handle, round: usize) {
    for name in ["deleted", "touched"] {
        handle.put(&key(&format!("{name}-{round}")), &handle.value("old")).await;
    }
}

/// Whether the change has happened.
async fn has_happened(handle: &Handle, change: &Change) -> bool {
    let there = handle.contains(&change.key).await.must("contains");
    match change.action {
        Action::Put(..) => there,
        Action::Delete => !there,
        Action::Touch(_) => handle.ttl(&change.key).await.must("ttl") != Some(Expiry::Never),
    }
}

/// The outcome of an error that a store which is away gives.
fn outcome(error: &Error, what: &str) -> Outcome {
    may_be_repeated(error, what);
    error.outcome()
}

/// With its connections closed and new ones refused, a storage says of each change that it was not
/// applied, as soon as it has noticed, and none of them is.
pub async fn changes_that_cannot_be_sent_are_not_applied(target: Target) {
    let Some(stage) = Stage::open(&target).await else { return };
    let changes = changes(&stage.handle, 0);
    prepare(&stage.free, 0).await;
    stage.line.refuse();
    for change in &changes {
        let what = format!("a change ({:?}) that cannot be sent", change.action);
        until(&format!("{what} is reported as not applied"), PATIENCE, || async {
            let error = stage.handle.apply_single(change).await.err().must(&format!("an error of {what}"));
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

/// The same for a batch: each of its changes has an error, and none is applied.
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
            let error = result.err().must(&format!("an error of {what}"));
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

/// Without a store, each key that is read has an error: nothing is reported as absent.
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
            let error = result.err().must("an error of read_many without a store");
            may_be_repeated(&error, "read_many without a store");
        }
    }
    let error = stage.handle.read(&keys[0]).await.err().must("an error of a read without a store");
    may_be_repeated(&error, "a read without a store");
    stage.line.restore();
    stage.works_on().await;
}

/// What ends a change that gets no answer.
#[derive(Clone, Copy, PartialEq)]
enum End {
    /// The storage's own time-out.
    TimeOut,
    /// A cut, once it has been applied or has begun to be.
    Cut,
    /// An answer that no storage can read.
    Damage,
}

/// How long an adapter may take to notice that its connections are closed.
const PATIENCE: Duration = Duration::from_secs(15);

/// How many puts are the end of a batch.
const TAIL: usize = 64;

const NOTHING_KEPT: &str = "no answer could be kept back";

impl Stage {
    /// What `change` returns if its answers are kept back or damaged. `begun` is ready once the store has it.
    async fn unanswered<T>(
        &self,
        change: impl Future<Output = T>,
        begun: impl Future<Output = ()>,
        end: End,
    ) -> T {
        match end {
            End::TimeOut | End::Cut => self.line.swallow(),
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

/// Sends each kind of change, and keeps or damages its answer.
async fn lost_answer(target: Target, end: End) {
    let Some(stage) = Stage::open(&target).await else { return };
    let (count, mut lost) = (changes(&stage.handle, 0).len(), 0);
    for round in 0..count {
        prepare(&stage.free, round).await;
        // With a connection that is used, so that it is open when its answers are kept.
        stage.works_on().await;
        let change = &changes(&stage.handle, round)[round];
        let what = format!("a change ({:?}) whose answer is lost", change.action);
        let applied = until(&what, PATIENCE, || has_happened(&stage.free, change));
        let result = stage.unanswered(stage.handle.apply_single(change), applied, end).await;
        // A driver that asks again may learn that the change has been applied.
        if let Err(error) = result {
            lost += 1;
            let outcome = if end == End::Damage { error.outcome() } else { outcome(&error, &what) };
            let applied = has_happened(&stage.free, change).await;
            assert!(
                !applied || outcome == Outcome::Unknown,
                "{what} was applied, and is reported as not applied"
            );
        }
        stage.works_on().await;
    }
    if lost == 0 {
        target.ignore(NOTHING_KEPT);
    }
}

/// A change that was sent, and whose connection is cut before the answer, has an unknown outcome.
pub async fn a_change_whose_connection_is_cut_after_it_was_sent_is_unknown(target: Target) {
    lost_answer(target, End::Cut).await;
}

/// A change that was sent, and whose answer does not come in time, has an unknown outcome.
pub async fn a_change_whose_answer_never_comes_is_unknown(target: Target) {
    lost_answer(target, End::TimeOut).await;
}

/// A change that was sent, and whose answer arrives damaged, has an unknown outcome.
pub async fn a_change_whose_answer_is_damaged_is_unknown(target: Target) {
    lost_answer(target, End::Damage).await;
}

/// Puts `count` values of `length` bytes in one batch whose answers are kept back. Returns of each put that
/// failed its outcome, and whether it is stored all the same.
///
/// A storage that sends a batch piece by piece stops where a piece fails, in each of the sequences that it
/// sends side by side. So the end of the batch, where each sequence has some of its last puts, succeeds only
/// if all do.
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
    let begun = until("the batch is under way", PATIENCE, || async {
        stage.free.contains(&keys[0]).await.must("contains")
    });
    let results = stage.unanswered(stage.handle.apply(puts), begun, end).await;
    assert_eq!(results.len(), keys.len(), "the number of results of a batch that got no answer");
    let goes_on = results.iter().rev().take(TAIL).all(Result::is_ok);
    let stored = stage.free.read_all(&keys, "read what a batch has written").await;
    let mut failed = Vec::new();
    for (result, stored) in results.into_iter().zip(stored) {
        match result {
            Ok(_) => assert!(stored.is_some(), "a change of a batch was acknowledged and is not there"),
            Err(error) => {
                let outcome = outcome(&error, "a change of a batch that got no answer");
                let right = stored.is_none() || outcome == Outcome::Unknown;
                assert!(right, "a change of a batch was applied, and is reported as not applied");
                failed.push((outcome, stored.is_some()));
            }
        }
    }
    assert!(failed.is_empty() || !goes_on, "a batch went on after a part of it had got no answer");
    if failed.is_empty() {
        target.ignore(NOTHING_KEPT);
    }
    stage.works_on().await;
    Some(failed)
}

/// Of a large batch whose connection is cut in its middle, no change that was applied is reported as not
/// applied, and the storage does not go on with the rest.
pub async fn a_batch_cut_short_denies_no_change_that_was_applied(target: Target) {
    unanswered_batch(&target, target.count(3000, 500), 1000, End::Cut).await;
}

/// Of a batch that gets no answer in time, what was not sent by then is not sent any more, and is reported
/// as not applied.
///
/// What was sent is stored: its answers were kept back, nothing else. So whatever is not stored was not
/// sent. Ignored where a storage sends the whole batch at once.
pub async fn the_rest_of_a_batch_without_an_answer_is_not_applied(target: Target) {
    let count = target.count(3000, 1200);
    let Some(failed) = unanswered_batch(&target, count, 8, End::TimeOut).await else { return };
    for (outcome, stored) in &failed {
        let right = *stored || *outcome == Outcome::NotApplied;
        assert!(right, "a change of a batch was not sent, and its outcome is reported as unknown");
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

    /// A line past which every answer goes.
    struct Loose(Store);

    #[async_trait]
    impl Factory for Loose {
        async fn open(&self, _: &str) -> Result<Store> {
            Ok(self.0.clone())
        }

        async fn open_over_line(&self, _: &str) -> Result<Option<(Store, Arc<dyn Line>)>> {
            Ok(Some((self.0.clone(), Arc::new(Self(self.0.clone())))))
        }
    }

    #[async_trait]
    impl Line for Loose {
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
    async fn a_law_whose_answers_all_come_says_that_it_has_tried_nothing() {
        for law in [
            "a_change_whose_connection_is_cut_after_it_was_sent_is_unknown",
            "a_change_whose_answer_never_comes_is_unknown",
            "a_change_whose_answer_is_damaged_is_unknown",
            "a_batch_cut_short_denies_no_change_that_was_applied",
            "the_rest_of_a_batch_without_an_answer_is_not_applied",
        ] {
            let target = Target::new(Arc::new(Loose(MemoryStorage::new().into())));
            crate::laws::named(law).unwrap().run(target.clone()).await;
            assert_eq!(target.ignored().as_deref(), Some(NOTHING_KEPT), "{law}");
        }
    }
}

//! Whether a change that failed has happened.
//!
//! Each law takes the store away: before a change can be sent, or with its answer on the way.

use futures_util::future::{Either, select};
use larder_core::{Action, Change, Error, Expiry, Key, Outcome, ReadOptions};

use super::{
    key,
    stage::{PATIENCE, Stage, may_be_repeated},
};
use crate::{Handle, Must, Target, until};

laws![
    changes_that_cannot_be_sent_are_not_applied,
    a_batch_that_cannot_be_sent_fails_change_by_change,
    reads_without_a_store_fail_key_by_key,
    a_change_whose_connection_is_cut_after_it_was_sent_is_unknown,
    a_change_whose_answer_never_comes_is_unknown,
    a_change_whose_answer_is_damaged_is_unknown,
    a_batch_cut_short_knows_what_was_not_sent,
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
    let results = stage.handle.read_many(&keys, &ReadOptions::new()).await;
    assert_eq!(results.len(), keys.len(), "the number of results of read_many without a store");
    for result in results {
        let error = result.err().must("an error of read_many without a store");
        may_be_repeated(&error, "read_many without a store");
    }
    let error = stage.handle.read(&keys[0]).await.err().must("an error of a read without a store");
    may_be_repeated(&error, "a read without a store");
    stage.line.restore();
    stage.works_on().await;
}

/// Sends each kind of change, keeps its answer, and ends it: by a cut, or by the storage's own time-out.
async fn lost_answer(target: Target, cut: bool) {
    let Some(stage) = Stage::open(&target).await else { return };
    let count = changes(&stage.handle, 0).len();
    for round in 0..count {
        prepare(&stage.free, round).await;
        // With a connection that is used, so that it is open when its answers are kept.
        stage.works_on().await;
        let change = &changes(&stage.handle, round)[round];
        let what = format!("a change ({:?}) whose answer is lost", change.action);
        stage.line.swallow();
        let mut sent = Box::pin(stage.handle.apply_single(change));
        let applied = until(&what, PATIENCE, || has_happened(&stage.free, change));
        let result = match select(sent.as_mut(), std::pin::pin!(applied)).await {
            Either::Left((result, _)) => result,
            Either::Right(_) => {
                if loss == Loss::Cut {
                    stage.line.cut();
                }
                sent.await
            }
        };
        stage.line.release().await;
        // A driver that asks again may learn that the change has been applied.
        if let Err(error) = result {
            let outcome = if loss == Loss::Damaged { error.outcome() } else { outcome(&error, &what) };
            let applied = has_happened(&stage.free, change).await;
            assert!(
                !applied || outcome == Outcome::Unknown,
                "{what} was applied, and is reported as not applied"
            );
        }
        stage.works_on().await;
    }
}

/// A change that was sent, and whose connection is cut before the answer, has an unknown outcome.
pub async fn a_change_whose_connection_is_cut_after_it_was_sent_is_unknown(target: Target) {
    lost_answer(target, Loss::Cut).await;
}

/// A change that was sent, and whose answer does not come in time, has an unknown outcome.
pub async fn a_change_whose_answer_never_comes_is_unknown(target: Target) {
    lost_answer(target, Loss::Late).await;
}

/// A change that was sent, and whose answer arrives damaged, has an unknown outcome.
pub async fn a_change_whose_answer_is_damaged_is_unknown(target: Target) {
    lost_answer(target, Loss::Damaged).await;
}

/// Of a large batch whose connection is cut in its middle, no change that was applied is reported as not
/// applied.
pub async fn a_batch_cut_short_knows_what_was_not_sent(target: Target) {
    let Some(stage) = Stage::open(&target).await else { return };
    stage.works_on().await;
    let keys: Vec<Key> = (0..target.count(3000, 500)).map(|index| key(&format!("cut-{index}"))).collect();
    let value = stage.handle.bulk(1000, 1);
    let put = |key: &Key| Change::put(key.clone(), value.clone(), Expiry::Never);
    stage.line.swallow();
    let mut batch = Box::pin(stage.handle.apply(keys.iter().map(put).collect()));
    let first = until("the batch is under way", PATIENCE, || async {
        stage.free.contains(&keys[0]).await.must("contains")
    });
    let results = match select(batch.as_mut(), std::pin::pin!(first)).await {
        Either::Left((results, _)) => results,
        Either::Right(_) => {
            stage.line.cut();
            batch.await
        }
    };
    stage.line.release().await;
    assert_eq!(results.len(), keys.len(), "the number of results of a batch that was cut short");
    let stored = stage.free.read_all(&keys, "read what a batch has written").await;
    for (result, stored) in results.into_iter().zip(stored) {
        match result {
            Ok(_) => assert!(stored.is_some(), "a change of a batch was acknowledged and is not there"),
            Err(error) => {
                let outcome = outcome(&error, "a change of a batch that was cut short");
                let right = stored.is_none() || outcome == Outcome::Unknown;
                assert!(right, "a change of a batch was applied, and is reported as not applied");
            }
        }
    }
    stage.works_on().await;
}

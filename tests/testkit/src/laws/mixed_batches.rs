//! Batches of changes of all kinds, each with its own condition.

use std::time::Duration;

use larder_core::{Applied, Change, Condition, ErrorKind, Expiry, Outcome, Result};

use super::{
    conditions::{create, only, version, versioned},
    key, remains_of,
};
use crate::{Handle, Must, Target, claims::Ability, race};

laws![
    each_change_of_a_batch_has_its_own_condition,
    changes_of_one_key_apply_in_order,
    touches_in_a_batch_follow_earlier_changes,
    many_changes_on_conditions_fail_alone,
    reads_return_the_versions_of_a_batch,
    batches_on_one_version_win_once,
];

const HOUR: Duration = Duration::from_secs(3600);

fn put(handle: &Handle, name: &str, text: &str, condition: Condition) -> Change {
    Change::put(key(name), handle.value(text), Expiry::Never).on(condition)
}

fn delete(name: &str, condition: Condition) -> Change {
    Change::delete(key(name)).on(condition)
}

/// The result of a change of a batch, without the version.
#[derive(Debug, PartialEq)]
enum Did {
    Put,
    Deleted(bool),
    Touched(bool),
    Conflict,
}

fn did(result: Result<Applied>) -> Did {
    match result {
        Ok(Applied::Put(_)) => Did::Put,
        Ok(Applied::Deleted(existed)) => Did::Deleted(existed),
        Ok(Applied::Touched(existed)) => Did::Touched(existed),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Conflict, "a change of a batch failed: {error}");
            assert_eq!(error.outcome(), Outcome::NotApplied, "the outcome of a conflict");
            Did::Conflict
        }
    }
}

/// Applies the changes, and compares the results.
async fn applies(handle: &Handle, what: &str, expected: Vec<(Change, Did)>) {
    let (changes, expected): (Vec<_>, Vec<_>) = expected.into_iter().unzip();
    let done: Vec<Did> = handle.apply(changes).await.into_iter().map(did).collect();
    assert_eq!(done, expected, "the results of {what}");
}

/// In a batch of puts and deletions with all conditions, each change succeeds or fails by its own condition. Failed
/// changes have no effect.
pub async fn each_change_of_a_batch_has_its_own_condition(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let names = ["put-any", "put-absent", "put-present", "put-at", "put-stale"];
    let gone = ["delete-any", "delete-absent", "delete-present", "delete-at", "delete-stale"];
    for name in names.iter().chain(&gone) {
        handle.put(&key(name), &handle.value("old")).await;
    }
    let put_at = Condition::At(version(&handle, &key("put-at")).await);
    let delete_at = Condition::At(version(&handle, &key("delete-at")).await);
    let stale = Condition::At(create(&handle, &key("elsewhere"), "elsewhere").await);
    let (any, absent, present) = (Condition::Any, Condition::Absent, Condition::Present);
    let new = |name, condition| put(&handle, name, "new", condition);
    let expected = vec![
        (new("put-any", any.clone()), Did::Put),
        (new("put-absent", absent.clone()), Did::Conflict),
        (delete("delete-absent", absent.clone()), Did::Conflict),
        (new("put-present", present.clone()), Did::Put),
        (delete("missing-1", any.clone()), Did::Deleted(false)),
        (new("put-at", put_at), Did::Put),
        (delete("delete-stale", stale.clone()), Did::Conflict),
        (new("put-stale", stale), Did::Conflict),
        (delete("delete-any", any.clone()), Did::Deleted(true)),
        (new("new-any", any), Did::Put),
        (delete("delete-present", present.clone()), Did::Deleted(true)),
        (new("new-absent", absent.clone()), Did::Put),
        (new("missing-2", present.clone()), Did::Conflict),
        (delete("delete-at", delete_at), Did::Deleted(true)),
        (delete("missing-3", present), Did::Conflict),
        (delete("missing-4", absent), Did::Deleted(false)),
    ];
    applies(&handle, "a batch with conditions", expected).await;
    let old = ["put-absent", "put-stale", "delete-absent", "delete-stale"];
    for name in old {
        handle.holds(&key(name), &handle.value("old"), "read after a conflict in a batch").await;
    }
    for name in ["put-any", "put-present", "put-at", "new-any", "new-absent"] {
        handle.holds(&key(name), &handle.value("new"), "read of an entry that a batch wrote").await;
    }
    let missing = ["missing-1", "missing-2", "missing-3", "missing-4"];
    for name in ["delete-any", "delete-present", "delete-at"].iter().chain(&missing) {
        handle.lacks(&key(name), "read of an absent entry after a batch").await;
    }
}

/// Changes of one key are applied in the order of the batch, even if changes of other keys come between them.
pub async fn changes_of_one_key_apply_in_order(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let seen = Condition::At(create(&handle, &key("at"), "0").await);
    let put = |name, text, condition| put(&handle, name, text, condition);
    let (any, absent, present) = (Condition::Any, Condition::Absent, Condition::Present);
    let expected = vec![
        (put("a", "1", absent.clone()), Did::Put),
        (put("b", "1", any.clone()), Did::Put),
        (put("at", "1", seen.clone()), Did::Put),
        (delete("a", present.clone()), Did::Deleted(true)),
        (put("at", "2", seen.clone()), Did::Conflict),
        (put("b", "2", absent.clone()), Did::Conflict),
        (put("a", "2", present.clone()), Did::Conflict),
        (put("a", "3", absent.clone()), Did::Put),
        (delete("b", any.clone()), Did::Deleted(true)),
        (delete("b", any.clone()), Did::Deleted(false)),
        (delete("at", seen), Did::Conflict),
        (put("b", "3", absent.clone()), Did::Put),
        (put("a", "4", present.clone()), Did::Put),
        (put("c", "1", any.clone()), Did::Put),
        (put("c", "2", any.clone()), Did::Put),
        (delete("c", absent), Did::Conflict),
        (delete("c", present), Did::Deleted(true)),
        (put("at", "3", any), Did::Put),
    ];
    applies(&handle, "a batch that changes keys several times", expected).await;
    for (name, text) in [("a", "4"), ("b", "3"), ("at", "3")] {
        handle
            .holds(&key(name), &handle.value(text), "read of a key that a batch changed several times")
            .await;
    }
    handle.lacks(&key("c"), "read of a key that a batch wrote and deleted").await;
}

/// Touches in a batch see the changes before them, and later changes see the touches.
pub async fn touches_in_a_batch_follow_earlier_changes(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    if !target.claims(&handle, Ability::Expiry).await {
        return;
    }
    let seen = Condition::At(create(&handle, &key("at"), "0").await);
    let kept = Condition::At(create(&handle, &key("kept"), "0").await);
    let put = |name, text, condition| put(&handle, name, text, condition);
    let touch = |name: &str, condition| Change::touch(key(name), Expiry::After(HOUR)).on(condition);
    let (any, present) = (Condition::Any, Condition::Present);
    let expected = vec![
        (touch("new", any.clone()), Did::Touched(false)),
        (touch("new", present.clone()), Did::Conflict),
        (put("new", "1", any.clone()), Did::Put),
        (touch("new", present.clone()), Did::Touched(true)),
        (put("at", "1", seen.clone()), Did::Put),
        (touch("at", seen), Did::Conflict),
        (touch("kept", kept.clone()), Did::Touched(true)),
        // A touch keeps the version.
        (touch("kept", kept.clone()), Did::Touched(true)),
        (put("over", "1", any.clone()), Did::Put),
        (touch("over", any.clone()), Did::Touched(true)),
        (put("over", "2", any.clone()), Did::Put),
        (put("gone", "1", any.clone()), Did::Put),
        (delete("gone", any.clone()), Did::Deleted(true)),
        (touch("gone", any), Did::Touched(false)),
        (touch("gone", present), Did::Conflict),
    ];
    applies(&handle, "a batch with touches", expected).await;
    for (name, touched) in [("new", true), ("at", false), ("kept", true), ("over", false)] {
        let left = handle.ttl(&key(name)).await.must("ttl");
        let right = if touched { remains_of(left, HOUR) } else { left == Some(Expiry::Never) };
        assert!(right, "the ttl of `{name}` after a batch with touches is {left:?}");
    }
    assert_eq!(Condition::At(version(&handle, &key("kept")).await), kept, "a touch changed the version");
    handle.holds(&key("over"), &handle.value("2"), "read of a key that was touched and written").await;
    handle.lacks(&key("gone"), "read of a key that was deleted and touched").await;
}

/// In a batch of many changes of which every third condition does not hold, the other changes are applied.
pub async fn many_changes_on_conditions_fail_alone(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let count = target.count(700, 200);
    let name = |index: usize| format!("many-{index}");
    let puts = (0..count).map(|index| put(&handle, &name(index), "old", Condition::Any)).collect();
    handle.apply_all(puts, "write many entries").await;
    let keys: Vec<_> = (0..count).map(|index| key(&name(index))).collect();
    let versions = handle.read_all(&keys, "read many entries").await.into_iter().map(|record| {
        let record = record.must("read an entry of a batch");
        Condition::At(record.version.must("take the version of a record"))
    });
    let change = |(index, at): (usize, Condition)| match index % 6 {
        0 => (put(&handle, &name(index), "new", Condition::Absent), Did::Conflict),
        1 => (put(&handle, &name(index), "new", at), Did::Put),
        2 => (put(&handle, &name(index), "new", Condition::Present), Did::Put),
        3 => (delete(&name(index), Condition::Absent), Did::Conflict),
        4 => (delete(&name(index), at), Did::Deleted(true)),
        _ => (put(&handle, &name(index), "new", Condition::Any), Did::Put),
    };
    applies(&handle, "a batch of many", versions.enumerate().map(change).collect()).await;
    let found = handle.read_all(&keys, "read many entries").await;
    for (index, record) in found.into_iter().enumerate() {
        let expected = match index % 6 {
            0 | 3 => Some("old"),
            4 => None,
            _ => Some("new"),
        };
        let right = match (&record, expected) {
            (Some(record), Some(text)) => handle.same(&record.value, &handle.value(text)),
            (record, expected) => record.is_none() && expected.is_none(),
        };
        assert!(right, "the entry of change {index} of {count} with its condition is wrong");
    }
}

/// Reads return the versions that a batch has returned, and later changes can use them in conditions.
pub async fn reads_return_the_versions_of_a_batch(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let names = ["any", "absent", "again"];
    let puts = vec![
        put(&handle, "any", "1", Condition::Any),
        put(&handle, "absent", "1", Condition::Absent),
        put(&handle, "again", "1", Condition::Any),
        put(&handle, "again", "2", Condition::Present),
    ];
    let applied = handle.apply_all(puts, "write a batch").await;
    // Of the two puts of `again`, the later one counts.
    let last = [&applied[0], &applied[1], &applied[3]];
    for (name, applied) in names.into_iter().zip(last) {
        let Applied::Put(written) = applied else { panic!("the result of a put is {applied:?}") };
        let written = written.version.clone().must("take the version of an entry that a batch wrote");
        let found = version(&handle, &key(name)).await;
        assert_eq!(found, written, "a batch and the read after it returned different versions of `{name}`");
        let next = put(&handle, name, "next", Condition::At(written));
        handle.apply_all(vec![next], "write at the version that a batch returned").await;
    }
}

/// Of many batches that replace one version at the same time, one wins for each key.
pub async fn batches_on_one_version_win_once(target: Target) {
    let Some(handle) = versioned(&target).await else { return };
    let other = target.open().await;
    let names = ["a", "b", "c"];
    for round in 0..target.count(12, 4) {
        let mut seen = Vec::new();
        for name in names {
            handle.put(&key(name), &handle.value(&format!("start {round}"))).await;
            seen.push(Condition::At(version(&handle, &key(name)).await));
        }
        let outcomes = race(target.count(8, 6), |index| {
            let handle = if index % 2 == 0 { handle.clone() } else { other.clone() };
            let text = format!("round {round} by {index}");
            let changes: Vec<_> = names
                .into_iter()
                .zip(&seen)
                .map(|(name, at)| put(&handle, name, &text, at.clone()))
                .collect();
            async move { handle.apply(changes).await.into_iter().map(did).collect::<Vec<_>>() }
        })
        .await;
        for (place, name) in names.into_iter().enumerate() {
            let winners: Vec<bool> = outcomes.iter().map(|outcome| outcome[place] == Did::Put).collect();
            let winner = only(&winners, "of the batches that replaced one version at the same time");
            let text = handle.value(&format!("round {round} by {winner}"));
            handle.holds(&key(name), &text, "read of an entry that the winning batch wrote").await;
        }
    }
}

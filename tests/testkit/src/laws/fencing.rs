//! Changes that arrive late.
//!
//! Each law holds back what the storage sends, until the change has failed, its connection has been
//! cut, or its future has been dropped. Then a newer change is acknowledged, and what was held back
//! is delivered. It must not take effect.

use futures_util::future::{Either, select};
use larder_core::{Change, Expiry, Key, Result};

use super::{
    key,
    stage::{PATIENCE, Stage, may_be_repeated},
};
use crate::{Must, Target, claims::Ability, must::chain, until};

laws![
    late_write_never_overtakes_newer_write,
    late_delete_never_overtakes_newer_write,
    late_conditional_write_never_overtakes_newer_delete,
    late_touch_never_ends_newer_entry,
    late_batch_never_overtakes_newer_batch,
    late_concurrent_writes_never_overtake_newer_writes,
    write_on_a_cut_connection_never_overtakes_newer_write,
    dropped_write_never_overtakes_newer_write,
];

/// How a change that is held back comes to its end.
enum End {
    /// By the storage's own time-out.
    TimeOut,
    /// Its connection is closed under it.
    Cut,
    /// Its caller does not wait for it.
    Drop,
}

/// `None` where the storage does not claim to be fenced.
async fn stage(target: &Target) -> Option<Stage> {
    if !target.open().await.info().fenced {
        target.ignore("the store does not claim to be fenced");
        return None;
    }
    let stage = Stage::open(target)
        .await
        .must("open a handle over a line (a storage that claims `fenced` needs `Factory::open_over_line`)");
    assert!(stage.handle.info().fenced, "the handle over a line does not claim `fenced`");
    Some(stage)
}

impl Stage {
    /// Holds `late` back until its end, repeats `newer` until it is acknowledged, and delivers what
    /// was held back.
    async fn overtake<L, T, N, U>(&self, late: L, end: End, newer: impl Fn() -> N)
    where
        L: IntoFuture<Output = Result<T>>,
        N: IntoFuture<Output = Result<U>>,
    {
        self.line.hold();
        let sent = until("the change is on its way", PATIENCE, || async { self.line.held() > 0 });
        let mut late = Box::pin(late.into_future());
        let failed = match select(late.as_mut(), std::pin::pin!(sent)).await {
            Either::Left((Ok(_), _)) => {
                panic!("a change that was held back was acknowledged: is the line its only way?")
            }
            Either::Left((Err(error), _)) => {
                // On a busy machine it may have timed out before this law saw it on its way.
                assert!(self.line.held() > 0, "a change failed before it was sent: {}", chain(&error));
                Some(error)
            }
            Either::Right(_) => None,
        };
        match (end, failed) {
            (End::Drop, _) => drop(late),
            (end, failed) => {
                if matches!(end, End::Cut) {
                    self.line.cut();
                }
                let error = match failed {
                    Some(error) => error,
                    None => late.await.err().must("an error of a change that was held back"),
                };
                may_be_repeated(&error, "a change that got no answer");
            }
        }
        self.acknowledge(newer).await;
        self.line.release().await;
    }
}

async fn late_write(target: Target, end: End) {
    let Some(stage) = stage(&target).await else { return };
    let (one, late, newer) = (key("one"), stage.handle.value("late"), stage.handle.value("newer"));
    let write = stage.handle.write(&one, late);
    stage.overtake(write, end, || stage.handle.write(&one, newer.clone())).await;
    stage.free.holds(&one, &newer, "read after a late write arrived").await;
    stage.works_on().await;
}

/// A write that timed out does not overwrite a later one that was acknowledged.
pub async fn late_write_never_overtakes_newer_write(target: Target) {
    late_write(target, End::TimeOut).await;
}

/// The same where the connection was closed with the write on its way.
pub async fn write_on_a_cut_connection_never_overtakes_newer_write(target: Target) {
    late_write(target, End::Cut).await;
}

/// The same where the write's future was dropped.
pub async fn dropped_write_never_overtakes_newer_write(target: Target) {
    late_write(target, End::Drop).await;
}

/// A delete that timed out does not remove what a later write stored.
pub async fn late_delete_never_overtakes_newer_write(target: Target) {
    let Some(stage) = stage(&target).await else { return };
    let (one, older, newer) = (key("one"), stage.handle.value("older"), stage.handle.value("newer"));
    stage.free.put(&one, &older).await;
    stage.overtake(stage.handle.delete(&one), End::TimeOut, || stage.handle.write(&one, newer.clone())).await;
    stage.free.holds(&one, &newer, "read after a late delete arrived").await;
    stage.works_on().await;
}

/// A conditional write that timed out does not bring back what a later delete removed.
pub async fn late_conditional_write_never_overtakes_newer_delete(target: Target) {
    let Some(stage) = stage(&target).await else { return };
    if !target.claims(&stage.handle, Ability::Conditions).await {
        return;
    }
    let (one, late, newer) = (key("one"), stage.handle.value("late"), stage.handle.value("newer"));
    let write = stage.handle.write(&one, late).if_absent();
    let delete = || async {
        stage.handle.write(&one, newer.clone()).await?;
        stage.handle.delete(&one).await
    };
    stage.overtake(write, End::TimeOut, delete).await;
    stage.free.lacks(&one, "read after a late conditional write arrived").await;
    stage.works_on().await;
}

/// A touch that timed out does not shorten the life of what a later write stored.
pub async fn late_touch_never_ends_newer_entry(target: Target) {
    let Some(stage) = stage(&target).await else { return };
    if !target.claims(&stage.handle, Ability::Expiry).await {
        return;
    }
    let (one, older, newer) = (key("one"), stage.handle.value("older"), stage.handle.value("newer"));
    stage.free.put(&one, &older).await;
    let touch = stage.handle.touch(&one, Expiry::after_secs(60));
    stage.overtake(touch, End::TimeOut, || stage.handle.write(&one, newer.clone())).await;
    let left = stage.free.ttl(&one).await.must("ttl after a late touch arrived");
    assert_eq!(left, Some(Expiry::Never), "the expiry after a late touch arrived");
    stage.works_on().await;
}

/// No write of a batch that timed out overwrites a later one that was acknowledged.
pub async fn late_batch_never_overtakes_newer_batch(target: Target) {
    let Some(stage) = stage(&target).await else { return };
    let keys = ["one", "two", "three"].map(key);
    let batch = |text: &'static str| {
        let value = stage.handle.value(text);
        let put = |key: &Key| Change::put(key.clone(), value.clone(), Expiry::Never);
        let puts = keys.iter().map(put).collect();
        async { stage.handle.apply(puts).await.into_iter().try_for_each(|result| result.map(drop)) }
    };
    stage.overtake(batch("late"), End::TimeOut, || batch("newer")).await;
    for key in &keys {
        let newer = stage.handle.value("newer");
        stage.free.holds(key, &newer, "read after a late batch arrived").await;
    }
    stage.works_on().await;
}

/// The same where many tasks write at the same time, which an adapter may send as one.
pub async fn late_concurrent_writes_never_overtake_newer_writes(target: Target) {
    let Some(stage) = stage(&target).await else { return };
    let keys = ["one", "two", "three", "four", "five", "six", "seven", "eight"].map(key);
    let (late, newer) = (stage.handle.value("late"), stage.handle.value("newer"));
    let all = |value: &bytes::Bytes| {
        let writes = keys.iter().map(|key| stage.handle.write(key, value.clone()).into_future());
        futures_util::future::join_all(writes)
    };
    let late = async {
        let outcomes = all(&late).await;
        // Some may have gone over connections that were opened since, which are not held.
        outcomes.into_iter().collect::<Result<Vec<_>>>()
    };
    let newer_writes = || async { all(&newer).await.into_iter().collect::<Result<Vec<_>>>() };
    stage.overtake(late, End::TimeOut, newer_writes).await;
    for key in &keys {
        stage.free.holds(key, &newer, "read after late writes arrived").await;
    }
    stage.works_on().await;
}

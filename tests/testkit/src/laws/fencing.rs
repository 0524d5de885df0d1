//! Changes that arrive late.
//!
//! Each law holds back what the storage sends, until the change has failed, its connection has been
//! cut, or its future has been dropped. Then a newer change is acknowledged, and what was held back
//! is delivered. It must not take effect.

use std::{sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use larder_core::{Change, Error, Expiry, Key, Result};

use super::key;
use crate::{Handle, Line, Must, Target, must::chain, until};

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

/// How long it may take until a newer change is acknowledged.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a change that is held back comes to its end.
enum End {
    /// By the storage's own time-out.
    TimeOut,
    /// Its connection is closed under it.
    Cut,
    /// Its caller does not wait for it.
    Drop,
}

/// A handle whose line can be held, and another on the same data.
struct Stage {
    held: Handle,
    free: Handle,
    line: Arc<dyn Line>,
}

/// `None` where the storage does not claim to be fenced.
async fn stage(target: &Target) -> Option<Stage> {
    let free = target.open().await;
    if !free.info().fenced {
        target.ignore("the store does not claim to be fenced");
        return None;
    }
    let (held, line) = target
        .open_over_line()
        .await
        .must("open a handle over a line (a storage that claims `fenced` needs `Factory::open_over_line`)");
    assert!(held.info().fenced, "the handle over a line does not claim `fenced`");
    let stage = Stage { held, free, line };
    stage.warm_up().await;
    Some(stage)
}

impl Stage {
    /// Opens the connection and prepares what the adapter prepares, so that the change itself is
    /// what is held back.
    async fn warm_up(&self) {
        let (one, value) = (key("warm-up"), self.held.value("x"));
        let put = Change::put(one.clone(), value.clone(), Expiry::Never);
        let info = self.held.info();
        for _ in 0..2 {
            self.held.put(&one, &value).await;
            if info.expiry {
                self.held.touch(&one, Expiry::after_secs(60)).await.must("touch");
            }
            self.held.delete(&one).await.must("delete");
            if info.conditions() {
                self.held.write(&one, value.clone()).if_absent().await.must("conditional write");
            }
            self.held.apply_all(vec![put.clone()], "write in a batch").await;
            self.held.delete_all(std::slice::from_ref(&one), "delete in a batch").await;
        }
    }

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
        match select(late.as_mut(), std::pin::pin!(sent)).await {
            Either::Left((Ok(_), _)) => {
                panic!("a change that was held back was acknowledged: is the line its only way?")
            }
            Either::Left((Err(error), _)) => panic!("a change failed before it was sent: {}", chain(&error)),
            Either::Right(_) => {}
        }
        match end {
            End::TimeOut | End::Cut => {
                if matches!(end, End::Cut) {
                    self.line.cut();
                }
                let error = late.await.err().must("an error of a change that was held back");
                may_be_repeated(&error);
            }
            End::Drop => drop(late),
        }
        self.acknowledge(newer).await;
        self.line.release().await;
    }

    async fn acknowledge<N, U>(&self, newer: impl Fn() -> N)
    where
        N: IntoFuture<Output = Result<U>>,
    {
        until("a newer change is acknowledged", PATIENCE, || async {
            let outcome = newer().await;
            if let Err(error) = &outcome {
                may_be_repeated(error);
            }
            outcome.is_ok()
        })
        .await;
    }

    /// The storage can be used on.
    async fn works_on(&self) {
        let (one, value) = (key("after"), self.held.value("x"));
        self.acknowledge(|| self.held.write(&one, value.clone())).await;
        self.free.holds(&one, &value, "read after a line was held").await;
    }
}

/// A caller who repeats what may be repeated gets through.
fn may_be_repeated(error: &Error) {
    assert!(error.is_retryable(), "a change that got no answer failed as {}: {error}", error.kind());
}

async fn late_write(target: Target, end: End) {
    let Some(stage) = stage(&target).await else { return };
    let (one, late, newer) = (key("one"), stage.held.value("late"), stage.held.value("newer"));
    let write = stage.held.write(&one, late);
    stage.overtake(write, end, || stage.held.write(&one, newer.clone())).await;
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
    let (one, older, newer) = (key("one"), stage.held.value("older"), stage.held.value("newer"));
    stage.held.put(&one, &older).await;
    stage.overtake(stage.held.delete(&one), End::TimeOut, || stage.held.write(&one, newer.clone())).await;
    stage.free.holds(&one, &newer, "read after a late delete arrived").await;
    stage.works_on().await;
}

/// A conditional write that timed out does not bring back what a later delete removed.
pub async fn late_conditional_write_never_overtakes_newer_delete(target: Target) {
    let Some(stage) = stage(&target).await else { return };
    if !stage.held.info().conditions() {
        return;
    }
    let (one, late, newer) = (key("one"), stage.held.value("late"), stage.held.value("newer"));
    let write = stage.held.write(&one, late).if_absent();
    let delete = || async {
        stage.held.write(&one, newer.clone()).await?;
        stage.held.delete(&one).await
    };
    stage.overtake(write, End::TimeOut, delete).await;
    stage.free.lacks(&one, "read after a late conditional write arrived").await;
    stage.works_on().await;
}

/// A touch that timed out does not shorten the life of what a later write stored.
pub async fn late_touch_never_ends_newer_entry(target: Target) {
    let Some(stage) = stage(&target).await else { return };
    if !stage.held.info().expiry {
        return;
    }
    let (one, older, newer) = (key("one"), stage.held.value("older"), stage.held.value("newer"));
    stage.held.put(&one, &older).await;
    let touch = stage.held.touch(&one, Expiry::after_secs(60));
    stage.overtake(touch, End::TimeOut, || stage.held.write(&one, newer.clone())).await;
    let left = stage.free.ttl(&one).await.must("ttl after a late touch arrived");
    assert_eq!(left, Some(Expiry::Never), "the expiry after a late touch arrived");
    stage.works_on().await;
}

/// No write of a batch that timed out overwrites a later one that was acknowledged.
pub async fn late_batch_never_overtakes_newer_batch(target: Target) {
    let Some(stage) = stage(&target).await else { return };
    let keys = ["one", "two", "three"].map(key);
    let batch = |text: &'static str| {
        let value = stage.held.value(text);
        let put = |key: &Key| Change::put(key.clone(), value.clone(), Expiry::Never);
        let puts = keys.iter().map(put).collect();
        async { stage.held.apply(puts).await.into_iter().try_for_each(|result| result.map(drop)) }
    };
    stage.overtake(batch("late"), End::TimeOut, || batch("newer")).await;
    for key in &keys {
        let newer = stage.held.value("newer");
        stage.free.holds(key, &newer, "read after a late batch arrived").await;
    }
    stage.works_on().await;
}

/// The same where many tasks write at the same time, which an adapter may send as one.
pub async fn late_concurrent_writes_never_overtake_newer_writes(target: Target) {
    let Some(stage) = stage(&target).await else { return };
    let keys = ["one", "two", "three", "four", "five", "six", "seven", "eight"].map(key);
    let (late, newer) = (stage.held.value("late"), stage.held.value("newer"));
    let all = |value: &bytes::Bytes| {
        let writes = keys.iter().map(|key| stage.held.write(key, value.clone()).into_future());
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

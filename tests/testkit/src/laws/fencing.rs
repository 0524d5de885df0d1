//! Changes that arrive late.
//!
//! Each law holds a request until the change has failed, its connection was cut, or its future was dropped. Then a
//! newer change is acknowledged, and the held request is delivered. It must not take effect.

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

/// The end of a held change.
enum End {
    /// The storage's own timeout.
    Timeout,
    /// The connection is closed.
    Cut,
    /// The caller drops the future.
    Drop,
}

/// Opens a stage. Returns `None` if the storage does not claim to be fenced.
async fn stage(target: &Target) -> Option<Stage> {
    if !target.open().await.info().fenced {
        target.ignore("the store does not claim to be fenced");
        return None;
    }
    let stage = Stage::open(target).await.must(
        "open a handle over a line (a storage that claims `fenced` requires `Factory::open_over_line`)",
    );
    assert!(stage.handle.info().fenced, "the handle over a line does not claim `fenced`");
    Some(stage)
}

impl Stage {
    /// Holds `late` until its end, repeats `newer` until it is acknowledged, and delivers the held requests.
    async fn overtake<L, T, N, U>(&self, late: L, end: End, newer: impl Fn() -> N)
    where
        L: IntoFuture<Output = Result<T>>,
        N: IntoFuture<Output = Result<U>>,
    {
        self.line.hold();
        let sent = until("the change is sent", PATIENCE, || async { self.line.held() > 0 });
        let mut late = Box::pin(late.into_future());
        let failed = match select(late.as_mut(), std::pin::pin!(sent)).await {
            Either::Left((Ok(_), _)) => {
                panic!("a held change was acknowledged: do all connections use the line?")
            }
            Either::Left((Err(error), _)) => {
                // On a busy machine, the change may time out before this law notices that it was sent.
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
                    None => late.await.err().must("the error of a held change"),
                };
                may_be_repeated(&error, "a change without an answer");
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

/// A write that timed out does not overwrite a later acknowledged write.
pub async fn late_write_never_overtakes_newer_write(target: Target) {
    late_write(target, End::Timeout).await;
}

/// The same holds for a write whose connection was closed after it was sent.
pub async fn write_on_a_cut_connection_never_overtakes_newer_write(target: Target) {
    late_write(target, End::Cut).await;
}

/// The same holds for a write whose future was dropped.
pub async fn dropped_write_never_overtakes_newer_write(target: Target) {
    late_write(target, End::Drop).await;
}

/// A deletion that timed out does not delete the entry of a later write.
pub async fn late_delete_never_overtakes_newer_write(target: Target) {
    let Some(stage) = stage(&target).await else { return };
    let (one, older, newer) = (key("one"), stage.handle.value("older"), stage.handle.value("newer"));
    stage.free.put(&one, &older).await;
    stage.overtake(stage.handle.delete(&one), End::Timeout, || stage.handle.write(&one, newer.clone())).await;
    stage.free.holds(&one, &newer, "read after a late delete arrived").await;
    stage.works_on().await;
}

/// A conditional write that timed out does not restore an entry that a later deletion removed.
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
    stage.overtake(write, End::Timeout, delete).await;
    stage.free.lacks(&one, "read after a late conditional write arrived").await;
    stage.works_on().await;
}

/// A touch that timed out does not change the expiry of an entry that a later write stored.
pub async fn late_touch_never_ends_newer_entry(target: Target) {
    let Some(stage) = stage(&target).await else { return };
    if !target.claims(&stage.handle, Ability::Expiry).await {
        return;
    }
    let (one, older, newer) = (key("one"), stage.handle.value("older"), stage.handle.value("newer"));
    stage.free.put(&one, &older).await;
    let touch = stage.handle.touch(&one, Expiry::after_secs(60));
    stage.overtake(touch, End::Timeout, || stage.handle.write(&one, newer.clone())).await;
    let left = stage.free.ttl(&one).await.must("ttl after a late touch arrived");
    assert_eq!(left, Some(Expiry::Never), "the expiry after a late touch arrived");
    stage.works_on().await;
}

/// No write of a batch that timed out overwrites a later acknowledged write.
pub async fn late_batch_never_overtakes_newer_batch(target: Target) {
    let Some(stage) = stage(&target).await else { return };
    let keys = ["one", "two", "three"].map(key);
    let batch = |text: &'static str| {
        let value = stage.handle.value(text);
        let put = |key: &Key| Change::put(key.clone(), value.clone(), Expiry::Never);
        let puts = keys.iter().map(put).collect();
        async { stage.handle.apply(puts).await.into_iter().try_for_each(|result| result.map(drop)) }
    };
    stage.overtake(batch("late"), End::Timeout, || batch("newer")).await;
    for key in &keys {
        let newer = stage.handle.value("newer");
        stage.free.holds(key, &newer, "read after a late batch arrived").await;
    }
    stage.works_on().await;
}

/// The same holds for concurrent writes of many tasks, which an adapter may send as one request.
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
        // Connections that were opened later are not held, so some of the writes may succeed.
        outcomes.into_iter().collect::<Result<Vec<_>>>()
    };
    let newer_writes = || async { all(&newer).await.into_iter().collect::<Result<Vec<_>>>() };
    stage.overtake(late, End::Timeout, newer_writes).await;
    for key in &keys {
        stage.free.holds(key, &newer, "read after late writes arrived").await;
    }
    stage.works_on().await;
}

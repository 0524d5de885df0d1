//! A handle whose connections a law holds or cuts, and another handle without such a line.

use std::{sync::Arc, time::Duration};

use larder_core::{Change, Error, Expiry, Result};

use super::key;
use crate::{Handle, Line, Target, until};

/// The time limit for the acknowledgement of a newer change.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A handle over a line, and another handle on the same data.
pub(super) struct Stage {
    pub(super) handle: Handle,
    pub(super) free: Handle,
    pub(super) line: Arc<dyn Line>,
}

impl Stage {
    /// Opens both handles. Returns `None` if the factory does not support lines.
    pub(super) async fn open(target: &Target) -> Option<Self> {
        let free = target.open().await;
        let Some((handle, line)) = target.open_over_line().await else {
            target.ignore("the factory has no line that can be cut");
            return None;
        };
        let stage = Self { handle, free, line };
        stage.warm_up().await;
        Some(stage)
    }

    /// Opens the connections and lets the adapter prepare its statements. The line then holds a change itself, not
    /// its preparation.
    async fn warm_up(&self) {
        let (one, value) = (key("warm-up"), self.handle.value("x"));
        let put = Change::put(one.clone(), value.clone(), Expiry::Never);
        let info = self.handle.info();
        // Ignores errors: a slow store may not answer within the short timeouts of such a handle.
        for _ in 0..2 {
            drop(self.handle.write(&one, value.clone()).await);
            if info.expiry {
                drop(self.handle.touch(&one, Expiry::after_secs(60)).await);
            }
            drop(self.handle.delete(&one).await);
            if info.conditions() {
                drop(self.handle.write(&one, value.clone()).if_absent().await);
            }
            drop(self.handle.apply(vec![put.clone(), Change::delete(one.clone())]).await);
        }
        self.works_on().await;
    }

    /// Repeats `newer` until it is acknowledged.
    pub(super) async fn acknowledge<N, U>(&self, newer: impl Fn() -> N)
    where
        N: IntoFuture<Output = Result<U>>,
    {
        until("a newer change is acknowledged", PATIENCE, || async {
            let outcome = newer().await;
            if let Err(error) = &outcome {
                may_be_repeated(error, "a change after the line was held or cut");
            }
            outcome.is_ok()
        })
        .await;
    }

    /// Checks that the storage still works.
    pub(super) async fn works_on(&self) {
        let (after, value) = (key("after"), self.handle.value("x"));
        self.acknowledge(|| self.handle.write(&after, value.clone())).await;
        self.free.holds(&after, &value, "read after the line was held or cut").await;
    }
}

/// Checks that the error is retryable. Callers that repeat retryable calls must succeed in the end.
pub(super) fn may_be_repeated(error: &Error, what: &str) {
    assert!(error.is_retryable(), "{what} failed as {}, which is not retryable: {error}", error.kind());
}

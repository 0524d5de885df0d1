//! A law as a value: its name and how to try it.

use std::{
    fmt,
    future::Future,
    pin::{Pin, pin},
    time::Duration,
};

use crate::{Target, guard::guarded, must::chain};

/// A law of the suite.
pub struct Law {
    name: &'static str,
    run: fn(Target) -> Run,
}

type Run = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Law {
    pub(crate) const fn new(name: &'static str, run: fn(Target) -> Run) -> Self {
        Self { name, run }
    }

    /// The law's name, that of its function.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    pub(crate) fn run(&self, target: Target) -> Run {
        (self.run)(target)
    }

    /// Tries the law on `target`, which is removed afterwards if the law holds.
    ///
    /// # Errors
    ///
    /// Why the law does not hold, in words.
    pub async fn check(&self, target: Target, timeout: Duration) -> Result<(), String> {
        check(target.clone(), (self.run)(target), timeout).await
    }
}

impl fmt::Debug for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Law").field(&self.name).finish()
    }
}

/// Runs `case` to its end, within `timeout`, and removes `target` if it succeeded.
pub(crate) async fn check(
    target: Target,
    case: impl Future<Output = ()>,
    timeout: Duration,
) -> Result<(), String> {
    within(timeout, &target, guarded(case)).await?;
    let removal = guarded(async {
        if let Err(error) = target.remove().await {
            panic!("the case succeeded, but cleaning up after it failed: {}", chain(&error));
        }
    });
    within(timeout, &target, removal).await
}

async fn within(
    timeout: Duration,
    target: &Target,
    case: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    let mut case = pin!(case);
    tokio::time::timeout(timeout, case.as_mut()).await.unwrap_or_else(|_| {
        let running = target.running().map(|running| format!("; it waits for: {running}"));
        Err(format!("the case was not done after {timeout:?}{}", running.unwrap_or_default()))
    })
}

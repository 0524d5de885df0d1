//! Waiting for a condition, and for the expiry of an entry.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use larder_core::Key;

use crate::{Handle, Must};

/// The pause between two checks of a condition.
const PAUSE: Duration = Duration::from_millis(5);

/// Checks `condition` repeatedly until it holds. `description` names the condition in errors.
///
/// # Panics
///
/// If the condition does not hold within `limit`. The message contains `description`.
pub async fn until<F>(description: &str, limit: Duration, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < limit, "{description}: the condition does not hold after {limit:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// The time during which an entry must exist, and after which it must be absent, by this machine's clock.
///
/// Create one immediately before the write, and call [`written`](Lifetime::written) after the write: the store
/// began to count at some time in between.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    ttl: Duration,
    before: Instant,
    after: Instant,
}

impl Lifetime {
    /// The tolerance for early expiry: the store's clock has a limited resolution, and some stores read it only once
    /// per iteration of their event loop.
    pub const EARLY: Duration = Duration::from_millis(20);

    /// The tolerance for late expiry.
    pub const LATE: Duration = Duration::from_millis(100);

    /// Creates a lifetime. Call it immediately before a write with the time to live `ttl`.
    #[must_use]
    pub fn begin(ttl: Duration) -> Self {
        let now = Instant::now();
        Self { ttl, before: now, after: now }
    }

    /// Records that the write has been acknowledged.
    #[must_use]
    pub fn written(self) -> Self {
        Self { after: Instant::now(), ..self }
    }

    /// Checks an operation that has just returned and has not found the entry. Panics if the entry must still exist.
    pub fn not_early(&self, operation: &str) {
        let age = self.before.elapsed();
        assert!(
            age + Self::EARLY >= self.ttl,
            "{operation}: the entry was absent {age:?} after its write began, although its time to live was {:?}",
            self.ttl,
        );
    }

    /// Checks an operation that began at `asked` and has found the entry. Panics if the entry must be absent.
    pub fn not_late(&self, asked: Instant, operation: &str) {
        let age = asked.saturating_duration_since(self.after);
        assert!(
            age <= self.ttl + Self::LATE,
            "{operation}: the entry still existed {age:?} after its write ended, although its time to live was {:?}",
            self.ttl,
        );
    }

    /// Reads the entry until it is absent. Panics if this is too early or too late.
    pub async fn expires(&self, handle: &Handle, key: &Key, operation: &str) {
        loop {
            let asked = Instant::now();
            if handle.read(key).await.must(operation).is_none() {
                return self.not_early(operation);
            }
            self.not_late(asked, operation);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Checks the remaining time `left`, which an operation that began at `asked` has just returned. Panics if it is
    /// wrong.
    pub fn right(&self, asked: Instant, left: Duration, operation: &str) {
        let most = self.ttl.saturating_sub(asked.saturating_duration_since(self.after)) + Self::LATE;
        let least = self.ttl.saturating_sub(self.before.elapsed()).saturating_sub(Self::LATE);
        assert!(
            (least..=most).contains(&left),
            "{operation}: the remaining time is reported as {left:?}, but it is between {least:?} and {most:?}"
        );
    }
}

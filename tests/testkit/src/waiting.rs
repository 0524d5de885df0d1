//! Waiting for a condition, and for an entry to expire.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use larder_core::Key;

use crate::{Handle, Must};

/// How long the suite pauses between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Looks again and again until `condition` holds.
///
/// # Panics
///
/// If it does not hold within `limit`; the message says that it waited for `what`.
pub async fn until<F>(what: &str, limit: Duration, mut condition: impl FnMut() -> F)
where
    F: Future<Output = bool>,
{
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < limit, "{what}: still not so after {limit:?}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// When an entry must still be there, and when it must be gone, by this machine's clock.
///
/// Make one right before the write and [`note`](Lifetime::written) when it has returned: the store
/// began to count somewhere in between.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    ttl: Duration,
    before: Instant,
    after: Instant,
}

impl Lifetime {
    /// How much earlier than written an entry may expire: the store's clock has a resolution, and
    /// some stores read it once per turn of their event loop.
    pub const EARLY: Duration = Duration::from_millis(20);

    /// How much later than written a read may still find the entry.
    pub const LATE: Duration = Duration::from_millis(100);

    /// A write with time to live `ttl` is about to begin.
    #[must_use]
    pub fn begin(ttl: Duration) -> Self {
        let now = Instant::now();
        Self { ttl, before: now, after: now }
    }

    /// The write has been acknowledged.
    #[must_use]
    pub fn written(self) -> Self {
        Self { after: Instant::now(), ..self }
    }

    /// Fails if an answer that came just now should still have found the entry.
    pub fn not_early(&self, what: &str) {
        let age = self.before.elapsed();
        assert!(
            age + Self::EARLY >= self.ttl,
            "{what}: the entry was gone {age:?} after its write began, with {:?} to live",
            self.ttl,
        );
    }

    /// Fails if a question that was asked at `asked` should no longer have found the entry.
    pub fn not_late(&self, asked: Instant, what: &str) {
        let age = asked.saturating_duration_since(self.after);
        assert!(
            age <= self.ttl + Self::LATE,
            "{what}: the entry was still there {age:?} after its write had ended, with {:?} to live",
            self.ttl,
        );
    }

    /// Reads the entry until it is gone, and fails if that is too early or too late.
    pub async fn expires(&self, handle: &Handle, key: &Key, what: &str) {
        loop {
            let asked = Instant::now();
            if handle.read(key).await.must(what).is_none() {
                return self.not_early(what);
            }
            self.not_late(asked, what);
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether `left`, as answered just now to a question asked at `asked`, is a right remaining
    /// time.
    pub fn right(&self, asked: Instant, left: Duration, what: &str) {
        let most = self.ttl.saturating_sub(asked.saturating_duration_since(self.after)) + Self::LATE;
        let least = self.ttl.saturating_sub(self.before.elapsed()).saturating_sub(Self::LATE);
        assert!(
            (least..=most).contains(&left),
            "{what}: the remaining time is given as {left:?}, but is between {least:?} and {most:?}"
        );
    }
}

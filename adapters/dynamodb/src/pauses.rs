//! Pauses between requests.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep_until};

/// The shortest and the longest pause. The SDK's retries use them too.
pub(crate) const FIRST: Duration = Duration::from_millis(50);
pub(crate) const LONGEST: Duration = Duration::from_secs(1);

/// Pauses that become longer, until a deadline.
pub(crate) struct Pauses {
    durations: ExponentialBackoff,
    deadline: Instant,
}

impl Pauses {
    pub(crate) fn within(time: Duration) -> Self {
        let durations = ExponentialBuilder::new().with_min_delay(FIRST).with_max_delay(LONGEST);
        let durations = durations.without_max_times().with_jitter().build();
        Self { durations, deadline: Instant::now() + time }
    }

    /// Pauses. Returns `false` immediately if the deadline would pass.
    pub(crate) async fn next(&mut self) -> bool {
        let end = Instant::now() + self.durations.next().unwrap_or(LONGEST);
        let in_time = end < self.deadline;
        if in_time {
            sleep_until(end).await;
        }
        in_time
    }
}

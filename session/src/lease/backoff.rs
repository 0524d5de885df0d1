//! The delays between attempts.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// The approximate length of the first delay.
const SHORTEST: Duration = Duration::from_millis(10);

/// The maximum delay.
const LONGEST: Duration = Duration::from_secs(1);

/// Returns an endless sequence of delays that grow from about 10 ms to a second, or to a third of `ttl` if
/// that is shorter, to detect an expired lease in time. Each is random, to spread the requests of waiting
/// processes.
pub(super) fn delays(ttl: Duration) -> impl Iterator<Item = Duration> + Send {
    // The jitter at most doubles each delay.
    let longest = (ttl / 3).min(LONGEST) / 2;
    let builder = ExponentialBuilder::new()
        .with_jitter()
        .with_min_delay(SHORTEST.min(longest))
        .with_max_delay(longest)
        .without_max_times();
    builder.build().chain(std::iter::repeat(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_and_stay_within_bounds() {
        for (ttl, least, most) in [(30_000, 10, 1_000), (600, 10, 200), (10, 1, 4)] {
            let [ttl, least, most] = [ttl, least, most].map(Duration::from_millis);
            let delays: Vec<_> = delays(ttl).take(40).collect();
            assert!(delays.iter().all(|delay| (least..=most).contains(delay)), "{delays:?}");
            assert!(delays[39] >= most / 3, "{delays:?}");
        }
    }

    #[test]
    fn delays_of_two_waiting_processes_differ() {
        let draw = || delays(Duration::from_secs(30)).take(10).collect::<Vec<_>>();
        assert_ne!(draw(), draw());
    }
}

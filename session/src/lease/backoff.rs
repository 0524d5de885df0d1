//! How long to wait before the next try.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// The first wait is about this long.
const SHORTEST: Duration = Duration::from_millis(10);

/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(1);

/// Waits that grow from about 10 ms to a second, or to a third of `ttl` should that be shorter: a
/// lease that expires is then noticed in good time. Each is drawn at random, so that those who wait
/// for the same lease do not ask at the same moments. It never ends.
pub(super) fn delays(ttl: Duration) -> impl Iterator<Item = Duration> + Send {
    // The jitter adds up to as much again to each delay.
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
    fn two_who_wait_do_not_ask_in_step() {
        let draw = || delays(Duration::from_secs(30)).take(10).collect::<Vec<_>>();
        assert_ne!(draw(), draw());
    }
}

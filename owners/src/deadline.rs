//! The times at which sessions end, and the times until which the index names them.

use std::time::{SystemTime, UNIX_EPOCH};

use larder_core::{Expiry, clock::unix_millis};

const MINUTE: i64 = 60_000;

/// The largest step is 1,024 minutes, about 17 hours.
const LARGEST: i64 = 1_024;

/// The quanta that an entry outlives its session by, apart from rounding. Two, because another process can use
/// steps that are twice as long. One more for a session that is written late.
const SPARE: i64 = 3;

/// The difference of clocks that is harmless, in milliseconds.
const SKEW: i64 = 10_000;

/// The time at which a session ends, or never.
///
/// By the clock of this process. The clocks of the processes that use one index may differ by ten seconds.
///
/// ```
/// use std::time::Duration;
/// use larder_core::Expiry;
/// use larder_owners::Deadline;
///
/// let in_an_hour = Deadline::after(Expiry::After(Duration::from_secs(3600)));
/// assert_ne!(in_an_hour, Deadline::NEVER);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline(Option<i64>);

impl Deadline {
    /// The session does not end by itself.
    pub const NEVER: Self = Self(None);

    /// Returns the deadline of a session whose time to live is now `expiry`.
    #[must_use]
    pub fn after(expiry: Expiry) -> Self {
        Self(expiry.deadline(unix_millis()))
    }

    /// Returns the time until which the index names a session with this deadline: the end of a step, 3 to 4
    /// steps after the deadline. `None` for a session that never ends. Unix milliseconds.
    pub(crate) fn until(self, now: i64) -> Option<i64> {
        let deadline = self.0?;
        let step = step(deadline.saturating_sub(now));
        Some((deadline.div_euclid(step) + 1 + SPARE).saturating_mul(step))
    }

    /// Whether a session that is extended from this deadline to `later` has to be noted again: if the end of a
    /// step is between them, or nearly.
    ///
    /// The steps are powers of two. So the end of a step of one process is also one for every process with
    /// shorter steps, and is noted by whichever process extends a session beyond it. Until then, the entry that
    /// was noted for the end of the step before still lasts.
    pub(crate) fn is_passed_by(self, later: Self, now: i64) -> bool {
        let (Some(from), to) = (self.0, later.0) else {
            return false;
        };
        let Some(to) = to else {
            return true;
        };
        let step = step(to.saturating_sub(now));
        let number = |time: i64| time.div_euclid(step);
        to > from && number(to.saturating_add(SKEW)) > number(from.saturating_sub(SKEW))
    }
}

impl From<SystemTime> for Deadline {
    fn from(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(Some(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// Returns the step for a session that lives for `left` from now: a power of two in minutes, at most an eighth
/// of that time.
fn step(left: i64) -> i64 {
    let minutes = (left / 8 / MINUTE).clamp(1, LARGEST);
    MINUTE << minutes.ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_310_512_273;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;

    fn at(time: i64) -> Deadline {
        Deadline(Some(time))
    }

    #[test]
    fn an_entry_outlives_its_session_by_three_to_four_steps() {
        for left in [0, 1, MINUTE, 30 * MINUTE, HOUR, 9 * HOUR, 14 * DAY, 400 * DAY] {
            for offset in (0..HOUR).step_by(7_919) {
                let deadline = NOW + offset + left;
                let spare = at(deadline).until(NOW + offset).unwrap() - deadline;
                assert!(spare > 3 * step(left) && spare <= 4 * step(left), "{left} {spare}");
            }
            assert!(step(left) >= MINUTE && (step(left) <= left / 8 || step(left) == MINUTE));
        }
        assert_eq!(Deadline::NEVER.until(NOW), None);
    }

    #[test]
    fn a_session_is_noted_again_about_once_per_step() {
        for left in [MINUTE, 30 * MINUTE, 9 * HOUR, 14 * DAY] {
            let interval = step(left) / 60;
            let passed = |tick: i64| {
                let now = NOW + tick * interval;
                at(now - interval + left).is_passed_by(at(now + left), now)
            };
            let noted = (0..60 * 60).filter(|&tick| passed(tick)).count();
            // Around the end of a step, twice the skew.
            let most = 60 * (2 * SKEW / interval + 2) as usize;
            assert!((60..=most).contains(&noted), "{noted} for {left}");
        }
    }

    #[test]
    fn a_session_that_does_not_live_longer_is_not_noted() {
        for (from, to) in [(at(NOW), at(NOW)), (at(NOW + DAY), at(NOW + HOUR)), (Deadline::NEVER, at(NOW))] {
            assert!(!from.is_passed_by(to, NOW));
        }
        assert!(!Deadline::NEVER.is_passed_by(Deadline::NEVER, NOW));
        assert!(at(NOW).is_passed_by(Deadline::NEVER, NOW));
    }

    /// Processes with other clocks and other times to live extend one session. If one of them can do it without
    /// a note, it does.
    #[test]
    fn no_session_outlives_its_entry() {
        let mut seed = 7_u64;
        let mut random = move |below: i64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as i64 % below
        };
        for round in 0..2_000 {
            let base = MINUTE * [1, 7, 16, 30, 64, 300, 2_000, 40_000][round % 8] + random(MINUTE);
            let skews = [0; 3].map(|_| random(2 * SKEW) - SKEW);
            // Nearly equal, a little longer, and much longer.
            let much = 20 * (round as i64 % 3) * base;
            let lives = [base, base + random(base / 20 + 1), base + random(base / 4 + 1) + random(much + 1)];
            let mut now = NOW + random(DAY);
            let mut ends = now + lives[0];
            let mut until = at(ends + skews[0]).until(now + skews[0]).unwrap();
            for _ in 0..1_000 {
                now += random([base / 400, base / 8][round / 8 % 2]);
                let extended = |process: usize| {
                    let (clock, later) = (now + skews[process], now + lives[process]);
                    let (from, to) = (at(ends + skews[process]), at(later + skews[process]));
                    (from.is_passed_by(to, clock).then(|| to.until(clock).unwrap()), later)
                };
                let (noted, later) =
                    (0..3).map(extended).min_by_key(|(noted, later)| (noted.is_some(), -later)).unwrap();
                until = until.max(noted.unwrap_or_default());
                ends = later;
                for skew in skews {
                    assert!(ends + skew + SKEW < until, "{round}: {} ms", until - ends);
                }
            }
        }
    }

    #[test]
    fn extreme_times_are_limited() {
        for time in [i64::MIN, 0, i64::MAX] {
            let _ = at(time).until(NOW);
            let _ = at(time).is_passed_by(at(i64::MAX), NOW);
        }
        assert!(Deadline::after(Expiry::After(Expiry::MAX)).until(NOW).unwrap() > NOW);
    }
}

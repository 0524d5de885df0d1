//! The lifetime of sessions.

use std::time::Duration;

use hashlink::LruCache;
use larder_core::{Expiry, Key};
use parking_lot::Mutex;
use tokio::time::Instant;

/// The lifetime of a session: unlimited, since its last write, since its last use (sliding), since its
/// creation (absolute), or a combination.
///
/// The store expires the session natively, by its own clock. Durations are rounded up to milliseconds.
///
/// An absolute end is computed with the clock of the process that creates the session. A process whose clock
/// is ahead can end such a session earlier, at most by the difference.
///
/// ```
/// use std::time::Duration;
/// use larder_session::Lifetime;
///
/// const MINUTE: Duration = Duration::from_secs(60);
/// // Log out after half an hour without a request, and after a day in any case.
/// let web = Lifetime::sliding(30 * MINUTE).at_most(24 * 60 * MINUTE);
/// // Delete a bot's dialogue a week after its last step.
/// let bot = Lifetime::after_write(7 * 24 * 60 * MINUTE);
/// # let _ = (web, bot);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    idle: Option<Duration>,
    /// The minimum time between two touches; `None`: only writes count as use.
    touch_every: Option<Duration>,
    absolute: Option<Duration>,
}

impl Lifetime {
    /// The session lives until it is deleted.
    #[must_use]
    pub const fn forever() -> Self {
        Self { idle: None, touch_every: None, absolute: None }
    }

    /// The session lives for `idle` after its last write.
    #[must_use]
    pub const fn after_write(idle: Duration) -> Self {
        Self { idle: Some(idle), touch_every: None, absolute: None }
    }

    /// The session lives for `idle` after its last use, including reads. A use without a write extends the
    /// session with a [`touch`](larder_core::Store::touch), which does not rewrite the value. Each process
    /// touches a session at most once per tenth of `idle`; [`touch_every`](Self::touch_every) changes that.
    /// The session can expire earlier by this interval.
    #[must_use]
    pub fn sliding(idle: Duration) -> Self {
        Self { idle: Some(idle), touch_every: Some(idle / 10), absolute: None }
    }

    /// The session lives for `most` after its creation.
    #[must_use]
    pub const fn absolute(most: Duration) -> Self {
        Self { idle: None, touch_every: None, absolute: Some(most) }
    }

    /// Limits this lifetime to `most` after the creation of the session. The deadline is stored with the
    /// session, as the `e` of grammY's envelope.
    #[must_use]
    pub const fn at_most(mut self, most: Duration) -> Self {
        self.absolute = Some(most);
        self
    }

    /// Sets the minimum time between two touches. Only for [`sliding`](Self::sliding).
    #[must_use]
    pub const fn touch_every(mut self, interval: Duration) -> Self {
        if self.touch_every.is_some() {
            self.touch_every = Some(interval);
        }
        self
    }

    pub(crate) const fn is_absolute(&self) -> bool {
        self.absolute.is_some()
    }

    /// Whether every use extends the session without a limit.
    pub(crate) const fn only_slides(&self) -> bool {
        self.absolute.is_none() && self.touch_every.is_some()
    }

    pub(crate) const fn interval(&self) -> Option<Duration> {
        self.touch_every
    }

    /// Returns the deadline of a session written at `now`: its current one, or a new one. `None` without an
    /// absolute lifetime. Unix milliseconds.
    pub(crate) fn deadline(&self, has: Option<End>, now: i64) -> Option<End> {
        let absolute = self.absolute?;
        has.or_else(|| Expiry::After(absolute).deadline(now).map(End::new))
    }

    /// Returns the `e` in the envelope of a session written at `now`: the time at which it expires in any
    /// case. `None` for a sliding lifetime without a deadline.
    pub(crate) fn end(&self, deadline: Option<End>, now: i64) -> Option<i64> {
        let written = match (self.idle, self.touch_every) {
            (Some(idle), None) => Expiry::After(idle).deadline(now),
            _ => None,
        };
        match (written, deadline) {
            // With both, the next write needs the deadline.
            (_, Some(deadline)) => Some(deadline.stored),
            (written, None) => written,
        }
    }

    /// Returns the expiry of a session written or touched at `now`.
    pub(crate) fn expiry(&self, deadline: Option<End>, now: i64) -> Expiry {
        let idle = Expiry::from(self.idle);
        let Some(deadline) = deadline else {
            return idle;
        };
        // After its deadline it has no time left.
        let left = Expiry::until(Some(deadline.here), now).unwrap_or(Expiry::After(Duration::ZERO));
        idle.earlier(left)
    }
}

/// The time at which a session expires in any case. Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// As stored, by the clock of the writing process.
    pub(crate) stored: i64,
    /// By the clock of this process. Differs from `stored` if the store reports time left after that time.
    pub(crate) here: i64,
}

impl End {
    pub(crate) const fn new(at: i64) -> Self {
        Self { stored: at, here: at }
    }
}

/// The number of keys whose last touch is remembered. A forgotten key is touched once too often.
const REMEMBERED: usize = 10_000;

/// The time of each key's last touch or write by this process.
pub(crate) struct Touches(Mutex<LruCache<Key, Instant>>);

impl Touches {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }

    /// Whether the last touch was at least `interval` ago, or is unknown.
    pub(crate) fn is_due(&self, key: &Key, interval: Duration) -> bool {
        self.0.lock().get(key).is_none_or(|last| last.elapsed() >= interval)
    }

    /// Records that the key was just touched or written.
    pub(crate) fn note(&self, key: &Key) {
        self.0.lock().insert(key.clone(), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_earlier_of_two_ends_applies() {
        let both = Lifetime::sliding(SECOND).at_most(2 * SECOND);
        let deadline = both.deadline(None, 1_000);
        assert_eq!(deadline, Some(End::new(3_000)));
        assert_eq!(both.deadline(deadline, 2_500), deadline, "it stays");
        assert_eq!(both.expiry(deadline, 1_000), Expiry::After(SECOND));
        assert_eq!(both.expiry(deadline, 2_500), Expiry::after_millis(500));
        assert_eq!(both.expiry(deadline, 3_500), Expiry::After(Duration::ZERO));
    }

    #[test]
    fn the_end_in_the_envelope_never_ends_a_session_early() {
        assert_eq!(Lifetime::after_write(SECOND).end(None, 1_000), Some(2_000));
        assert_eq!(Lifetime::sliding(SECOND).end(None, 1_000), None);
        assert_eq!(Lifetime::sliding(SECOND).end(Some(End::new(9_000)), 1_000), Some(9_000));
        assert_eq!(Lifetime::forever().end(None, 1_000), None);
        assert_eq!(Lifetime::forever().expiry(None, 1_000), Expiry::Never);
    }

    #[test]
    fn touches_are_remembered_per_key() {
        let touches = Touches::new();
        let (one, other) = (Key::new("one").unwrap(), Key::new("other").unwrap());
        touches.note(&one);
        assert!(!touches.is_due(&one, Duration::from_secs(3600)));
        assert!(touches.is_due(&one, Duration::ZERO));
        assert!(touches.is_due(&other, Duration::from_secs(3600)));
    }
}

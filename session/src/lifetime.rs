//! How long sessions live.

use std::time::{Duration, Instant};

use hashlink::LruCache;
use larder_core::{Expiry, Key};
use parking_lot::Mutex;

/// How long a session lives: for ever, so long after its last write, so long after its last use
/// (sliding), until a moment counted from its creation (absolute), or by two of these at once.
///
/// The store ends it, natively: an expired session is gone, swept or not. Durations are rounded up
/// to milliseconds.
///
/// The store's clock decides. An absolute end is counted by the clock of the process that creates the
/// session. A process whose clock is ahead may end such a session earlier, by the difference at most.
///
/// ```
/// use std::time::Duration;
/// use larder_session::Lifetime;
///
/// const MINUTE: Duration = Duration::from_secs(60);
/// // Logged out after half an hour without a request, and after a day in any case.
/// let web = Lifetime::sliding(30 * MINUTE).at_most(24 * 60 * MINUTE);
/// // A bot's dialogue is forgotten a week after its last step.
/// let bot = Lifetime::after_write(7 * 24 * 60 * MINUTE);
/// # let _ = (web, bot);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
    idle: Option<Duration>,
    /// Between two touches; `None`: only writes count as use.
    touch_every: Option<Duration>,
    absolute: Option<Duration>,
}

impl Lifetime {
    /// Until it is deleted.
    #[must_use]
    pub const fn forever() -> Self {
        Self { idle: None, touch_every: None, absolute: None }
    }

    /// `idle` after the last write.
    #[must_use]
    pub const fn after_write(idle: Duration) -> Self {
        Self { idle: Some(idle), touch_every: None, absolute: None }
    }

    /// `idle` after the last use, reads included. A use that writes nothing extends the session by
    /// [`touch`](larder_core::Store::touch), which does not rewrite its value, and at most once
    /// in a tenth of `idle` (by each process); [`touch_every`](Self::touch_every) changes that. A
    /// session may so end up to that much earlier than `idle` after its last use.
    #[must_use]
    pub fn sliding(idle: Duration) -> Self {
        Self { idle: Some(idle), touch_every: Some(idle / 10), absolute: None }
    }

    /// `most` after it was created, whatever happens to it.
    #[must_use]
    pub const fn absolute(most: Duration) -> Self {
        Self { idle: None, touch_every: None, absolute: Some(most) }
    }

    /// This, but no longer than `most` after the session was created. The moment is stored beside the
    /// session, as the `e` of grammY's envelope.
    #[must_use]
    pub const fn at_most(mut self, most: Duration) -> Self {
        self.absolute = Some(most);
        self
    }

    /// Uses extend the session no more often than this. Only with [`sliding`](Self::sliding).
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

    /// Whether every use extends it, without a limit.
    pub(crate) const fn only_slides(&self) -> bool {
        self.absolute.is_none() && self.touch_every.is_some()
    }

    pub(crate) const fn interval(&self) -> Option<Duration> {
        self.touch_every
    }

    /// The deadline of a session that is written at `now`: the one it has, or a new one. `None`
    /// without an absolute one. Unix milliseconds.
    pub(crate) fn deadline(&self, has: Option<End>, now: i64) -> Option<End> {
        let absolute = self.absolute?;
        has.or_else(|| Expiry::After(absolute).deadline(now).map(End::new))
    }

    /// The `e` of the envelope of a session that is written at `now`: the moment at which it is
    /// over whatever else happens. A sliding one has none, unless it has a deadline too.
    pub(crate) fn end(&self, deadline: Option<End>, now: i64) -> Option<i64> {
        let written = match (self.idle, self.touch_every) {
            (Some(idle), None) => Expiry::After(idle).deadline(now),
            _ => None,
        };
        match (written, deadline) {
            // With both, the deadline has to be known when the session is next written.
            (_, Some(deadline)) => Some(deadline.stored),
            (written, None) => written,
        }
    }

    /// How long a session lives that is written or touched at `now`.
    pub(crate) fn expiry(&self, deadline: Option<End>, now: i64) -> Expiry {
        let idle = Expiry::from(self.idle);
        let Some(deadline) = deadline else {
            return idle;
        };
        // Past its deadline it has no time left.
        let left = Expiry::until(Some(deadline.here), now).unwrap_or(Expiry::After(Duration::ZERO));
        idle.earlier(left)
    }
}

/// The moment at which a session is over whatever else happens. Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    /// As it is stored: by the clock of the process that has stored it.
    pub(crate) stored: i64,
    /// By the clock of this process. It differs from what is stored where the store says that the
    /// session has time left although that has passed.
    pub(crate) here: i64,
}

impl End {
    pub(crate) const fn new(at: i64) -> Self {
        Self { stored: at, here: at }
    }
}

/// How many keys' last touches are remembered. One that is forgotten is touched once too often.
const REMEMBERED: usize = 10_000;

/// When keys were last touched or written by this process.
pub(crate) struct Touches(Mutex<LruCache<Key, Instant>>);

impl Touches {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }

    /// Whether the last was at least `interval` ago, or is not known.
    pub(crate) fn is_due(&self, key: &Key, interval: Duration) -> bool {
        self.0.lock().get(key).is_none_or(|last| last.elapsed() >= interval)
    }

    /// It has just been touched or written.
    pub(crate) fn note(&self, key: &Key) {
        self.0.lock().insert(key.clone(), Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_earlier_of_two_ends_counts() {
        let both = Lifetime::sliding(SECOND).at_most(2 * SECOND);
        let deadline = both.deadline(None, 1_000);
        assert_eq!(deadline, Some(End::new(3_000)));
        assert_eq!(both.deadline(deadline, 2_500), deadline, "it stays");
        assert_eq!(both.expiry(deadline, 1_000), Expiry::After(SECOND));
        assert_eq!(both.expiry(deadline, 2_500), Expiry::after_millis(500));
        assert_eq!(both.expiry(deadline, 3_500), Expiry::After(Duration::ZERO));
    }

    #[test]
    fn what_the_envelope_says_never_ends_a_session_early() {
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

//! The lifetime of entries.

use std::time::Duration;

/// The time until an entry expires, by the store's clock.
///
/// In a write or touch, it counts from that operation. In the result of a read or listing, it is the
/// time that remains.
///
/// The resolution is one millisecond. A fraction of a millisecond is rounded up, so no entry expires
/// early. A duration of zero has already elapsed: the entry is never visible. A duration longer than
/// [`Expiry::MAX`] counts as `MAX`.
///
/// ```
/// use std::time::Duration;
/// use larder_core::Expiry;
///
/// let expiry = Expiry::after_secs(90);
/// assert_eq!(expiry, Expiry::After(Duration::from_secs(90)));
/// assert_eq!(expiry.as_millis(), Some(90_000));
/// assert_eq!(Expiry::Never.as_millis(), None);
/// assert_eq!(Expiry::After(Duration::from_nanos(1)).as_millis(), Some(1));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Expiry {
    /// The entry stays until it is deleted or overwritten.
    #[default]
    Never,
    /// The entry expires after this duration.
    After(Duration),
}

impl Expiry {
    /// The longest time to live, 1,000 years: every store can add it to the current time.
    pub const MAX: Duration = Duration::from_secs(1_000 * 365 * 24 * 60 * 60);

    /// Creates an expiry of `millis` milliseconds.
    #[must_use]
    pub const fn after_millis(millis: u64) -> Self {
        Self::After(Duration::from_millis(millis))
    }

    /// Creates an expiry of `secs` seconds.
    #[must_use]
    pub const fn after_secs(secs: u64) -> Self {
        Self::After(Duration::from_secs(secs))
    }

    /// Returns the time to live in whole milliseconds, rounded up and limited to [`Expiry::MAX`]; `None`
    /// for [`Expiry::Never`]. Adapters pass this number to their store.
    #[must_use]
    pub fn as_millis(self) -> Option<u64> {
        let Self::After(duration) = self else {
            return None;
        };
        let millis = duration.min(Self::MAX).as_nanos().div_ceil(1_000_000);
        // MAX in milliseconds is far below u64::MAX, so the conversion never saturates.
        Some(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// Returns the earlier of two expiries.
    ///
    /// ```
    /// use larder_core::Expiry;
    ///
    /// assert_eq!(Expiry::Never.earlier(Expiry::after_secs(2)), Expiry::after_secs(2));
    /// assert_eq!(Expiry::after_secs(1).earlier(Expiry::after_secs(2)), Expiry::after_secs(1));
    /// ```
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        match (self, other) {
            (Self::After(one), Self::After(other)) => Self::After(one.min(other)),
            (Self::Never, other) => other,
            (one, Self::Never) => one,
        }
    }

    /// Returns whether the time to live is zero: the entry has already expired when it is written.
    #[must_use]
    pub fn is_elapsed(self) -> bool {
        self == Self::After(Duration::ZERO)
    }

    /// Returns the time of expiry of an entry that is written at `now`, both in Unix milliseconds; `None` for
    /// [`Expiry::Never`].
    #[must_use]
    pub fn deadline(self, now: i64) -> Option<i64> {
        self.as_millis().map(|millis| now.saturating_add(i64::try_from(millis).unwrap_or(i64::MAX)))
    }

    /// Returns the time that remains at `now` until `deadline`, both in Unix milliseconds; `None` at or after
    /// the deadline. Without a deadline, returns [`Expiry::Never`].
    #[must_use]
    pub fn until(deadline: Option<i64>, now: i64) -> Option<Self> {
        let Some(deadline) = deadline else {
            return Some(Self::Never);
        };
        let remaining = u64::try_from(deadline.saturating_sub(now)).ok()?;
        (remaining > 0).then_some(Self::after_millis(remaining))
    }
}

impl From<Duration> for Expiry {
    fn from(duration: Duration) -> Self {
        Self::After(duration)
    }
}

impl From<Option<Duration>> for Expiry {
    fn from(duration: Option<Duration>) -> Self {
        duration.map_or(Self::Never, Self::After)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn milliseconds_are_rounded_up_and_limited() {
        assert_eq!(Expiry::After(Duration::from_micros(1_001)).as_millis(), Some(2));
        assert_eq!(Expiry::After(Duration::ZERO).as_millis(), Some(0));
        assert_eq!(Expiry::After(Duration::MAX).as_millis(), Expiry::After(Expiry::MAX).as_millis());
    }

    #[test]
    fn an_entry_expires_at_its_deadline_not_after_it() {
        let deadline = Expiry::after_millis(5).deadline(100);
        assert_eq!(Expiry::until(deadline, 104), Some(Expiry::after_millis(1)));
        assert_eq!(Expiry::until(deadline, 105), None);
        assert_eq!(Expiry::until(None, i64::MAX), Some(Expiry::Never));
        assert_eq!(Expiry::until(Some(i64::MIN), i64::MAX), None);
    }
}

//! An entry of the index.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use larder_core::{Key, clock::unix_millis};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// The time after which a save that was noted has ended, in milliseconds.
const SETTLED: i64 = 10 * 60_000;

/// A session in the index of owners.
///
/// It is usually the session of the owner, but need not be: the session may be about to be written, may have
/// been deleted, or may have another owner now. [`Owners::sessions`](crate::Owners::sessions) checks that.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry(pub(crate) Noted);

/// The stored form. Times are Unix milliseconds by the clock of the process that noted the session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Noted {
    #[serde(with = "key")]
    pub(crate) key: Key,
    pub(crate) created: i64,
    pub(crate) used: i64,
    /// When the index may forget the session. `None` if the session does not end by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) until: Option<i64>,
    /// New each time the session is noted.
    pub(crate) stamp: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) device: Option<String>,
    /// Whether it was noted as new while the index named it already. See
    /// [`Owners::remove`](crate::Owners::remove).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) contested: bool,
}

impl Noted {
    /// Whether no save that noted the session can still be about to write it.
    pub(crate) fn is_settled(&self, now: i64) -> bool {
        now.saturating_sub(self.used) >= SETTLED
    }

    pub(crate) fn is_over(&self, now: i64) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

impl Entry {
    /// Returns the key of the session.
    #[must_use]
    pub const fn key(&self) -> &Key {
        &self.0.key
    }

    /// Returns the time at which the session was first noted for this owner: the sign-in.
    #[must_use]
    pub fn created(&self) -> SystemTime {
        time(self.0.created)
    }

    /// Returns the time at which the session was last noted. The last use is later by at most an eighth of the
    /// session's time to live. For a session that does not end by itself, this is the time of the sign-in.
    #[must_use]
    pub fn used(&self) -> SystemTime {
        time(self.0.used)
    }

    /// Returns the name of the device, if the session was noted with one.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        self.0.device.as_deref()
    }

    /// Returns whether the session was noted more than ten minutes ago. If the session does not exist then, it
    /// is not about to be written, and the entry can be [removed](crate::Owners::remove).
    pub(crate) fn is_settled(&self) -> bool {
        self.0.is_settled(unix_millis())
    }
}

/// Prints no key and no device.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("created", &self.created())
            .field("used", &self.used())
            .finish_non_exhaustive()
    }
}

fn time(millis: i64) -> SystemTime {
    let since = Duration::from_millis(u64::try_from(millis).unwrap_or_default());
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}

/// A key as text.
mod key {
    use super::*;

    pub(super) fn serialize<S: Serializer>(key: &Key, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(key.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Key, D::Error> {
        Key::new(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

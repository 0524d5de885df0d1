//! Wall-clock time, for stores whose clock is this machine's.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch by this machine's clock; 0 should the clock stand before it.
///
/// Adapters whose store runs in this process (file, SQLite) count expiry with it. Adapters of a
/// server let the server's own clock decide.
#[must_use]
pub fn unix_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

//! The wall-clock time of this machine.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the milliseconds since the Unix epoch, by this machine's clock; 0 if the clock is set to an earlier
/// time.
///
/// Adapters whose store runs in this process (file, SQLite) use it for expiry. Adapters of a
/// server use the server's clock.
#[must_use]
pub fn unix_millis() -> i64 {
    #[cfg(feature = "simulation")]
    if let Some(now) = crate::simulation::unix_millis() {
        return now;
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

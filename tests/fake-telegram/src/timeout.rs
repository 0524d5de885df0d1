//! A limit for each wait.

use std::time::Duration;

use tokio::time::timeout;

/// Far longer than any wait here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// Waits for `future`.
///
/// # Panics
///
/// If that takes longer than a minute; the message says that it waited for `what`.
#[allow(clippy::panic)] // A test fails by panicking.
pub async fn within_a_minute<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(LIMIT, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited {LIMIT:?} for {what}"),
    }
}

//! The task that renews a lease.

use std::{sync::Arc, time::Duration};

use larder_core::{Error, ErrorKind};
use tokio::time::timeout;

use super::{backoff::delays, hold::Hold};

/// Renews every third of the time to live, until the lease is released, dropped or lost. Retries retryable
/// errors until then.
pub(super) async fn renew_until_ended(hold: Arc<Hold>) {
    let adapter = hold.claim().adapter();
    let ttl = hold.claim().ttl();
    let every = ttl / 3;
    let mut retries = delays(ttl);
    let mut pause = every;
    while timeout(pause, hold.ended()).await.is_err() {
        match hold.renew().await {
            Ok(()) => {
                retries = delays(ttl);
                pause = every;
            }
            Err(error) if error.is_retryable() => {
                pause = retries.next().unwrap_or(every);
                warn(adapter, &error, pause);
            }
            Err(error) if error.kind() == ErrorKind::Conflict => {
                // Or it was released at this moment, which the holder knows.
                tracing::debug!(adapter, %error, "the renewal of a lease has ended");
                return;
            }
            Err(error) => {
                tracing::warn!(adapter, kind = %error.kind(), %error, "a lease cannot be renewed");
                return;
            }
        }
    }
}

fn warn(adapter: &'static str, error: &Error, retry_after: Duration) {
    tracing::warn!(adapter, kind = %error.kind(), %error, ?retry_after, "could not renew a lease");
}

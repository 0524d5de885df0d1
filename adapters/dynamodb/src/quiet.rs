//! The SDK's log.

use tracing::{
    instrument::{WithDispatch, WithSubscriber},
    subscriber::NoSubscriber,
};

/// Runs a request without its log, which contains keys and values at the level `TRACE`.
pub(crate) fn quiet<F: Future>(request: F) -> WithDispatch<F> {
    request.with_subscriber(NoSubscriber::new())
}

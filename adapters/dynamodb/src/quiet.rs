//! The SDK's log.

use std::sync::LazyLock;

use tracing::{
    Dispatch,
    instrument::{WithDispatch, WithSubscriber},
    subscriber::NoSubscriber,
};

/// Discards the log. There is one, because making it rebuilds the filters of the whole process, which takes longer the
/// more of them exist. `Dispatch::none()` would also disable what other clients of the SDK log.
static NOWHERE: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::new()));

/// Runs a request without its log, which contains keys and values at the level `TRACE`.
pub(crate) fn quiet<F: Future>(request: F) -> WithDispatch<F> {
    request.with_subscriber(NOWHERE.clone())
}

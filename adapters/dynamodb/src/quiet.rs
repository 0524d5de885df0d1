//! The SDK's log.

use std::sync::LazyLock;

use tracing::{
    Dispatch, Event, Metadata, Subscriber,
    instrument::{WithDispatch, WithSubscriber},
    level_filters::LevelFilter,
    span::{Attributes, Id, Record},
};

/// Discards everything. `NoSubscriber` does the same, but has no maximum level, so every place in the process that logs
/// at the level `TRACE` would be slower.
struct Nowhere;

impl Subscriber for Nowhere {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::OFF)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// One for all requests, because `tracing` asks every subscriber about every place that logs whenever one is made.
/// `Dispatch::none()` would also disable the log of other clients of the SDK.
static NOWHERE: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(Nowhere));

/// Runs a request without its log, which contains keys and values at the level `TRACE`.
pub(crate) fn quiet<F: Future>(request: F) -> WithDispatch<F> {
    request.with_subscriber(NOWHERE.clone())
}

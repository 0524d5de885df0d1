//! Shared test support: a storage that counts, waits, fails and conflicts when a test tells it to.

// Each test file uses a part of it.
#![allow(dead_code, unused_imports)]

mod counting;
mod minimal;

use std::time::{Duration, Instant};

use larder_core::Store;
use larder_memory::MemoryStorage;
use larder_session::{Error, ErrorKind, Result};

pub(crate) use self::{
    counting::{Call, Counting, Gate},
    minimal::Minimal,
};

/// A time limit far above the duration of any test, even on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// A lifetime that does not end during a test.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

pub(crate) fn memory() -> Store {
    Store::new(MemoryStorage::new())
}

pub(crate) fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().unwrap().kind()
}

/// Awaits the code under test, and fails the test if it hangs.
pub(crate) async fn soon<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(LIMIT, work).await.expect("it must not hang")
}

/// Polls until the condition holds.
pub(crate) async fn until(condition_name: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LIMIT, "{condition_name}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A handler's own error type.
#[derive(Debug)]
pub(crate) enum HandlerError {
    Refused,
    Larder(Error),
}

impl From<Error> for HandlerError {
    fn from(error: Error) -> Self {
        Self::Larder(error)
    }
}

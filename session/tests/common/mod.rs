//! What the tests share: a storage that counts, waits, fails and is overtaken when it is told to.

// Each file of tests uses a part of it.
#![allow(dead_code, unused_imports)]

mod counting;

use std::time::{Duration, Instant};

use larder_core::Store;
use larder_memory::MemoryStorage;
use larder_session::{Error, ErrorKind, Result};

pub(crate) use self::counting::{Call, Counting, Gate};

/// Far longer than anything here takes, however busy the machine is.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Longer than any test takes: it does not end by itself.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

pub(crate) fn memory() -> Store {
    Store::new(MemoryStorage::new())
}

pub(crate) fn kind<T>(result: Result<T>) -> ErrorKind {
    result.err().unwrap().kind()
}

/// What the code under test has to come to: a hang fails the test instead of stopping it.
pub(crate) async fn soon<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(LIMIT, work).await.expect("it came to an end")
}

/// Asks until it is so.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < LIMIT, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// An error of a handler's own kind.
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

//! Runs the suite on the memory storage, on a storage with content versions and JSON values, and on a storage with
//! only the three required methods.

#![allow(clippy::unwrap_used)]

mod content;
mod shelf;

use larder_core::{Storage, Store};
use larder_memory::MemoryStorage;
use larder_testkit::{Runner, SingleOpener, Suite, factory};

/// Creates a factory that opens the storages of `make`, by name.
fn spaces<S: Storage>(make: fn() -> S) -> impl larder_testkit::Factory {
    SingleOpener::new(factory(move |_| async move { Ok(Store::from(make())) }))
}

fn main() {
    Runner::new()
        .suite(Suite::new("memory", spaces(MemoryStorage::new)))
        .suite(Suite::new("content", spaces(content::Content::default)))
        .suite(Suite::new("three_methods", spaces(shelf::Shelf::default)).slow())
        .main()
}

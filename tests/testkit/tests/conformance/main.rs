//! The suite on the memory storage, which is the reference; on one whose versions are the content
//! and whose values are JSON; and on one with three methods.

#![allow(clippy::unwrap_used)]

mod content;
mod shelf;

use larder_core::{Storage, Store};
use larder_memory::MemoryStorage;
use larder_testkit::{Runner, SingleOpener, Suite, factory};

/// Opens the storages that `make` makes, by name.
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

//! The suite on the memory storage, which is the reference; on one whose versions are the content
//! and whose values are JSON; and on one with three methods.

#![allow(clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod content;
mod shelf;

use std::{collections::HashMap, sync::Mutex};

use futures_util::FutureExt;
use larder_core::{Storage, Store};
use larder_testkit::{Runner, Suite, factory};

/// Opens the storages that `make` makes, by name.
fn spaces<S: Storage>(make: fn() -> S) -> impl larder_testkit::Factory {
    let spaces: Mutex<HashMap<String, Store>> = Mutex::default();
    factory(move |space| {
        let mut spaces = spaces.lock().unwrap();
        let known = spaces.get(&space).filter(|store| is_open(store)).cloned();
        let store = known.unwrap_or_else(|| Store::from(make()));
        spaces.insert(space, store.clone());
        async move { Ok(store) }
    })
}

/// These storages never wait, so that a future polled once is done.
fn is_open(store: &Store) -> bool {
    matches!(store.flush().now_or_never(), Some(Ok(())))
}

fn main() {
    Runner::new()
        .suite(Suite::new("memory", common::Spaces::default()))
        .suite(Suite::new("content", spaces(content::Content::default)))
        .suite(Suite::new("three_methods", spaces(shelf::Shelf::default)).slow())
        .main()
}

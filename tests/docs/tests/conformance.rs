//! Both adapters of "Writing an adapter" pass the suite.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use larder_core::{Result, Store, async_trait};
use larder_docs_tests::{full, minimal};
use larder_testkit::{Factory, Runner, Suite};

/// One shelf per space, for as long as the space is in use.
struct Shelves {
    open: fn() -> Store,
    shelves: Mutex<HashMap<String, Store>>,
}

#[async_trait]
impl Factory for Shelves {
    async fn open(&self, space: &str) -> Result<Store> {
        let mut shelves = self.shelves.lock().unwrap();
        let shelf = shelves.entry(space.to_owned()).or_insert_with(self.open);
        // A store of its own for each handle: closing one does not close the others.
        Ok(Store::from(Arc::clone(shelf.storage())))
    }

    async fn remove(&self, space: &str) -> Result<()> {
        self.shelves.lock().unwrap().remove(space);
        Ok(())
    }
}

fn shelves(open: fn() -> Store) -> Shelves {
    Shelves { open, shelves: Mutex::default() }
}

fn main() {
    Runner::new()
        .suite(Suite::new("minimal", shelves(minimal::Shelf::open)))
        .suite(Suite::new("full", shelves(full::Shelf::open)))
        .main()
}

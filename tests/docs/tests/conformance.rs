//! Both adapters of "Writing an adapter" pass the suite.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use larder_core::{Result, Storage, async_trait};
use larder_docs_tests::{full, minimal};
use larder_testkit::{Factory, Runner, Suite};

/// One shelf per space, for as long as the space is in use.
struct Shelves<S>(Mutex<HashMap<String, Arc<S>>>);

#[async_trait]
impl<S: Storage + Default + 'static> Factory for Shelves<S> {
    async fn open(&self, space: &str) -> Result<Arc<dyn Storage>> {
        let mut shelves = self.0.lock().unwrap();
        Ok(Arc::clone(shelves.entry(space.to_owned()).or_default()) as Arc<dyn Storage>)
    }

    async fn remove(&self, space: &str) -> Result<()> {
        self.0.lock().unwrap().remove(space);
        Ok(())
    }
}

fn shelves<S>() -> Shelves<S> {
    Shelves(Mutex::default())
}

fn main() {
    Runner::new()
        .suite(Suite::new("minimal", shelves::<minimal::Shelf>()))
        .suite(Suite::new("full", shelves::<full::Shelf>()))
        .main()
}

//! The memory storage: the conformance suite without bounds, and within bounds that it does not
//! reach.

#![allow(clippy::unwrap_used)]

use std::{collections::HashMap, sync::Mutex};

use larder_core::{Error, Store, async_trait};
use larder_memory::MemoryStorage;
use larder_testkit::{Factory, Runner, Suite};

/// Stores by name, each from one URL. A name that is opened again gives a clone; once that is closed, it
/// gives an empty store.
struct Spaces {
    url: &'static str,
    stores: Mutex<HashMap<String, Store>>,
}

#[async_trait]
impl Factory for Spaces {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        let known = self.stores.lock().unwrap().get(space).cloned();
        if let Some(store) = known
            && store.ping().await.is_ok()
        {
            return Ok(store);
        }
        let store = MemoryStorage::connect(self.url).await?;
        self.stores.lock().unwrap().insert(space.to_owned(), store.clone());
        Ok(store)
    }
}

fn suite(name: &str, url: &'static str) -> Suite<Spaces> {
    Suite::new(name, Spaces { url, stores: Mutex::default() })
}

fn main() {
    Runner::new()
        .suite(suite("memory", "memory:"))
        .suite(suite("memory_refusing", "memory:?max_entries=50000&max_bytes=20000000&sweep=off"))
        .suite(suite(
            "memory_evicting",
            "memory:?max_entries=50000&max_bytes=20000000&when_full=evict&sweep=off",
        ))
        .main()
}

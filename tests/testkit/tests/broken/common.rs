//! Memory stores by name.

use std::{collections::HashMap, sync::Mutex};

use larder_core::{Error, Store, async_trait};
use larder_memory::MemoryStorage;
use larder_testkit::Factory;

/// Memory stores by name. Opening a name again returns a clone, or an empty store after the first one was closed.
#[derive(Debug, Default)]
pub(crate) struct Spaces(Mutex<HashMap<String, Store>>);

impl Spaces {
    /// Returns the store with this name.
    pub(crate) async fn store(&self, space: &str) -> Store {
        let known = self.0.lock().unwrap().get(space).cloned();
        if let Some(store) = known
            && store.ping().await.is_ok()
        {
            return store;
        }
        let store = Store::from(MemoryStorage::new());
        self.0.lock().unwrap().insert(space.to_owned(), store.clone());
        store
    }
}

#[async_trait]
impl Factory for Spaces {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        Ok(self.store(space).await)
    }
}

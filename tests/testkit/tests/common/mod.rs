//! What the tests of the suite share.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use larder_core::{Error, Storage, async_trait};
use larder_memory::MemoryStorage;
use larder_testkit::Factory;

/// Memory storages by name: opened again, a name gives a clone, or, once closed, an empty one.
#[derive(Debug, Default)]
pub(crate) struct Spaces(Mutex<HashMap<String, MemoryStorage>>);

impl Spaces {
    /// The storage of that name.
    pub(crate) async fn storage(&self, space: &str) -> MemoryStorage {
        let known = self.0.lock().unwrap().get(space).cloned();
        if let Some(storage) = known
            && storage.ping().await.is_ok()
        {
            return storage;
        }
        let storage = MemoryStorage::new();
        self.0.lock().unwrap().insert(space.to_owned(), storage.clone());
        storage
    }
}

#[async_trait]
impl Factory for Spaces {
    async fn open(&self, space: &str) -> Result<Arc<dyn Storage>, Error> {
        Ok(Arc::new(self.storage(space).await))
    }
}

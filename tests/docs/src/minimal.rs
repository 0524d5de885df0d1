//! An adapter of three methods.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use larder_core::{
    Bytes, DeleteOptions, Info, Key, ReadOptions, Record, Result, Storage, Store, WriteOptions, Written,
    async_trait,
};

/// Entries in a map.
#[derive(Default)]
pub struct Shelf {
    entries: Mutex<HashMap<Key, Bytes>>,
}

impl Shelf {
    /// Opens an empty shelf.
    #[must_use]
    pub fn open() -> Store {
        Store::from(Self::default())
    }
}

#[async_trait]
impl Storage for Shelf {
    fn info(&self) -> Info {
        Info::minimal("shelf")
    }

    async fn read(&self, key: &Key, _: &ReadOptions) -> Result<Option<Record>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(entries.get(key).cloned().map(Record::new))
    }

    async fn write(&self, key: &Key, value: Bytes, _: &WriteOptions) -> Result<Written> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.insert(key.clone(), Bytes::copy_from_slice(&value));
        Ok(Written::default())
    }

    async fn delete(&self, key: &Key, _: &DeleteOptions) -> Result<bool> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(entries.remove(key).is_some())
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}

//! An adapter of three methods.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use larder_core::{Bytes, Error, Expiry, Key, Operation, Record, Result, Storage, async_trait};

/// Entries in a map.
#[derive(Default)]
pub struct Shelf {
    entries: Mutex<HashMap<Key, Bytes>>,
}

#[async_trait]
impl Storage for Shelf {
    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(entries.get(key).cloned().map(Record::new))
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        if expiry != Expiry::Never {
            return Err(Error::unsupported().with_adapter("shelf").with_operation(Operation::Write));
        }
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.insert(key.clone(), Bytes::copy_from_slice(&value));
        Ok(())
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(entries.remove(key).is_some())
    }

    fn name(&self) -> &'static str {
        "shelf"
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}

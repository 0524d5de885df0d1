//! Three methods and nothing more.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
};

use larder_core::{Bytes, Error, Expiry, Key, Operation, Record, Result, Storage, async_trait};

/// The example of the trait's documentation, with a `Debug` that prints no values.
#[derive(Clone, Default)]
pub(crate) struct Shelf(Arc<Mutex<HashMap<Key, Bytes>>>);

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}

#[async_trait]
impl Storage for Shelf {
    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        Ok(self.0.lock().unwrap().get(key).cloned().map(Record::new))
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        if expiry != Expiry::Never {
            return Err(Error::unsupported().with_adapter("shelf").with_operation(Operation::Write));
        }
        self.0.lock().unwrap().insert(key.clone(), Bytes::copy_from_slice(&value));
        Ok(())
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        Ok(self.0.lock().unwrap().remove(key).is_some())
    }
}

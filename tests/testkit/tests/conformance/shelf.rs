//! A storage with only the three required methods.

use std::{collections::HashMap, sync::Mutex};

use larder_core::{
    Bytes, DeleteOptions, Key, ReadOptions, Record, Result, Storage, WriteOptions, Written, async_trait,
};

/// The example in the documentation of `Storage`.
#[derive(Default)]
pub(crate) struct Shelf(Mutex<HashMap<Key, Bytes>>);

#[async_trait]
impl Storage for Shelf {
    async fn read(&self, key: &Key, _: &ReadOptions) -> Result<Option<Record>> {
        Ok(self.0.lock().unwrap().get(key).cloned().map(Record::new))
    }

    async fn write(&self, key: &Key, value: Bytes, _: &WriteOptions) -> Result<Written> {
        self.0.lock().unwrap().insert(key.clone(), Bytes::copy_from_slice(&value));
        Ok(Written::default())
    }

    async fn delete(&self, key: &Key, _: &DeleteOptions) -> Result<bool> {
        Ok(self.0.lock().unwrap().remove(key).is_some())
    }
}

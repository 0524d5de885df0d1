//! A storage with none of the optional abilities.

use larder_core::{
    Bytes, DeleteOptions, Key, ReadOptions, Record, Result, Storage, WriteOptions, Written, async_trait,
};

/// Has no expiry, compare-and-swap or listing, and stores nothing.
#[derive(Debug)]
pub(crate) struct Minimal;

#[async_trait]
impl Storage for Minimal {
    async fn read(&self, _: &Key, _: &ReadOptions) -> Result<Option<Record>> {
        Ok(None)
    }

    async fn write(&self, _: &Key, _: Bytes, _: &WriteOptions) -> Result<Written> {
        Ok(Written::default())
    }

    async fn delete(&self, _: &Key, _: &DeleteOptions) -> Result<bool> {
        Ok(false)
    }
}

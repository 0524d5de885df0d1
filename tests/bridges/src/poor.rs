//! A storage with only the required methods.

use larder_core::{
    Bytes, DeleteOptions, Key, ReadOptions, Record, Result, Storage, WriteOptions, Written, async_trait,
};
use larder_memory::MemoryStorage;

/// Supports read, write and delete, but neither expiry nor compare-and-swap.
#[derive(Clone, Debug, Default)]
pub struct Poor(MemoryStorage);

#[async_trait]
impl Storage for Poor {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let record = Storage::read(&self.0, key, options).await?;
        Ok(record.map(|record| Record::new(record.value)))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        Storage::write(&self.0, key, value, options).await?;
        Ok(Written::default())
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        Storage::delete(&self.0, key, options).await
    }
}

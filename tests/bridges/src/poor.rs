//! A storage that can no more than it must.

use larder::{Bytes, Expiry, Key, Record, Result, Storage, async_trait};
use larder_memory::MemoryStorage;

/// Reads, writes and deletes, and no more: no expiry, no compare-and-swap.
#[derive(Clone, Debug, Default)]
pub struct Poor(MemoryStorage);

#[async_trait]
impl Storage for Poor {
    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        Ok(self.0.read(key).await?.map(|record| Record::new(record.value)))
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.0.write(key, value, expiry).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.0.delete(key).await
    }
}

//! A storage that is not enough.

use larder_core::{Bytes, Expiry, Key, Record, Result, Storage, async_trait};

/// Three methods, and no expiry.
#[derive(Debug)]
pub(crate) struct Poor;

#[async_trait]
impl Storage for Poor {
    async fn read(&self, _: &Key) -> Result<Option<Record>> {
        Ok(None)
    }

    async fn write(&self, _: &Key, _: Bytes, _: Expiry) -> Result<()> {
        Ok(())
    }

    async fn delete(&self, _: &Key) -> Result<bool> {
        Ok(false)
    }
}

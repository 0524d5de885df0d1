//! A storage that only claims abilities.

use larder_core::{
    Bytes, DeleteOptions, Info, Key, ReadOptions, Record, Result, Storage, WriteOptions, Written, async_trait,
};

/// A storage that claims the given capabilities, and stores nothing.
#[derive(Debug)]
pub struct Claims(pub Info);

#[async_trait]
impl Storage for Claims {
    async fn read(&self, _: &Key, _: &ReadOptions) -> Result<Option<Record>> {
        Ok(None)
    }

    async fn write(&self, _: &Key, _: Bytes, _: &WriteOptions) -> Result<Written> {
        Ok(Written::default())
    }

    async fn delete(&self, _: &Key, _: &DeleteOptions) -> Result<bool> {
        Ok(false)
    }

    fn info(&self) -> Info {
        self.0
    }
}

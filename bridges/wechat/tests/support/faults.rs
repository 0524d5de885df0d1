//! Storages that fail.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use larder_core::{
    Bytes, Capabilities, Condition, Error, ErrorKind, Expiry, Key, Record, Result, Storage, Version,
    async_trait,
};
use larder_memory::MemoryStorage;

/// Memory that can be out of reach: for reads, for writes, or for both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flaky {
    memory: MemoryStorage,
    pub(crate) no_reads: Arc<AtomicBool>,
    pub(crate) no_writes: Arc<AtomicBool>,
}

fn check(broken: &AtomicBool) -> Result<()> {
    if broken.load(Ordering::SeqCst) {
        return Err(Error::new(ErrorKind::Unavailable, "the server is gone"));
    }
    Ok(())
}

#[async_trait]
impl Storage for Flaky {
    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        check(&self.no_reads)?;
        self.memory.read(key).await
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        check(&self.no_writes)?;
        self.memory.write(key, value, expiry).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        check(&self.no_writes)?;
        self.memory.delete(key).await
    }

    fn capabilities(&self) -> Capabilities {
        self.memory.capabilities()
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        check(&self.no_writes)?;
        self.memory.write_if(key, value, expiry, condition).await
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        check(&self.no_writes)?;
        self.memory.delete_if(key, version).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        check(&self.no_writes)?;
        self.memory.touch(key, expiry).await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        check(&self.no_reads)?;
        self.memory.ttl(key).await
    }
}

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

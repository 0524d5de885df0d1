//! Storages that are wrong in one way: a memory storage and a twist.

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use larder_core::{
    Bytes, Capabilities, Condition, EntryStream, Error, Expiry, Key, KeyStream, Record, Result, Storage,
    Version, Write, async_trait,
};
use larder_memory::MemoryStorage;
use larder_testkit::{Factory, Line};

use crate::common::Spaces;

/// What a broken storage does differently; what it does not say it does right.
#[async_trait]
pub(crate) trait Twist: Send + Sync + Sized + 'static {
    fn capabilities(&self, inner: &MemoryStorage) -> Capabilities {
        inner.capabilities()
    }

    /// How the handle prints itself.
    fn print(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Broken")
    }

    /// The line that its handle's changes go over, for a storage that claims to be fenced.
    fn line(self: &Arc<Self>) -> Option<Arc<dyn Line>> {
        None
    }

    fn keys<'a>(&'a self, inner: &'a MemoryStorage, prefix: &'a str) -> KeyStream<'a> {
        inner.keys(prefix)
    }

    fn entries<'a>(&'a self, inner: &'a MemoryStorage, prefix: &'a str) -> EntryStream<'a> {
        inner.entries(prefix)
    }

    async fn read(&self, inner: &MemoryStorage, key: &Key) -> Result<Option<Record>> {
        inner.read(key).await
    }

    async fn write(&self, inner: &MemoryStorage, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        inner.write(key, value, expiry).await
    }

    async fn delete(&self, inner: &MemoryStorage, key: &Key) -> Result<bool> {
        inner.delete(key).await
    }

    async fn write_if(
        &self,
        inner: &MemoryStorage,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        inner.write_if(key, value, expiry, condition).await
    }

    async fn delete_if(&self, inner: &MemoryStorage, key: &Key, version: &Version) -> Result<()> {
        inner.delete_if(key, version).await
    }

    async fn touch(&self, inner: &MemoryStorage, key: &Key, expiry: Expiry) -> Result<bool> {
        inner.touch(key, expiry).await
    }

    async fn ttl(&self, inner: &MemoryStorage, key: &Key) -> Result<Option<Expiry>> {
        inner.ttl(key).await
    }

    async fn contains(&self, inner: &MemoryStorage, key: &Key) -> Result<bool> {
        inner.contains(key).await
    }

    async fn read_many(&self, inner: &MemoryStorage, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        inner.read_many(keys).await
    }

    async fn write_many(&self, inner: &MemoryStorage, writes: &[Write]) -> Result<()> {
        inner.write_many(writes).await
    }

    async fn delete_many(&self, inner: &MemoryStorage, keys: &[Key]) -> Result<u64> {
        inner.delete_many(keys).await
    }

    async fn clear(&self, inner: &MemoryStorage, prefix: &str) -> Result<u64> {
        inner.clear(prefix).await
    }

    async fn purge_expired(&self, inner: &MemoryStorage) -> Result<u64> {
        inner.purge_expired().await
    }

    async fn ping(&self, inner: &MemoryStorage) -> Result<()> {
        inner.ping().await
    }

    async fn flush(&self, inner: &MemoryStorage) -> Result<()> {
        inner.flush().await
    }

    async fn close(&self, inner: &MemoryStorage) -> Result<()> {
        inner.close().await
    }
}

/// A memory storage with a twist.
pub(crate) struct Broken<T> {
    inner: MemoryStorage,
    twist: Arc<T>,
}

impl<T: Twist> fmt::Debug for Broken<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.twist.print(f)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Twist> Storage for Broken<T> {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn capabilities(&self) -> Capabilities {
        self.twist.capabilities(&self.inner)
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        self.twist.keys(&self.inner, prefix)
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        self.twist.entries(&self.inner, prefix)
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.twist.read(&self.inner, key).await
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.twist.write(&self.inner, key, value, expiry).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.twist.delete(&self.inner, key).await
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        self.twist.write_if(&self.inner, key, value, expiry, condition).await
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        self.twist.delete_if(&self.inner, key, version).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        self.twist.touch(&self.inner, key, expiry).await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        self.twist.ttl(&self.inner, key).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.twist.contains(&self.inner, key).await
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        self.twist.read_many(&self.inner, keys).await
    }

    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        self.twist.write_many(&self.inner, writes).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        self.twist.delete_many(&self.inner, keys).await
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        self.twist.clear(&self.inner, prefix).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.twist.purge_expired(&self.inner).await
    }

    async fn ping(&self) -> Result<()> {
        self.twist.ping(&self.inner).await
    }

    async fn flush(&self) -> Result<()> {
        self.twist.flush(&self.inner).await
    }

    async fn close(&self) -> Result<()> {
        self.twist.close(&self.inner).await
    }
}

/// Opens memory storages with a twist. All handles share one; a space is a storage of its own,
/// unless the twist is that it is not.
pub(crate) struct BrokenSpaces<T, M> {
    spaces: Spaces,
    made: Mutex<std::collections::HashMap<String, Arc<T>>>,
    make: M,
}

impl<T: Twist, M: Fn() -> T + Send + Sync + 'static> BrokenSpaces<T, M> {
    pub(crate) fn new(make: M) -> Self {
        Self { spaces: Spaces::default(), made: Mutex::default(), make }
    }
}

#[async_trait]
impl<T: Twist, M: Fn() -> T + Send + Sync + 'static> Factory for BrokenSpaces<T, M> {
    async fn open(&self, space: &str) -> Result<Arc<dyn Storage>, Error> {
        let inner = self.spaces.storage(space).await;
        let mut made = self.made.lock().unwrap();
        let twist = Arc::clone(made.entry(space.to_owned()).or_insert_with(|| Arc::new((self.make)())));
        Ok(Arc::new(Broken { inner, twist }))
    }

    async fn open_over_line(&self, space: &str) -> Result<Option<(Arc<dyn Storage>, Arc<dyn Line>)>, Error> {
        let twist = Arc::new((self.make)());
        let Some(line) = twist.line() else { return Ok(None) };
        let inner = self.spaces.storage(space).await;
        Ok(Some((Arc::new(Broken { inner, twist }), line)))
    }
}

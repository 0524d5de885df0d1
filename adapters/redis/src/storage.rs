//! The storage.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use larder_core::{
    Capabilities, Condition, EntryStream, Expiry, Key, KeyStream, Operation, Purge, Record, Result, Storage,
    Version, Versions, Write,
};

use crate::{
    Connection, RedisBuilder,
    driver::{Driver, MAX_VALUE},
    error::NAME,
};

/// A storage on Redis or Valkey.
///
/// Cheap to clone; clones share one connection.
#[derive(Clone)]
pub struct RedisStorage {
    driver: Arc<Driver>,
    kind: &'static str,
}

impl RedisStorage {
    /// Connects to the server or servers that `url` names. For the forms of URL and the options see
    /// the [crate's documentation](crate).
    ///
    /// ```no_run
    /// # async fn example() -> larder_core::Result<()> {
    /// use larder_redis::RedisStorage;
    ///
    /// let storage = RedisStorage::connect("redis://localhost/0?prefix=shop-bot").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`RedisBuilder::from_url`] and [`RedisBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        RedisBuilder::from_url(url)?.connect().await
    }

    /// A builder for the server or servers that `url` names.
    ///
    /// # Errors
    ///
    /// As [`RedisBuilder::from_url`].
    pub fn builder(url: &str) -> Result<RedisBuilder> {
        RedisBuilder::from_url(url)
    }

    /// A storage on a connection of your own, with the prefix `larder`; see
    /// [`RedisBuilder::with_connection`].
    ///
    /// # Errors
    ///
    /// None so far.
    pub fn with_connection(connection: impl Into<Connection>) -> Result<Self> {
        RedisBuilder::new().with_connection(connection)
    }

    pub(crate) fn new(driver: Driver, kind: &'static str) -> Self {
        Self { driver: Arc::new(driver), kind }
    }
}

fn named<T>(result: Result<T>, operation: Operation) -> Result<T> {
    result.map_err(|error| error.with_adapter(NAME).with_operation(operation))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for RedisStorage {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let capabilities = Capabilities::minimal()
            .with_expiry()
            .with_versions(Versions::Content)
            .with_repeating_listing()
            .with_persistence()
            .with_sharing()
            .with_purge(Purge::Store)
            .with_max_value(MAX_VALUE as u64);
        if self.driver.link.is_fenced() { capabilities.with_fencing() } else { capabilities }
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        named(self.driver.read(key).await, Operation::Read)
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        named(self.driver.write(key, &value, expiry).await, Operation::Write)
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        named(self.driver.delete(key).await, Operation::Delete)
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        named(self.driver.write_if(key, value, expiry, &condition).await, Operation::WriteIf)
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        named(self.driver.delete_if(key, version).await, Operation::DeleteIf)
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        named(self.driver.touch(key, expiry).await, Operation::Touch)
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        named(self.driver.ttl(key).await, Operation::Ttl)
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        named(self.driver.contains(key).await, Operation::Contains)
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        named(self.driver.read_many(keys).await, Operation::ReadMany)
    }

    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        named(self.driver.write_many(writes).await, Operation::WriteMany)
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        named(self.driver.delete_many(keys).await, Operation::DeleteMany)
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        self.driver.keys(prefix)
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        self.driver.entries(prefix)
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        named(self.driver.clear(prefix).await, Operation::Clear)
    }

    async fn purge_expired(&self) -> Result<u64> {
        // The server does it by itself.
        self.driver.link.check_open(Operation::PurgeExpired).map(|()| 0)
    }

    async fn ping(&self) -> Result<()> {
        named(self.driver.ping().await, Operation::Ping)
    }

    async fn flush(&self) -> Result<()> {
        // What is acknowledged is with the server; when it goes to disk is `appendfsync`'s say.
        self.driver.link.check_open(Operation::Flush)
    }

    async fn close(&self) -> Result<()> {
        self.driver.link.close();
        Ok(())
    }
}

impl fmt::Debug for RedisStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStorage").field("place", &self.kind).finish_non_exhaustive()
    }
}

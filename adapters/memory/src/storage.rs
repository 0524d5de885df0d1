//! The storage.

use std::sync::Arc;

use futures_util::{StreamExt, stream};
use larder_core::{
    Bytes, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions, Purge, ReadOptions, Record, Result,
    Storage, Store, TouchOptions, Versions, WriteOptions, Written, async_trait,
};
use larder_kit::Sweeper;

use crate::{
    config::{MemoryBuilder, NAME},
    table::Table,
};

/// Entries in this process's memory. A clone is another handle on the same entries.
///
/// See the [crate's documentation](crate) for what it does. An operation never waits, so a future is done
/// once it was polled. No operation needs a runtime.
#[derive(Clone, Debug)]
pub struct MemoryStorage {
    table: Arc<Table>,
    sweeper: Arc<Sweeper>,
}

impl MemoryStorage {
    /// An empty storage with no bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::open(&MemoryBuilder::new())
    }

    /// The options; [`MemoryBuilder::build`] makes the store.
    #[must_use]
    pub fn builder() -> MemoryBuilder {
        MemoryBuilder::new()
    }

    /// An empty store with the options of the URL: `memory:`, with [options](crate#url).
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the URL is wrong.
    pub async fn connect(url: &str) -> Result<Store> {
        MemoryBuilder::from_url(url)?.build()
    }

    /// An empty storage with these options, for its [`len`](Self::len).
    ///
    /// # Errors
    ///
    /// As [`MemoryBuilder::build`].
    pub fn with(builder: &MemoryBuilder) -> Result<Self> {
        builder.check()?;
        Ok(Self::open(builder))
    }

    /// How many entries are in memory, including expired ones that have not been removed yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no entries are in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn open(builder: &MemoryBuilder) -> Self {
        let table = Arc::new(Table::new(builder.clone()));
        let purge = |table: Arc<Table>| async move { Ok(table.purge()) };
        let sweeper = Sweeper::start(NAME, Arc::downgrade(&table), builder.sweep, purge);
        Self { table, sweeper: Arc::new(sweeper) }
    }

    /// The table. The sweeper starts with the first operation within a runtime.
    fn table(&self) -> &Table {
        self.sweeper.ensure_running();
        &self.table
    }
}

impl MemoryBuilder {
    /// Makes an empty store.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if a bound is so low that nothing fits,
    /// or if the interval of the sweeper is zero.
    pub fn build(self) -> Result<Store> {
        MemoryStorage::with(&self).map(Store::from)
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Storage for MemoryStorage {
    fn info(&self) -> Info {
        let info = Info::minimal(NAME)
            .with_expiry()
            .with_versions(Versions::Unique)
            .with_listing()
            .with_purge(Purge::Sweep);
        match self.table.limits.max_value() {
            Some(bytes) => info.with_max_value(bytes),
            None => info,
        }
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        Ok(self.table().read(key, options))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.table().write(key, &value, options.expiry, &options.condition)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.table().delete(key, &options.condition)
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.table().touch(key, expiry, &options.condition)
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        let entries = Arc::clone(&self.table).list(options);
        stream::iter(entries.map(Ok)).boxed()
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        Ok(self.table.clear(prefix))
    }

    async fn purge_expired(&self) -> Result<u64> {
        Ok(self.table.purge())
    }

    async fn close(&self) -> Result<()> {
        self.sweeper.stop();
        self.table.release();
        Ok(())
    }
}

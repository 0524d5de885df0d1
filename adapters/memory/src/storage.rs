//! The storage.

use std::{fmt, iter, process, sync::Arc};

use futures_util::{StreamExt, stream};
use larder_core::{
    Bytes, DeleteOptions, Entry, EntryStream, Expiry, Info, Key, ListOptions, Location, Purge, ReadOptions,
    Record, Result, Storage, Store, TouchOptions, Versions, WriteOptions, Written, async_trait,
};
use larder_kit::Configure;
use parking_lot::RwLock;

use crate::{
    config::Config,
    table::{PAGE, Table},
};

/// Entries in the memory of the process. A clone is another handle on the same entries.
///
/// See the [crate's documentation](crate) for its behavior. Operations never wait, so each future completes at its
/// first poll. No operation needs a runtime.
#[derive(Clone)]
pub struct MemoryStorage {
    table: Arc<Table>,
}

impl MemoryStorage {
    /// Makes an empty storage with the default options.
    #[must_use]
    pub fn new() -> Self {
        Self { table: Table::new(Config::new()) }
    }

    /// Makes an empty storage with these options.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if a limit is too low for even one entry.
    pub fn with(config: &Config) -> Result<Self> {
        config.check_options().map_err(Config::named)?;
        Ok(Self { table: Table::new(config.clone()) })
    }

    /// Returns the number of entries in memory, including expired entries that have not been removed yet.
    #[must_use]
    pub fn len(&self) -> usize {
        // Locks all maps at once: otherwise an evicted entry and the entry that replaces it could both be counted.
        let shards: Vec<_> = self.table.shards.iter().map(RwLock::read).collect();
        shards.iter().map(|shard| shard.rows.len()).sum()
    }

    /// Returns whether the storage has no entries in memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Config {
    /// Makes an empty store.
    ///
    /// # Errors
    ///
    /// Fails as [`MemoryStorage::with`] does.
    pub async fn connect(self) -> Result<Store> {
        MemoryStorage::with(&self).map(Store::from)
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("entries", &self.len()).finish_non_exhaustive()
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
        let mut info = Info::minimal(Config::ADAPTER)
            .with_expiry()
            .with_versions(Versions::Unique)
            .with_listing()
            .with_purge(Purge::Sweep);
        info.max_value = self.table.room.limits.max_value();
        info
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let shard = self.table.shard(key);
        let is_use = options.value && self.table.room.limits.evicts();
        if is_use || options.touch.is_some() {
            Ok(shard.write().read(key, options))
        } else {
            Ok(shard.read().peek(key, options.value, options.ttl))
        }
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        // Copied because `value` may be a slice of a larger buffer, which a clone would keep in memory.
        self.table.write(key, Bytes::copy_from_slice(&value), options)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let (existed, _removed) = self.table.shard(key).write().delete(key, &options.condition)?;
        Ok(existed)
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.table.shard(key).write().touch(key, expiry, &options.condition)
    }

    /// In no particular order. Takes a page of keys at a time, and reads each entry when the caller asks for it.
    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        let table = Arc::clone(&self.table);
        let values = options.values;
        let (mut shard, mut from) = (0, 0);
        let pages = iter::from_fn(move || {
            let shards = &table.shards;
            let (keys, next) = shards.get(shard)?.read().page(&options.prefix, from, options.page(PAGE));
            (shard, from) = next.map_or((shard + 1, 0), |next| (shard, next));
            Some(keys)
        });
        let entries = pages.flatten().filter_map(move |key| {
            let record = self.table.shard(&key).read().peek(&key, values, true)?;
            Some(if values { Entry::new(key, record) } else { Entry::key(key) })
        });
        stream::iter(entries.map(Ok)).boxed()
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        Ok(self.table.shards.iter().map(|shard| shard.write().clear(prefix)).sum())
    }

    async fn purge_expired(&self) -> Result<u64> {
        Ok(self.table.purge())
    }

    async fn location(&self) -> Result<Option<Location>> {
        let table = Arc::as_ptr(&self.table);
        Ok(Some(Location::new(format!("memory:{}/{table:p}", process::id()))))
    }

    async fn close(&self) -> Result<()> {
        self.table.sweeper.stop();
        for shard in &self.table.shards {
            shard.write().release();
        }
        Ok(())
    }
}

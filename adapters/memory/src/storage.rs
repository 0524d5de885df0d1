//! The storage.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use larder_core::{
    Capabilities, Condition, EntryStream, Error, Expiry, Failure, Key, KeyStream, Operation, Purge, Record,
    Result, Storage, Version, Versions, Write, async_trait,
};
use larder_layers::Sweeper;

use crate::{
    config::MemoryBuilder,
    store::{Slot, Store},
    walk::Walk,
};

pub(crate) const NAME: &str = "memory";

/// Entries in this process's memory. Cloning gives another handle on the same entries.
///
/// See the [crate's documentation](crate) for what it does. An operation never waits, so that a
/// future that was polled once is done; none needs a runtime.
#[derive(Clone)]
pub struct MemoryStorage {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<Store>,
    sweeper: Option<Sweeper>,
}

impl MemoryStorage {
    /// An empty storage with no bounds.
    #[must_use]
    pub fn new() -> Self {
        Self::with(MemoryBuilder::new())
    }

    /// For the rest.
    #[must_use]
    pub const fn builder() -> MemoryBuilder {
        MemoryBuilder::new()
    }

    /// An empty storage as the URL says: `memory:`, with [options](crate#url).
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if something about the URL is wrong.
    pub async fn connect(url: &str) -> Result<Self> {
        MemoryBuilder::from_url(url)?.build()
    }

    /// How many entries are in memory, expired ones that nobody has removed yet included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.store.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn with(builder: MemoryBuilder) -> Self {
        let store = Arc::new(Store::new(&builder));
        let sweeper = builder.sweep.map(|every| Sweeper::start(Arc::downgrade(&store), every));
        Self { shared: Arc::new(Shared { store, sweeper }) }
    }

    /// The store, if it is open.
    fn store(&self, operation: Operation) -> Result<&Store> {
        self.shared.store.check_open(operation)?;
        Ok(&self.shared.store)
    }

    /// Something with that expiry is stored: somebody has to remove it.
    fn will_expire(&self, expiry: Expiry) {
        if let (Some(sweeper), Expiry::After(_)) = (&self.shared.sweeper, expiry) {
            sweeper.ensure_running();
        }
    }
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for MemoryStorage {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let capabilities = Capabilities::minimal()
            .with_expiry()
            .with_versions(Versions::Unique)
            .with_listing()
            .with_purge(Purge::Sweep);
        match self.shared.store.max_value() {
            Some(most) => capabilities.with_max_value(most),
            None => capabilities,
        }
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        Ok(self.store(Operation::Read)?.get(key))
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.store(Operation::Write)?.put(key, &value, expiry, None, Operation::Write)?;
        self.will_expire(expiry);
        Ok(())
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.store(Operation::Delete)?.remove(key, None, Operation::Delete)
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        let store = self.store(Operation::WriteIf)?;
        let version = store.put(key, &value, expiry, Some(&condition), Operation::WriteIf)?;
        self.will_expire(expiry);
        Ok(version)
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        self.store(Operation::DeleteIf)?.remove(key, Some(version), Operation::DeleteIf).map(drop)
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        let there = self.store(Operation::Touch)?.touch(key, expiry);
        self.will_expire(expiry);
        Ok(there)
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        Ok(self.store(Operation::Ttl)?.look(key, false, Slot::left))
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        Ok(self.store(Operation::Contains)?.look(key, false, |_, _| ()).is_some())
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        let store = self.store(Operation::ReadMany)?;
        Ok(keys.iter().map(|key| store.get(key)).collect())
    }

    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        let store = self.store(Operation::WriteMany)?;
        let mut failures = Vec::new();
        for (index, write) in writes.iter().enumerate() {
            match store.put(&write.key, &write.value, write.expiry, None, Operation::WriteMany) {
                Ok(_) => self.will_expire(write.expiry),
                Err(error) => failures.push(Failure::new(index, error)),
            }
        }
        if failures.is_empty() {
            return Ok(());
        }
        let error = Error::partial(failures, writes.len());
        Err(error.with_adapter(NAME).with_operation(Operation::WriteMany))
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        let store = self.store(Operation::DeleteMany)?;
        let mut deleted = 0;
        for key in keys {
            deleted += u64::from(store.remove(key, None, Operation::DeleteMany)?);
        }
        Ok(deleted)
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        let walk = Walk::new(&self.shared.store, prefix, Operation::Keys);
        stream::try_unfold(walk, |mut walk| async { Ok(walk.next_key()?.map(|key| (key, walk))) }).boxed()
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        let walk = Walk::new(&self.shared.store, prefix, Operation::Entries);
        stream::try_unfold(walk, |mut walk| async { Ok(walk.next_entry()?.map(|entry| (entry, walk))) })
            .boxed()
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        Ok(self.store(Operation::Clear)?.clear(prefix))
    }

    async fn purge_expired(&self) -> Result<u64> {
        Ok(self.store(Operation::PurgeExpired)?.purge())
    }

    async fn ping(&self) -> Result<()> {
        self.store(Operation::Ping).map(drop)
    }

    async fn flush(&self) -> Result<()> {
        self.store(Operation::Flush).map(drop)
    }

    async fn close(&self) -> Result<()> {
        if let Some(sweeper) = &self.shared.sweeper {
            sweeper.stop();
        }
        self.shared.store.shut();
        Ok(())
    }
}

impl fmt::Debug for MemoryStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStorage").field("store", &self.shared.store).finish_non_exhaustive()
    }
}

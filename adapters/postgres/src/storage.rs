//! The storage.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{StreamExt, stream};
use larder_core::{
    Bytes, Capabilities, Condition, EntryStream, Error, ErrorKind, Expiry, Key, KeyStream, Operation, Record,
    Result, Storage, Version, Write, async_trait,
};
use larder_layers::Sweeper;

use crate::{NAME, PostgresBuilder};

/// Entries in a table of a PostgreSQL database. Clones share everything.
#[derive(Clone)]
pub struct PostgresStorage {
    shared: Arc<Shared>,
}

struct Shared {
    /// The table, behind group commit where that is on.
    storage: Arc<dyn Storage>,
    sweeper: Option<Sweeper>,
    closed: AtomicBool,
    /// Whether a close has come to its end; one dropped midway leaves the rest to the next.
    ended: AtomicBool,
}

impl PostgresStorage {
    /// Connects to the server at `url` and makes the table if it is not there:
    /// [`PostgresBuilder::from_url`] and [`PostgresBuilder::connect`].
    ///
    /// # Errors
    ///
    /// As theirs.
    pub async fn connect(url: &str) -> Result<Self> {
        PostgresBuilder::from_url(url)?.connect().await
    }

    /// Connects to the server at `url` and opens the table if it is there, without changing anything:
    /// [`PostgresBuilder::from_url`] and [`PostgresBuilder::existing`].
    ///
    /// # Errors
    ///
    /// As those of [`connect`](Self::connect); [`InvalidConfig`](ErrorKind::InvalidConfig) also if
    /// there is no such table or schema.
    pub async fn connect_existing(url: &str) -> Result<Self> {
        PostgresBuilder::from_url(url)?.existing().connect().await
    }

    pub(crate) fn new(storage: Arc<dyn Storage>, sweeper: Option<Sweeper>) -> Self {
        let (closed, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { shared: Arc::new(Shared { storage, sweeper, closed, ended }) }
    }

    fn open(&self, operation: Operation) -> Result<&dyn Storage> {
        if self.is_closed() {
            return Err(Error::closed().with_adapter(NAME).with_operation(operation));
        }
        if let Some(sweeper) = &self.shared.sweeper {
            sweeper.ensure_running();
        }
        Ok(&*self.shared.storage)
    }

    fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Acquire)
    }

    fn named(&self, error: Error, operation: Operation) -> Error {
        // What was under way when the pool closed.
        if self.is_closed() && error.kind() == ErrorKind::Unavailable {
            return Error::closed().with_adapter(NAME).with_operation(operation);
        }
        error.with_adapter(NAME).with_operation(operation)
    }
}

impl fmt::Debug for PostgresStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStorage")
            .field("storage", &self.shared.storage)
            .field("sweeper", &self.shared.sweeper)
            .field("closed", &self.is_closed())
            .finish()
    }
}

macro_rules! forward {
    ($self:ident, $operation:ident, $method:ident($($argument:expr),*)) => {{
        let storage = $self.open(Operation::$operation)?;
        storage.$method($($argument),*).await.map_err(|error| $self.named(error, Operation::$operation))
    }};
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for PostgresStorage {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        self.shared.storage.capabilities()
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        forward!(self, Read, read(key))
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        forward!(self, Write, write(key, value, expiry))
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        forward!(self, Delete, delete(key))
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        forward!(self, WriteIf, write_if(key, value, expiry, condition))
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        forward!(self, DeleteIf, delete_if(key, version))
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        forward!(self, Touch, touch(key, expiry))
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        forward!(self, Ttl, ttl(key))
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        forward!(self, Contains, contains(key))
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        forward!(self, ReadMany, read_many(keys))
    }

    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        forward!(self, WriteMany, write_many(writes))
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        forward!(self, DeleteMany, delete_many(keys))
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        match self.open(Operation::Keys) {
            Ok(storage) => storage
                .keys(prefix)
                .map(|key| key.map_err(|error| self.named(error, Operation::Keys)))
                .boxed(),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        match self.open(Operation::Entries) {
            Ok(storage) => storage
                .entries(prefix)
                .map(|entry| entry.map_err(|error| self.named(error, Operation::Entries)))
                .boxed(),
            Err(error) => stream::once(async { Err(error) }).boxed(),
        }
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        forward!(self, Clear, clear(prefix))
    }

    async fn purge_expired(&self) -> Result<u64> {
        forward!(self, PurgeExpired, purge_expired())
    }

    async fn ping(&self) -> Result<()> {
        forward!(self, Ping, ping())
    }

    async fn flush(&self) -> Result<()> {
        forward!(self, Flush, flush())
    }

    async fn close(&self) -> Result<()> {
        self.shared.closed.store(true, Ordering::Release);
        if self.shared.ended.load(Ordering::Acquire) {
            return Ok(());
        }
        if let Some(sweeper) = &self.shared.sweeper {
            sweeper.stop();
        }
        self.shared.storage.close().await.map_err(|error| self.named(error, Operation::Close))?;
        self.shared.ended.store(true, Ordering::Release);
        Ok(())
    }
}

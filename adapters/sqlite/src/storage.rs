//! The storage.

use std::{fmt, sync::Arc};

use larder_core::{
    Bytes, Capabilities, Condition, EntryStream, Expiry, Key, KeyStream, Purge, Record, Result, Storage,
    Version, Versions, Write, async_trait,
};
use larder_layers::{Coalesce, Sweeper};
use sqlx::ConnectOptions;

use crate::{
    config::{Mode, Place, SqliteBuilder, configuration},
    connections::{Connections, use_wal},
    database::Database,
    error::from_driver,
    schema,
    sql::{MAX_ROWS, Sql},
    value::MAX_VALUE,
};

/// A storage in an SQLite database. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct SqliteStorage {
    store: Arc<Coalesce<Database>>,
    sweeper: Option<Arc<Sweeper>>,
}

impl SqliteStorage {
    /// Opens the database that `url` names and sets up its table; see the crate's documentation for
    /// URLs and options.
    ///
    /// # Errors
    ///
    /// As [`SqliteBuilder::from_url`] and [`SqliteBuilder::connect`].
    pub async fn connect(url: &str) -> Result<Self> {
        SqliteBuilder::from_url(url)?.connect().await
    }

    /// To be set up in code.
    #[must_use]
    pub fn builder() -> SqliteBuilder {
        SqliteBuilder::new()
    }

    pub(crate) async fn open(builder: SqliteBuilder) -> Result<Self> {
        let Some(place) = &builder.place else {
            return Err(configuration(
                "the builder was not told where the database is: a file, memory or a pool",
            ));
        };
        let prepare = async |connection: &mut sqlx::SqliteConnection, setup| {
            schema::prepare(connection, &builder.table, builder.values, setup).await?;
            schema::is_in_memory(connection).await
        };
        let read_only = builder.mode == Mode::ReadOnly && matches!(place, Place::File(_));
        let (connections, in_memory) = match place {
            Place::Pool(pool) => {
                let mut connection = pool.acquire().await.map_err(from_driver)?;
                let in_memory = prepare(&mut connection, builder.setup).await?;
                (Connections::pool(pool.clone()), in_memory)
            }
            Place::Memory => {
                let mut connection = builder.connect_options(place).connect().await.map_err(from_driver)?;
                let in_memory = prepare(&mut connection, builder.setup).await?;
                (Connections::memory(connection), in_memory)
            }
            Place::File(_) => {
                let options = builder.connect_options(place);
                let mut connection = options.connect().await.map_err(from_driver)?;
                if !read_only {
                    use_wal(&mut connection, builder.busy_timeout).await?;
                }
                let in_memory = prepare(&mut connection, builder.setup && !read_only).await?;
                (Connections::file(options, connection, builder.readers), in_memory)
            }
        };
        let mut capabilities = Capabilities::minimal()
            .with_expiry()
            .with_versions(Versions::Unique)
            .with_listing()
            .with_purge(Purge::Sweep)
            .with_values(builder.values.values())
            .with_max_value(MAX_VALUE);
        if !in_memory {
            capabilities = capabilities.with_persistence().with_sharing();
        }
        let database =
            Database { connections, sql: Sql::new(&builder.table), values: builder.values, capabilities };
        let store = Arc::new(Coalesce::builder(database).max_batch(MAX_ROWS).build());
        let sweeper = builder
            .sweep
            .filter(|_| !read_only)
            .map(|every| Arc::new(Sweeper::start(Arc::downgrade(&store), every)));
        Ok(Self { store, sweeper })
    }

    /// Starts the sweeper if something is to expire: its runtime may have gone since the storage was
    /// opened.
    fn expires(&self, expiry: Expiry) {
        if let (Expiry::After(_), Some(sweeper)) = (expiry, &self.sweeper) {
            sweeper.ensure_running();
        }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for SqliteStorage {
    fn name(&self) -> &'static str {
        self.store.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.store.capabilities()
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.store.read(key).await
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.expires(expiry);
        self.store.write(key, value, expiry).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.store.delete(key).await
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        self.expires(expiry);
        self.store.write_if(key, value, expiry, condition).await
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        self.store.delete_if(key, version).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        self.expires(expiry);
        self.store.touch(key, expiry).await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        self.store.ttl(key).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.store.contains(key).await
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        self.store.read_many(keys).await
    }

    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        writes.iter().for_each(|write| self.expires(write.expiry));
        self.store.write_many(writes).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        self.store.delete_many(keys).await
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        self.store.keys(prefix)
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        self.store.entries(prefix)
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        self.store.clear(prefix).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.store.purge_expired().await
    }

    async fn ping(&self) -> Result<()> {
        self.store.ping().await
    }

    async fn flush(&self) -> Result<()> {
        self.store.flush().await
    }

    async fn close(&self) -> Result<()> {
        if let Some(sweeper) = &self.sweeper {
            sweeper.stop();
        }
        self.store.close().await
    }
}

impl fmt::Debug for SqliteStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStorage")
            .field("capabilities", &self.capabilities())
            .field("sweeper", &self.sweeper)
            .finish_non_exhaustive()
    }
}

//! The storage.

use std::{fmt, path::PathBuf, sync::Arc};

use larder_core::{
    Bytes, Capabilities, Condition, EntryStream, Error, ErrorKind, Expiry, Key, KeyStream, Operation, Purge,
    Record, Result, Storage, Version, Versions, Write, async_trait,
};
use larder_layers::{Coalesce, Sweeper};
use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    config::{Mode, Place, SqliteBuilder, configuration},
    connections::{Connections, use_wal},
    database::Database,
    error::{cannot_write, cause, from_driver},
    file::{self, Opened},
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

    /// Opens only what is there, as [`SqliteBuilder::existing`] has it: to look at a database without
    /// setting anything up in it.
    ///
    /// # Errors
    ///
    /// As [`connect`](SqliteStorage::connect); [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig)
    /// if there is no such file or table.
    pub async fn connect_existing(url: &str) -> Result<Self> {
        SqliteBuilder::from_url(url)?.existing().connect().await
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
        schema::check_name(&builder.table)?;
        if builder.permissions.is_some_and(|mode| !file::is_valid(mode)) {
            return Err(configuration(format!("`permissions` takes {}", file::PERMISSIONS_EXPECTED)));
        }
        let looks = builder.only_looks();
        let (connections, in_memory) = match place {
            Place::Pool(pool) => {
                let mut connection = pool.acquire().await.map_err(from_driver)?;
                prepare(&mut connection, &builder, false).await?;
                let file = schema::file(&mut connection).await?;
                let in_memory = file.is_none();
                // Where the pool's files are not those of the file system, they cannot be watched.
                let opened = file.and_then(|path| Opened::new(path, false).ok());
                (Connections::pool(pool.clone(), opened), in_memory)
            }
            Place::Memory => {
                let options = builder.connect_options().in_memory(true);
                let mut connection = options.connect().await.map_err(from_driver)?;
                prepare(&mut connection, &builder, false).await?;
                (Connections::memory(connection), true)
            }
            Place::File(path) => {
                // Resolved once: a later connection must open the same file.
                let path = std::path::absolute(path)
                    .map_err(|error| configuration("the path names no file").with_source(error))?;
                let (options, mut connection, opened) = open_file(&builder, path).await?;
                if let Err(error) = prepare(&mut connection, &builder, !looks).await {
                    // Awaited, so that the files beside the database are gone when the caller is told.
                    let _ = connection.close().await;
                    return Err(error);
                }
                (Connections::file(options, connection, opened, builder.readers), false)
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
            .filter(|_| !looks)
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

/// Opens the file for the first time. Only this makes one.
async fn open_file(
    builder: &SqliteBuilder,
    path: PathBuf,
) -> Result<(SqliteConnectOptions, SqliteConnection, Opened)> {
    let looks = builder.only_looks();
    if builder.mode == Mode::Create && builder.setup && !looks {
        file::create(&path, builder.permissions)?;
    }
    // Before the connection, to notice a file that takes its place in between.
    let opened = Opened::new(path.clone(), false)?;
    let options = builder.connect_options().filename(&path).read_only(builder.mode == Mode::ReadOnly);
    let error = match connect_and_read(&options).await {
        Ok(connection) => {
            opened.check(Operation::Connect)?;
            return Ok((options, connection, opened));
        }
        Err(error) if cannot_write(&error) && path.is_file() => error,
        Err(error) => return Err(from_driver(error)),
    };
    // The database is in write-ahead mode, and SQLite can neither find nor make its log. With no log
    // there is nothing to be read but the file.
    if !looks {
        let message = "the database or its directory is read-only; `mode=ro` reads it";
        return Err(Error::new(ErrorKind::PermissionDenied, message).with_source(cause(error)));
    }
    let opened = Opened::new(path.clone(), true)?;
    if file::has_log(&path) {
        let message = "a write-ahead log with a part of the database is beside it, and SQLite cannot read the two in a \
                       directory that it cannot write: close the database where it was written, or copy all of its \
                       files to a directory that can be written";
        return Err(configuration(message).with_source(cause(error)));
    }
    let options = options.read_only(true).immutable(true);
    let connection = connect_and_read(&options).await.map_err(from_driver)?;
    opened.check(Operation::Connect)?;
    Ok((options, connection, opened))
}

/// Connects, and reads the schema: a connection touches the files only when it is used.
async fn connect_and_read(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    sqlx::query("SELECT 1 FROM sqlite_schema LIMIT 1").fetch_optional(&mut connection).await?;
    Ok(connection)
}

/// Checks what is in the database and sets up what is missing, unless the storage only looks.
async fn prepare(connection: &mut SqliteConnection, builder: &SqliteBuilder, wal: bool) -> Result<()> {
    let (table, values, looks) = (&builder.table, builder.values, builder.only_looks());
    let there = schema::is_there(connection, table, values).await?;
    let sets_up = builder.setup && !looks;
    if !there && !sets_up {
        return Err(schema::missing(table, looks));
    }
    // Another program's database keeps the mode that the program chose.
    if wal && !schema::has_other_tables(connection, table).await? {
        use_wal(connection, builder.busy_timeout).await?;
    }
    if sets_up { schema::set_up(connection, table, values, there).await } else { Ok(()) }
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

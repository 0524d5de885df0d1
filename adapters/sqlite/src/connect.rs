//! Opens a store.

use std::{
    path::PathBuf,
    process,
    sync::{Arc, atomic::AtomicI64},
    time::{Duration, Instant},
};

use larder_core::{Error, ErrorKind, Info, Location, Purge, Result, Store, Values, Versions};
use larder_kit::{Configure, GroupCommit, Interval, Sweeper, ValueFormat};
use sqlx::{ConnectOptions, SqliteConnection, SqlitePool, sqlite::SqliteConnectOptions};

use crate::{
    config::{Config, Mode, Place, invalid},
    error::{cannot_write, cause, from_driver, is_locked},
    file::{self, OpenedFile},
    pool::{Connections, MAX_READERS},
    purge::{self, FIRST},
    schema,
    sql::{MAX_ROWS, Sql, quote},
    table::SqliteStorage,
};

/// The maximum size of a value in bytes: SQLite's limit for a row, less space for the key and the other columns.
pub const MAX_VALUE: u64 = 1_000_000_000 - 1_024;

impl Config {
    /// Opens the database and sets up the table.
    ///
    /// # Errors
    ///
    /// - [`InvalidConfig`](ErrorKind::InvalidConfig) if the directory does not exist, the file is not an SQLite
    ///   database in UTF-8, or the table has other columns. Then nothing is changed.
    /// - [`PermissionDenied`](ErrorKind::PermissionDenied) without permission.
    /// - [`Unavailable`](ErrorKind::Unavailable) if another process keeps the database locked.
    pub async fn connect(self) -> Result<Store> {
        // Boxed because the future would nest too deep for the compiler in its callers.
        let storage = Box::pin(open(&self)).await.map_err(Self::named)?;
        Ok(GroupCommit::<SqliteStorage>::builder(storage).max_batch(MAX_ROWS).build().into())
    }

    /// Connects with your own pool. The storage never closes the pool, opens no other connections, and keeps its
    /// settings (journal mode, synchronous, busy timeout). All of its connections must see the same database;
    /// `sqlite::memory:` with more than one connection does not satisfy this.
    ///
    /// # Errors
    ///
    /// Fails as [`connect`](Config::connect) does.
    pub async fn connect_with(mut self, pool: SqlitePool) -> Result<Store> {
        self.place = Some(Place::Pool(pool));
        self.connect().await
    }
}

async fn open(config: &Config) -> Result<Arc<SqliteStorage>> {
    config.check_options()?;
    let connections = connections(config).await?;
    if let Err(error) = prepare(&connections, config).await {
        // Awaited to remove the files beside the database before the caller gets the error.
        let _ = connections.close().await;
        return Err(error);
    }
    let info = Info::minimal(Config::ADAPTER)
        .with_expiry()
        .with_versions(Versions::Unique)
        .with_ordered_listing()
        .with_purge(Purge::Sweep)
        .with_values(if config.values == ValueFormat::Json { Values::JsonText } else { Values::Bytes })
        .with_max_value(MAX_VALUE);
    let in_file = connections.opened.is_some();
    let info = if in_file { info.with_persistence().with_sharing() } else { info };
    let sql = Sql::new(&config.table, config.column_type());
    let every = if config.only_looks() { Interval::OFF } else { config.sweep };
    let sweep = |storage: Arc<SqliteStorage>| async move { purge::sweep(&storage).await };
    Ok(Arc::new_cyclic(|storage| {
        let place = match config.place {
            Some(Place::Memory) => Some(format!("memory:{}/{:p}", process::id(), storage.as_ptr())),
            _ => connections.opened.as_ref().map(OpenedFile::id),
        };
        // SQLite ignores the case of ASCII letters in table names.
        let table = config.table.to_ascii_lowercase();
        let location = place.map(|place| Location::new(format!("sqlite:{place}:{table}")));
        let sweeper = Sweeper::start(Config::ADAPTER, storage.clone(), every, sweep);
        SqliteStorage { connections, sql, info, location, sweeper, swept: AtomicI64::new(FIRST) }
    }))
}

async fn connections(config: &Config) -> Result<Connections> {
    let Some(place) = config.place.clone() else {
        return Err(invalid("the configuration has no database: set a URL, a file, memory or a pool"));
    };
    let options = config.connect_options();
    match &place {
        Place::Memory => Ok(Connections::new(place, options.in_memory(true), None, 0, None)),
        Place::File(path) => {
            // Resolved once: later connections must open the same file.
            let path = std::path::absolute(path)
                .map_err(|error| invalid("the path does not name a file").with_source(error))?;
            open_file(config, options.filename(&path), path).await
        }
        Place::Pool(pool) => {
            let mut connection = pool.acquire().await.map_err(from_driver)?;
            let file = schema::file(&mut connection).await?;
            // A file outside the file system, perhaps in memory, cannot be watched.
            let opened = file.and_then(|path| OpenedFile::new(path.into(), false).ok());
            Ok(Connections::new(place, options, None, MAX_READERS, opened))
        }
    }
}

/// Opens the file for the first time. Only this function creates a file.
async fn open_file(config: &Config, options: SqliteConnectOptions, path: PathBuf) -> Result<Connections> {
    let looks = config.only_looks();
    if config.mode == Mode::Create && config.setup && !looks {
        file::create(&path, config.permissions)?;
    }
    // Taken before the connection, to detect a file that replaces it in between.
    let mut opened = OpenedFile::new(path.clone(), false)?;
    let mut options = options.read_only(config.mode == Mode::ReadOnly);
    let connection = match connect_and_read(&options).await {
        Err(error) if cannot_write(&error) && path.is_file() => {
            // The database is in write-ahead mode, and SQLite can neither open nor create its log. Without a log, the
            // file alone holds all data.
            if !looks {
                let message = "the database or its directory is read-only: open it with `mode=ro`";
                return Err(Error::new(ErrorKind::PermissionDenied, message).with_source(cause(error)));
            }
            opened = OpenedFile::new(path.clone(), true)?;
            if file::has_log(&path) {
                let message = "the database has a write-ahead log beside it, and SQLite cannot read the two in a \
                               read-only directory: close the database where it was written, or copy all of its \
                               files to a writable directory";
                return Err(invalid(message).with_source(cause(error)));
            }
            options = options.read_only(true).immutable(true);
            connect_and_read(&options).await
        }
        connected => connected,
    };
    let connection = connection.map_err(from_driver)?;
    opened.check()?;
    Ok(Connections::new(Place::File(path), options, Some(connection), config.readers, Some(opened)))
}

/// Connects and reads the schema, because a connection opens the files only when it is used.
async fn connect_and_read(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    let mut connection = options.connect().await?;
    sqlx::query("SELECT 1 FROM sqlite_schema LIMIT 1").fetch_optional(&mut connection).await?;
    Ok(connection)
}

/// Checks the table, and sets it up if it is missing and the configuration allows it.
async fn prepare(connections: &Connections, config: &Config) -> Result<()> {
    let mut checkout = connections.writer().await?;
    let connection = checkout.connection()?;
    let there = schema::exists(connection, config).await?;
    let looks = config.only_looks();
    if !there && (looks || !config.setup) {
        return Err(invalid(format!(
            "table {} does not exist in this database: check the name, or create the table with `setup=true` or with \
             the SQL that `Config::setup_sql` returns",
            quote(&config.table)
        )));
    }
    // A database of another program keeps the journal mode that the program chose. So does the database of a pool.
    let is_file = matches!(config.place, Some(Place::File(_)));
    if is_file && !looks && !schema::has_other_tables(connection, &config.table).await? {
        use_wal(connection, config.busy_timeout).await?;
    }
    if there { Ok(()) } else { schema::set_up(connection, config).await }
}

/// Switches the database to write-ahead logging. Retries because SQLite's busy timeout does not apply to this.
async fn use_wal(connection: &mut SqliteConnection, timeout: Duration) -> Result<()> {
    let start = Instant::now();
    loop {
        match sqlx::query("PRAGMA journal_mode = WAL").execute(&mut *connection).await {
            Ok(_) => return Ok(()),
            Err(error) if is_locked(&error) && start.elapsed() < timeout => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => return Err(from_driver(error)),
        }
    }
}

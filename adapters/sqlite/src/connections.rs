//! Who talks to SQLite: one connection that writes, a few that read, or the caller's own pool.

use std::{
    sync::{
        Mutex as StdMutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use larder_core::{Error, ErrorKind, Operation, Result};
use sqlx::{
    ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection,
    sqlite::SqliteConnectOptions,
};
use tokio::sync::{Mutex, MutexGuard, Semaphore, SemaphorePermit};

use crate::{
    NAME,
    error::{from_driver, is_busy, is_fatal},
    file::Opened,
};

/// How long a call waits for a connection that other calls of this process are using.
const PATIENCE: Duration = Duration::from_secs(30);

/// The connections of one storage. SQLite has one writer at a time, so there is one connection for
/// it, and calls wait for it in order rather than for a lock of the file.
///
/// Not a pool of sqlx's: that sends a ping through the connection's thread each time one is given
/// back, which costs as much as the call itself.
pub(crate) struct Connections {
    source: Source,
    /// The connection that writes; none where it is opened when needed, or the pool's is used.
    writer: Mutex<Option<SqliteConnection>>,
    /// None where the writer reads too.
    readers: Option<Readers>,
    /// The file that was opened; none in memory.
    opened: Option<Opened>,
    closed: AtomicBool,
}

enum Source {
    /// Opened with these options.
    File(Box<SqliteConnectOptions>),
    /// The one connection there is; a second would see another database.
    Memory,
    Pool(SqlitePool),
}

struct Readers {
    options: SqliteConnectOptions,
    count: u32,
    permits: Semaphore,
    idle: StdMutex<Vec<SqliteConnection>>,
}

/// A connection, for one call. Given back when it is dropped, also midway: sqlx lets the call under
/// way come to its end before the next one.
pub(crate) struct Lease<'a>(Held<'a>);

enum Held<'a> {
    Writer(MutexGuard<'a, Option<SqliteConnection>>),
    Reader(Reader<'a>),
    Pool { connection: PoolConnection<Sqlite>, _turn: Option<MutexGuard<'a, Option<SqliteConnection>>> },
}

struct Reader<'a> {
    readers: &'a Readers,
    connection: Option<SqliteConnection>,
    _permit: SemaphorePermit<'a>,
}

impl Connections {
    /// One connection that writes to a file, and at most `readers` that read.
    pub(crate) fn file(
        options: SqliteConnectOptions,
        writer: SqliteConnection,
        opened: Opened,
        readers: u32,
    ) -> Self {
        let count = readers.max(1);
        let readers = Readers {
            options: options.clone().pragma("query_only", "ON"),
            count,
            permits: Semaphore::new(usize::try_from(count).unwrap_or(1).min(Semaphore::MAX_PERMITS)),
            idle: StdMutex::default(),
        };
        Self {
            source: Source::File(Box::new(options)),
            writer: Mutex::new(Some(writer)),
            readers: Some(readers),
            opened: Some(opened),
            closed: AtomicBool::new(false),
        }
    }

    /// The one connection to a database in memory.
    pub(crate) fn memory(connection: SqliteConnection) -> Self {
        Self {
            source: Source::Memory,
            writer: Mutex::new(Some(connection)),
            readers: None,
            opened: None,
            closed: AtomicBool::new(false),
        }
    }

    /// The caller's pool.
    pub(crate) fn pool(pool: SqlitePool, opened: Option<Opened>) -> Self {
        Self {
            source: Source::Pool(pool),
            writer: Mutex::new(None),
            readers: None,
            opened,
            closed: AtomicBool::new(false),
        }
    }

    pub(crate) fn check_open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed().with_adapter(NAME).with_operation(operation));
        }
        Ok(())
    }

    /// Fails if the file is no longer where it was opened: what is written to it now would be lost.
    pub(crate) fn check_there(&self, operation: Operation) -> Result<()> {
        self.opened.as_ref().map_or(Ok(()), |opened| opened.check(operation))
    }

    /// Opens another connection to the file.
    async fn connect(
        &self,
        options: &SqliteConnectOptions,
        operation: Operation,
    ) -> Result<SqliteConnection> {
        let connection = options.connect().await;
        // Before an error, which says less, and for a file that took the place of this one in between.
        self.check_there(operation)?;
        connection.map_err(from_driver)
    }

    /// The connection to write with.
    pub(crate) async fn writer(&self, operation: Operation) -> Result<Lease<'_>> {
        self.check_open(operation)?;
        let mut turn = match self.writer.try_lock() {
            Ok(turn) => turn,
            Err(_) => tokio::time::timeout(PATIENCE, self.writer.lock()).await.map_err(|_| waited())?,
        };
        // It may have been closed while this call waited.
        self.check_open(operation)?;
        self.check_there(operation)?;
        match &self.source {
            Source::Pool(pool) => {
                let connection = pool.acquire().await.map_err(from_driver)?;
                return Ok(Lease(Held::Pool { connection, _turn: Some(turn) }));
            }
            Source::File(options) if turn.is_none() => {
                *turn = Some(self.connect(options, operation).await?);
            }
            Source::Memory if turn.is_none() => return Err(gone()),
            Source::File(_) | Source::Memory => {}
        }
        Ok(Lease(Held::Writer(turn)))
    }

    /// A connection to read with.
    pub(crate) async fn reader(&self, operation: Operation) -> Result<Lease<'_>> {
        self.check_open(operation)?;
        if let Some(readers) = &self.readers {
            let mut reader = readers.reader(operation).await?;
            self.check_there(operation)?;
            if reader.connection.is_none() {
                reader.connection = Some(self.connect(&readers.options, operation).await?);
            }
            return Ok(Lease(Held::Reader(reader)));
        }
        if let Source::Pool(pool) = &self.source {
            self.check_there(operation)?;
            let connection = pool.acquire().await.map_err(from_driver)?;
            return Ok(Lease(Held::Pool { connection, _turn: None }));
        }
        self.writer(operation).await
    }

    /// Waits for the calls under way and closes the connections, but for a pool that is the
    /// caller's.
    ///
    /// # Errors
    ///
    /// Of the first close, also if the file is gone.
    pub(crate) async fn close(&self) -> Result<()> {
        let first = !self.closed.swap(true, Ordering::AcqRel);
        if let Some(readers) = &self.readers {
            for connection in readers.take_all().await {
                connection.close().await.map_err(from_driver)?;
            }
        }
        // The writer last: the last connection to a file moves what the log holds into it.
        if let Some(connection) = self.writer.lock().await.take() {
            connection.close().await.map_err(from_driver)?;
        }
        if first { self.check_there(Operation::Close) } else { Ok(()) }
    }
}

impl Readers {
    /// A turn to read, with a connection if one is open that is not in use.
    async fn reader(&self, operation: Operation) -> Result<Reader<'_>> {
        let permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => tokio::time::timeout(PATIENCE, self.permits.acquire())
                .await
                .map_err(|_| waited())?
                .map_err(|_| Error::closed().with_adapter(NAME).with_operation(operation))?,
        };
        let connection = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Reader { readers: self, connection, _permit: permit })
    }

    async fn take_all(&self) -> Vec<SqliteConnection> {
        // An error says that it has been closed already.
        let all = self.permits.acquire_many(self.count).await;
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock().unwrap_or_else(PoisonError::into_inner));
        drop(all);
        idle
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

impl Lease<'_> {
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection> {
        match &mut self.0 {
            Held::Writer(turn) => turn.as_mut(),
            Held::Reader(reader) => reader.connection.as_mut(),
            Held::Pool { connection, .. } => Some(&mut **connection),
        }
        .ok_or_else(gone)
    }

    /// Ends the lease with what the call brought. A connection that is of no more use is not used
    /// again: the next call opens another.
    pub(crate) fn end<T>(mut self, outcome: Result<T, sqlx::Error>) -> Result<T> {
        outcome.map_err(|error| {
            if is_fatal(&error) {
                match &mut self.0 {
                    Held::Writer(turn) => drop(turn.take()),
                    Held::Reader(reader) => drop(reader.connection.take()),
                    Held::Pool { .. } => {}
                }
            }
            from_driver(error)
        })
    }
}

/// Switches the database to write-ahead logging, for which SQLite itself does not wait until the
/// file is free.
pub(crate) async fn use_wal(connection: &mut SqliteConnection, patience: Duration) -> Result<()> {
    let start = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match sqlx::query("PRAGMA journal_mode = WAL").execute(&mut *connection).await {
            Ok(_) => return Ok(()),
            Err(error) if is_busy(&error) && start.elapsed() < patience => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(50));
            }
            Err(error) => return Err(from_driver(error)),
        }
    }
}

fn waited() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "no connection became free in 30 seconds; the calls before this one are slow",
    )
    .with_adapter(NAME)
}

fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection to the database is gone; open the storage again")
        .with_adapter(NAME)
}

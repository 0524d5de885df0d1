//! The connections: one that writes and a few that read, or the caller's own pool.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use larder_core::{Error, ErrorKind, Result};
use sqlx::{
    ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection,
    sqlite::SqliteConnectOptions,
};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    error::{from_driver, is_fatal},
    file::OpenedFile,
};

/// How long a call waits for a connection that other calls of this process are using.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(30);

/// How many calls may wait for the caller's pool, which has limits of its own.
const UNLIMITED: u32 = 1 << 20;

/// The connections of one storage. SQLite has one writer at a time, so there is one connection for it, and
/// calls wait for it in order rather than for a lock of the file.
pub(crate) struct Connections {
    writer: Pool,
    /// `None` if the writer reads too.
    readers: Option<Pool>,
    /// The file that was opened; `None` in memory.
    opened: Option<OpenedFile>,
}

/// Connections that are opened as they are needed.
///
/// Not a pool of sqlx's: that sends a ping through the connection's thread each time one is given back,
/// which costs as much as the call itself.
struct Pool {
    source: Source,
    size: u32,
    permits: Semaphore,
    idle: Mutex<Vec<SqliteConnection>>,
}

/// Where a pool gets another connection from.
enum Source {
    File(Box<SqliteConnectOptions>),
    /// Nowhere: another connection would see another database.
    Memory,
    /// The caller's pool.
    Pool(SqlitePool),
}

/// A connection, for one call. Given back when it is dropped, also midway: sqlx lets the call under way
/// come to its end before the next one.
pub(crate) struct Checkout<'a> {
    pool: &'a Pool,
    connection: Option<Connected>,
    _permit: SemaphorePermit<'a>,
}

enum Connected {
    Own(SqliteConnection),
    Callers(PoolConnection<Sqlite>),
}

impl Connections {
    /// One connection that writes to a file, and at most `readers` that read.
    pub(crate) fn file(
        options: SqliteConnectOptions,
        writer: SqliteConnection,
        opened: OpenedFile,
        readers: u32,
    ) -> Self {
        let read = Source::File(Box::new(options.clone().pragma("query_only", "ON")));
        Self {
            writer: Pool::new(Source::File(Box::new(options)), 1, Some(writer)),
            readers: Some(Pool::new(read, readers.clamp(1, UNLIMITED), None)),
            opened: Some(opened),
        }
    }

    /// The one connection to a database in memory.
    pub(crate) fn memory(connection: SqliteConnection) -> Self {
        Self { writer: Pool::new(Source::Memory, 1, Some(connection)), readers: None, opened: None }
    }

    /// The caller's pool.
    pub(crate) fn pool(pool: &SqlitePool, opened: Option<OpenedFile>) -> Self {
        let [writer, readers] = [1, UNLIMITED].map(|size| Pool::new(Source::Pool(pool.clone()), size, None));
        Self { writer, readers: Some(readers), opened }
    }

    /// Fails if the file is no longer where it was opened: what is written to it now would be lost.
    pub(crate) fn check_file(&self) -> Result<()> {
        self.opened.as_ref().map_or(Ok(()), OpenedFile::check)
    }

    /// The connection to write with.
    pub(crate) async fn writer(&self) -> Result<Checkout<'_>> {
        self.checkout(&self.writer).await
    }

    /// A connection to read with.
    pub(crate) async fn reader(&self) -> Result<Checkout<'_>> {
        self.checkout(self.readers.as_ref().unwrap_or(&self.writer)).await
    }

    async fn checkout<'a>(&self, pool: &'a Pool) -> Result<Checkout<'a>> {
        let permit = pool.permit().await?;
        self.check_file()?;
        let idle = pool.idle().pop();
        let connection = match idle {
            Some(connection) => Connected::Own(connection),
            None => self.connect(&pool.source).await?,
        };
        Ok(Checkout { pool, connection: Some(connection), _permit: permit })
    }

    async fn connect(&self, source: &Source) -> Result<Connected> {
        let connected = match source {
            Source::File(options) => options.connect().await.map(Connected::Own),
            Source::Pool(pool) => pool.acquire().await.map(Connected::Callers),
            Source::Memory => return Err(lost()),
        };
        // Before an error, which says less, and for a file that took the place of this one in between.
        self.check_file()?;
        connected.map_err(|error| from_driver(error).not_applied())
    }

    /// Waits for the calls under way and closes the connections, except those of the caller's pool.
    ///
    /// # Errors
    ///
    /// The first close fails if the file is gone.
    pub(crate) async fn close(&self) -> Result<()> {
        let first = !self.writer.permits.is_closed();
        if let Some(readers) = &self.readers {
            readers.close().await?;
        }
        // The writer last: the last connection to a file moves what the log holds into it.
        self.writer.close().await?;
        if first { self.check_file() } else { Ok(()) }
    }
}

impl Pool {
    fn new(source: Source, size: u32, connection: Option<SqliteConnection>) -> Self {
        let permits = Semaphore::new(usize::try_from(size).unwrap_or(1));
        Self { source, size, permits, idle: Mutex::new(connection.into_iter().collect()) }
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let in_time = tokio::time::timeout(ACQUIRE_TIMEOUT, self.permits.acquire()).await;
        let message = "no connection became free in 30 seconds; the calls before this one are slow";
        let permit = in_time.map_err(|_| Error::new(ErrorKind::Timeout, message).not_applied())?;
        permit.map_err(|_| Error::closed())
    }

    async fn close(&self) -> Result<()> {
        // An error says that it has been closed already.
        let _all = self.permits.acquire_many(self.size).await;
        self.permits.close();
        let connections = std::mem::take(&mut *self.idle());
        for connection in connections {
            connection.close().await.map_err(from_driver)?;
        }
        Ok(())
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checkout<'_> {
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection> {
        match &mut self.connection {
            Some(Connected::Own(connection)) => Ok(connection),
            Some(Connected::Callers(connection)) => Ok(&mut **connection),
            None => Err(lost()),
        }
    }

    /// Ends the checkout with the outcome of the call. After an error that leaves the connection of no
    /// more use, or in a transaction, the next call opens another.
    pub(crate) fn end<T>(mut self, outcome: Result<T, sqlx::Error>) -> Result<T> {
        outcome.map_err(|error| {
            let stuck = self.connection().is_ok_and(|connection| connection.is_in_transaction());
            // The database in memory would go with its connection.
            let useless = is_fatal(&error) || stuck && !matches!(self.pool.source, Source::Memory);
            if useless && let Some(Connected::Callers(mut connection)) = self.connection.take() {
                connection.close_on_drop();
            }
            from_driver(error)
        })
    }
}

impl Drop for Checkout<'_> {
    fn drop(&mut self) {
        if let Some(Connected::Own(connection)) = self.connection.take() {
            self.pool.idle().push(connection);
        }
    }
}

fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "the connection to the database is gone; open the storage again")
        .not_applied()
}

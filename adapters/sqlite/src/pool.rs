//! The connections: one for writing and a few for reading, or the caller's own pool.

use std::time::Duration;

use deadpool::unmanaged::{Object, Pool};
use larder_core::{Error, ErrorKind, Result};
use sqlx::{
    ConnectOptions, Connection, Sqlite, SqliteConnection,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use crate::{
    config::Place,
    error::{from_driver, is_fatal},
    file::OpenedFile,
    sql::Call,
};

/// The longest wait for a connection that other calls of this process are using.
const WAIT: Duration = Duration::from_secs(30);

/// The maximum number of concurrent reads. The caller's own pool has its own limit.
pub(crate) const MAX_READERS: u32 = 1 << 12;

/// The connections of one storage. SQLite allows one writer at a time, so the storage has one connection for writing.
/// Calls wait for this connection in order, instead of competing for the lock of the file.
pub(crate) struct Connections {
    place: Place,
    options: SqliteConnectOptions,
    writer: Slots,
    readers: Slots,
    /// The open file; `None` for a database in memory.
    pub(crate) opened: Option<OpenedFile>,
}

/// One slot per concurrent call. A slot keeps its connection for the next call. It is empty before the first call, and
/// always with the caller's own pool.
///
/// This is not a pool of sqlx, because that sends a ping through the connection's thread each time a connection is
/// returned, which costs as much as the call itself.
type Slots = Pool<Option<SqliteConnection>>;

/// A connection for one call. It may be dropped at any time: sqlx completes the running call before it starts the
/// next one.
pub(crate) struct Checkout {
    callers: Option<PoolConnection<Sqlite>>,
    slot: Object<Option<SqliteConnection>>,
    in_memory: bool,
}

impl Connections {
    /// Makes one connection for writing, which may be open already, and at most `readers` for reading. A database in
    /// memory has one connection for both.
    pub(crate) fn new(
        place: Place,
        options: SqliteConnectOptions,
        writer: Option<SqliteConnection>,
        readers: u32,
        opened: Option<OpenedFile>,
    ) -> Self {
        let writer = Slots::from([writer]);
        let readers = match place {
            Place::Memory => writer.clone(),
            _ => Slots::from((0..readers.clamp(1, MAX_READERS)).map(|_| None)),
        };
        Self { place, options, writer, readers, opened }
    }

    /// Fails if the file was moved, deleted or replaced: changes would be lost.
    pub(crate) fn check_file(&self) -> Result<()> {
        self.opened.as_ref().map_or(Ok(()), OpenedFile::check)
    }

    /// Waits for the connection for writing.
    pub(crate) async fn writer(&self) -> Result<Checkout> {
        self.checkout(&self.writer).await
    }

    /// Waits for a connection for reading.
    pub(crate) async fn reader(&self) -> Result<Checkout> {
        self.checkout(&self.readers).await
    }

    async fn checkout(&self, slots: &Slots) -> Result<Checkout> {
        let mut slot = free(slots).await?;
        let mut callers = None;
        self.check_file()?;
        if slot.is_none() {
            let connected = match &self.place {
                Place::Pool(pool) => pool.acquire().await.map(|connection| (None, Some(connection))),
                _ => self.options.connect().await.map(|connection| (Some(connection), None)),
            };
            // Checked before the error of the connection, which says less, and to detect a file replaced in between.
            self.check_file()?;
            (*slot, callers) = connected.map_err(|error| from_driver(error).not_applied())?;
        }
        Ok(Checkout { callers, slot, in_memory: self.opened.is_none() })
    }

    /// Waits for the running calls, and closes the connections, except those of the caller's own pool.
    ///
    /// # Errors
    ///
    /// The first call fails if the file was moved, deleted or replaced.
    pub(crate) async fn close(&self) -> Result<()> {
        let first = !self.writer.is_closed();
        // The writer is last: the last connection to a file moves the contents of the log into it.
        for slots in [&self.readers, &self.writer] {
            while slots.status().size > 0
                && let Ok(slot) = slots.timeout_remove(None).await
            {
                if let Some(connection) = slot {
                    connection.close().await.map_err(from_driver)?;
                }
            }
            slots.close();
        }
        if first { self.check_file() } else { Ok(()) }
    }
}

/// Waits for a slot that no other call is using.
async fn free(slots: &Slots) -> Result<Object<Option<SqliteConnection>>> {
    // A timeout needs a runtime, so it is used only to wait.
    if let Ok(slot) = slots.try_get() {
        return Ok(slot);
    }
    let in_time = tokio::time::timeout(WAIT, slots.timeout_get(None)).await;
    let message = "no connection became free in 30 seconds: earlier calls are slow";
    let slot = in_time.map_err(|_| Error::new(ErrorKind::Timeout, message).not_applied())?;
    slot.map_err(|_| Error::closed())
}

impl Checkout {
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection> {
        let own = Option::as_mut(&mut self.slot);
        let connection = self.callers.as_deref_mut().or(own);
        connection
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "the connection has been returned already"))
    }

    /// Runs a statement that returns rows.
    pub(crate) async fn fetch(mut self, call: Call<'_>) -> Result<Vec<SqliteRow>> {
        let outcome = call.fetch_all(self.connection()?).await;
        self.end(outcome)
    }

    /// Runs a statement that returns at most one row.
    pub(crate) async fn fetch_one(mut self, call: Call<'_>) -> Result<Option<SqliteRow>> {
        let outcome = call.fetch_optional(self.connection()?).await;
        self.end(outcome)
    }

    /// Ends the checkout with the outcome of the call. If an error makes the connection unusable or leaves it in a
    /// transaction, the next call opens a new one.
    pub(crate) fn end<T>(mut self, outcome: Result<T, sqlx::Error>) -> Result<T> {
        outcome.map_err(|error| {
            let stuck = self.connection().is_ok_and(|connection| connection.is_in_transaction());
            // A database in memory would be lost with its connection.
            if !self.in_memory && (is_fatal(&error) || stuck) {
                *self.slot = None;
                if let Some(connection) = &mut self.callers {
                    connection.close_on_drop();
                }
            }
            from_driver(error)
        })
    }
}

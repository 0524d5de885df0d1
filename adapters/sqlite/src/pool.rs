//! The connections: one that writes and a few that read, or the caller's own pool.

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

/// How long a call waits for a connection that other calls of this process are using.
const WAIT: Duration = Duration::from_secs(30);

/// How many calls may read at once, at most. A pool of the caller has limits of its own.
pub(crate) const MAX_READERS: u32 = 1 << 12;

/// The connections of one storage. SQLite has one writer at a time, so there is one connection for it, and
/// calls wait for it in order rather than for a lock of the file.
pub(crate) struct Connections {
    place: Place,
    options: SqliteConnectOptions,
    writer: Slots,
    readers: Slots,
    /// The file that was opened; `None` in memory.
    pub(crate) opened: Option<OpenedFile>,
}

/// A slot for each call at once, with the connection that it keeps for the next one. It keeps none before the
/// first call, nor in the caller's pool.
///
/// Not a pool of sqlx's: that sends a ping through the connection's thread each time one is given back,
/// which costs as much as the call itself.
type Slots = Pool<Option<SqliteConnection>>;

/// A connection, for one call. Given back when it is dropped, also midway: sqlx lets the call under way
/// come to its end before the next one.
pub(crate) struct Checkout {
    callers: Option<PoolConnection<Sqlite>>,
    slot: Object<Option<SqliteConnection>>,
    in_memory: bool,
}

impl Connections {
    /// One connection to write with, which may be open already, and at most `readers` to read with. The only
    /// one to a database in memory does both.
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

    /// Fails if the file is no longer where it was opened: changes would be lost.
    pub(crate) fn check_file(&self) -> Result<()> {
        self.opened.as_ref().map_or(Ok(()), OpenedFile::check)
    }

    /// The connection to write with.
    pub(crate) async fn writer(&self) -> Result<Checkout> {
        self.checkout(&self.writer).await
    }

    /// A connection to read with.
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
            // Before an error, which says less, and for a file that took the place of this one in between.
            self.check_file()?;
            (*slot, callers) = connected.map_err(|error| from_driver(error).not_applied())?;
        }
        Ok(Checkout { callers, slot, in_memory: self.opened.is_none() })
    }

    /// Waits for the calls under way and closes the connections, except those of the caller's pool.
    ///
    /// # Errors
    ///
    /// The first close fails if the file is gone.
    pub(crate) async fn close(&self) -> Result<()> {
        let first = !self.writer.is_closed();
        // The writer last: the last connection to a file moves the contents of the log into it.
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
    // A time-out needs a runtime, so there is one only if there is a wait.
    if let Ok(slot) = slots.try_get() {
        return Ok(slot);
    }
    let in_time = tokio::time::timeout(WAIT, slots.timeout_get(None)).await;
    let message = "no connection became free in 30 seconds; the calls before this one are slow";
    let slot = in_time.map_err(|_| Error::new(ErrorKind::Timeout, message).not_applied())?;
    slot.map_err(|_| Error::closed())
}

impl Checkout {
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection> {
        let own = Option::as_mut(&mut self.slot);
        let connection = self.callers.as_deref_mut().or(own);
        connection.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the connection has been given back"))
    }

    /// Runs a statement that returns rows.
    pub(crate) async fn fetch(mut self, call: Call<'_>) -> Result<Vec<SqliteRow>> {
        let outcome = call.fetch_all(self.connection()?).await;
        self.end(outcome)
    }

    /// Runs a statement that returns one row at most.
    pub(crate) async fn fetch_one(mut self, call: Call<'_>) -> Result<Option<SqliteRow>> {
        let outcome = call.fetch_optional(self.connection()?).await;
        self.end(outcome)
    }

    /// Ends the checkout with the outcome of the call. After an error that leaves the connection of no
    /// more use, or in a transaction, the next call opens another.
    pub(crate) fn end<T>(mut self, outcome: Result<T, sqlx::Error>) -> Result<T> {
        outcome.map_err(|error| {
            let stuck = self.connection().is_ok_and(|connection| connection.is_in_transaction());
            // A database in memory would go with its connection.
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

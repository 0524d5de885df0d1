//! The builder, and the options of a URL.

use std::{fmt, path::PathBuf, time::Duration};

use larder_core::{Error, ErrorKind, Operation, Result};
use sqlx::{
    ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

use crate::{NAME, SqliteStorage, schema};

/// The longest busy timeout, which SQLite counts in milliseconds of 31 bits: about 24 days.
const LONGEST_BUSY_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

/// How the file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// To read only: writes are [`PermissionDenied`](ErrorKind::PermissionDenied), and nothing is set up or swept. Also on
    /// a file system that is mounted read-only.
    ReadOnly,
    /// To read and write; the file must be there.
    ReadWrite,
    /// To read and write; the file is made if it is not there.
    #[default]
    Create,
}

/// When SQLite waits for the disk; see the crate's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Synchronous {
    /// Never. A power cut may corrupt the database.
    Off,
    /// At checkpoints. A power cut may take the last commits with it, and nothing else.
    Normal,
    /// At each commit. What is acknowledged survives a power cut.
    #[default]
    Full,
}

/// What the column `value` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueColumn {
    /// `BLOB`: any bytes.
    #[default]
    Blob,
    /// `TEXT`: JSON, for SQLite's JSON functions. Other values are
    /// [`InvalidValue`](ErrorKind::InvalidValue) errors.
    Json,
}

/// Makes a [`SqliteStorage`].
///
/// ```
/// # async fn connect() -> larder_core::Result<()> {
/// use larder_sqlite::{SqliteStorage, Synchronous};
///
/// let storage = SqliteStorage::builder()
///     .file("sessions.db")
///     .table("bot sessions")
///     .synchronous(Synchronous::Normal)
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SqliteBuilder {
    pub(crate) place: Option<Place>,
    pub(crate) table: String,
    pub(crate) values: ValueColumn,
    pub(crate) setup: bool,
    pub(crate) mode: Mode,
    pub(crate) synchronous: Synchronous,
    pub(crate) busy_timeout: Duration,
    pub(crate) readers: u32,
    pub(crate) sweep: Option<Duration>,
    pub(crate) existing: bool,
    pub(crate) permissions: Option<u32>,
}

/// Where the database is.
#[derive(Clone)]
pub(crate) enum Place {
    Memory,
    File(PathBuf),
    Pool(SqlitePool),
}

impl SqliteBuilder {
    /// The defaults; say [where](SqliteBuilder::file) the database is.
    #[must_use]
    pub fn new() -> Self {
        Self {
            place: None,
            table: "larder".to_owned(),
            values: ValueColumn::default(),
            setup: true,
            mode: Mode::default(),
            synchronous: Synchronous::default(),
            busy_timeout: Duration::from_secs(5),
            readers: 4,
            sweep: Some(Duration::from_secs(60)),
            existing: false,
            permissions: None,
        }
    }

    /// The database in this file.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Some(Place::File(path.into()));
        self
    }

    /// A database in memory, on one connection, gone with the storage.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.place = Some(Place::Memory);
        self
    }

    /// The database of your own pool. It is never closed, no connection is opened beside it, and its
    /// settings (journal mode, synchronous, busy timeout) are left as they are. Each of its
    /// connections must see the same database, which `sqlite::memory:` with more than one
    /// connection does not.
    #[must_use]
    pub fn pool(mut self, pool: SqlitePool) -> Self {
        self.place = Some(Place::Pool(pool));
        self
    }

    /// The table, `larder` unless said otherwise. Any name will do; it is quoted.
    #[must_use]
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// What the column `value` holds; any bytes unless said otherwise.
    #[must_use]
    pub const fn values(mut self, values: ValueColumn) -> Self {
        self.values = values;
        self
    }

    /// Whether to make the table and its index if they are not there; yes unless said otherwise.
    /// The shape of a table that is there is checked either way.
    #[must_use]
    pub const fn setup(mut self, setup: bool) -> Self {
        self.setup = setup;
        self
    }

    /// How the file is opened. Of no effect on a pool of your own, nor in memory.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// When SQLite waits for the disk. Of no effect on a pool of your own.
    #[must_use]
    pub const fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long to wait for another connection or process that is writing; 5 seconds unless said
    /// otherwise. Of no effect on a pool of your own.
    #[must_use]
    pub const fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// How many connections are opened for reading, at most; at least one, 4 unless said otherwise.
    /// Each has a thread. Of no effect on a pool of your own, nor in memory.
    #[must_use]
    pub const fn readers(mut self, readers: u32) -> Self {
        self.readers = readers;
        self
    }

    /// How often expired rows are removed; `None` for never. Every 60 seconds unless said otherwise.
    #[must_use]
    pub const fn sweep_every(mut self, interval: Option<Duration>) -> Self {
        self.sweep = interval;
        self
    }

    /// Opens only what is there: makes no file, table or index, changes no journal mode, and removes no
    /// expired rows by itself. [`connect`](SqliteBuilder::connect) fails if there is no such file or
    /// table. Reads work without the right to write; writes work with it.
    #[must_use]
    pub const fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// The permissions of a database file that is made, such as `0o660`; `0o600` unless said otherwise.
    /// Its owner must be allowed to read and write it. SQLite gives the files that it makes beside it
    /// (`-wal`, `-shm`) the same. A file that is there keeps its permissions. Of no effect on Windows.
    #[must_use]
    pub const fn permissions(mut self, mode: u32) -> Self {
        self.permissions = Some(mode);
        self
    }

    /// The SQL that sets up the table as configured, for whoever wants to run it by hand.
    #[must_use]
    pub fn setup_sql(&self) -> String {
        schema::setup_sql(&self.table, self.values)
    }

    /// Opens the database and sets up the table.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if the directory is not there, the file is not an
    /// SQLite database in UTF-8, or the table has another shape; nothing is changed then.
    /// [`PermissionDenied`](ErrorKind::PermissionDenied) without permission;
    /// [`Unavailable`](ErrorKind::Unavailable) if another process keeps it locked.
    pub async fn connect(self) -> Result<SqliteStorage> {
        SqliteStorage::open(self)
            .await
            .map_err(|error| error.with_adapter(NAME).with_operation(Operation::Connect))
    }

    /// The connection options for sqlx, wherever the database is.
    pub(crate) fn connect_options(&self) -> SqliteConnectOptions {
        let options = SqliteConnectOptions::new()
            .busy_timeout(self.busy_timeout.min(LONGEST_BUSY_TIMEOUT))
            .synchronous(match self.synchronous {
                Synchronous::Off => SqliteSynchronous::Off,
                Synchronous::Normal => SqliteSynchronous::Normal,
                Synchronous::Full => SqliteSynchronous::Full,
            })
            .thread_name(|number| format!("larder-sqlite-{number}"))
            .disable_statement_logging();
        match self.synchronous {
            // On macOS a plain sync ends in the disk's cache; of no effect elsewhere.
            Synchronous::Full => options.pragma("fullfsync", "ON"),
            Synchronous::Off | Synchronous::Normal => options,
        }
    }

    /// Whether the database and its schema stay as they are.
    pub(crate) fn only_looks(&self) -> bool {
        self.existing || self.mode == Mode::ReadOnly && matches!(self.place, Some(Place::File(_)))
    }
}

impl Default for SqliteBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SqliteBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.place {
            None => "nowhere yet",
            Some(Place::Memory) => "memory",
            Some(Place::File(_)) => "a file",
            Some(Place::Pool(_)) => "a pool",
        };
        f.debug_struct("SqliteBuilder")
            .field("place", &format_args!("{place}"))
            .field("table", &self.table)
            .field("values", &self.values)
            .field("setup", &self.setup)
            .field("mode", &self.mode)
            .field("synchronous", &self.synchronous)
            .field("busy_timeout", &self.busy_timeout)
            .field("readers", &self.readers)
            .field("sweep", &self.sweep)
            .field("existing", &self.existing)
            .field("permissions", &self.permissions)
            .finish()
    }
}

pub(crate) fn configuration(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message).with_adapter(NAME)
}

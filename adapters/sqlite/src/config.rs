//! The options, in code and in a URL.

use std::{borrow::Cow, fmt, path::PathBuf, time::Duration};

use larder_core::{Error, ErrorKind, Operation, Result};
use larder_kit::{Interval, Permissions, StoreUrl};
use sqlx::{
    ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

pub(crate) const NAME: &str = "sqlite";

/// The longest busy timeout, which SQLite counts in milliseconds of 31 bits: about 24 days.
const LONGEST_BUSY_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

larder_kit::choices! {
    /// How the file is opened.
    pub enum Mode {
        /// To read only: writes are [`PermissionDenied`](ErrorKind::PermissionDenied), and nothing is set up
        /// or swept. Also on a file system that is mounted read-only.
        "ro" => ReadOnly,
        /// To read and write; the file must be there.
        "rw" => ReadWrite,
        /// To read and write; the file is made if it is not there.
        #[default]
        "rwc" => Create,
    }
}

larder_kit::choices! {
    /// When SQLite waits for the disk; see the crate's documentation.
    pub enum Synchronous {
        /// Never. A power cut may corrupt the database.
        "off" => Off,
        /// At checkpoints. A power cut may take the last commits with it, and nothing else.
        "normal" => Normal,
        /// At each commit. What is acknowledged survives a power cut.
        #[default]
        "full" => Full,
    }
}

larder_kit::choices! {
    /// The values that the column `value` holds.
    pub enum ValueFormat {
        /// Any bytes, as `BLOB`.
        #[default]
        "blob" => Blob,
        /// JSON as `TEXT`, for SQLite's JSON functions. Other values are
        /// [`InvalidValue`](ErrorKind::InvalidValue) errors.
        "json" => Json,
    }
}

impl ValueFormat {
    /// The type of the column `value`.
    pub(crate) const fn column_type(self) -> &'static str {
        match self {
            Self::Blob => "BLOB",
            Self::Json => "TEXT",
        }
    }
}

/// Where the database is.
#[derive(Clone)]
pub(crate) enum Source {
    Memory,
    File(PathBuf),
    Pool(SqlitePool),
}

larder_kit::options! {
    /// Opens a store in an SQLite database.
    ///
    /// ```
    /// # async fn connect() -> larder_core::Result<()> {
    /// use larder_sqlite::{SqliteStorage, Synchronous};
    ///
    /// let store = SqliteStorage::builder()
    ///     .file("sessions.db")
    ///     .table("bot sessions")
    ///     .synchronous(Synchronous::Normal)
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Debug)]
    pub struct SqliteBuilder {
        source: Option<Source>,
        existing: bool,
    }

    /// The options that a `sqlite:` URL takes.
    OPTIONS {
        /// The table. Any name will do; it is quoted. Default: `larder`.
        "table" => table: String = "larder".to_owned();
        /// The values that the column `value` holds. Default: any bytes.
        "values" => values: ValueFormat = ValueFormat::Blob;
        /// Whether to make the table and its index if they are not there. The shape of a table that is there
        /// is checked either way. Default: `true`.
        "setup" => setup: bool = true;
        /// How the file is opened. Has no effect on a pool of your own, nor in memory.
        "mode" => mode: Mode = Mode::Create;
        /// The permissions of a database file that is made, such as `0o660`. Its owner must be allowed to
        /// read and write it. SQLite gives the files that it makes beside it (`-wal`, `-shm`) the same. A
        /// file that is there keeps its permissions. Has no effect on Windows. Default: `0o600`.
        "permissions" => permissions: Option<Permissions> = None;
        /// When SQLite waits for the disk. Has no effect on a pool of your own.
        "synchronous" => synchronous: Synchronous = Synchronous::Full;
        /// How long to wait for another connection or process that is writing. Has no effect on a pool of
        /// your own. Default: 5 seconds.
        "busy_timeout" => busy_timeout: Duration = Duration::from_secs(5);
        /// How many connections are opened for reading, at most; at least one. Each has a thread. Has no
        /// effect on a pool of your own, nor in memory. Default: 4.
        "readers" => readers: u32 = 4;
        /// How often expired rows are removed; `None` for never. Default: 60 seconds.
        "sweep" => sweep: Interval = Interval::every(Duration::from_secs(60));
    }
}

impl SqliteBuilder {
    /// The defaults. The database still has to be named: a [file](SqliteBuilder::file),
    /// [memory](SqliteBuilder::in_memory) or a [pool](SqliteBuilder::pool).
    #[must_use]
    pub fn new() -> Self {
        Self::with_defaults(None, false)
    }

    /// The options that a URL asks for.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is not a `sqlite:` URL, names no file, or has an
    /// option that does not exist or does not parse.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::parse(url).map_err(named)
    }

    fn parse(url: &str) -> Result<Self> {
        let mut url = StoreUrl::parse(url)?;
        if url.scheme() != NAME {
            return Err(invalid("the URL of an SQLite database begins with `sqlite:`"));
        }
        let mut builder = Self { source: Some(source(&url)?), ..Self::new() };
        builder.take_options(&mut url)?;
        url.finish(OPTIONS)?;
        Ok(builder)
    }

    /// The database in this file.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.source = Some(Source::File(path.into()));
        self
    }

    /// A database in memory, on one connection, gone with the store.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.source = Some(Source::Memory);
        self
    }

    /// The database of your own pool. It is never closed, no connection is opened beside it, and its
    /// settings (journal mode, synchronous, busy timeout) are left as they are. Each of its
    /// connections must see the same database, which `sqlite::memory:` with more than one
    /// connection does not.
    #[must_use]
    pub fn pool(mut self, pool: SqlitePool) -> Self {
        self.source = Some(Source::Pool(pool));
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
        // On macOS a plain sync ends in the disk's cache; has no effect elsewhere.
        if self.synchronous == Synchronous::Full { options.pragma("fullfsync", "ON") } else { options }
    }

    /// Whether the database and its schema stay as they are.
    pub(crate) fn only_looks(&self) -> bool {
        self.existing || self.mode == Mode::ReadOnly && matches!(self.source, Some(Source::File(_)))
    }
}

impl Default for SqliteBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options of a pool may include a key.
        f.write_str(match self {
            Self::Memory => "Memory",
            Self::File(_) => "File",
            Self::Pool(_) => "Pool",
        })
    }
}

/// The database that a URL names.
fn source(url: &StoreUrl) -> Result<Source> {
    let rest = url.rest();
    if matches!(rest, ":memory:" | "//:memory:") {
        return Ok(Source::Memory);
    }
    // sqlx reads `sqlite://sessions.db` as a relative path, and so do its users.
    let path = match rest.strip_prefix("//").filter(|path| !path.starts_with('/')) {
        Some(relative) => StoreUrl::parse(&format!("{NAME}:{relative}"))?.path()?,
        None => url.path()?,
    };
    if path.is_empty() {
        return Err(invalid("the URL names no file; write `sqlite:sessions.db`, or `sqlite::memory:`"));
    }
    Ok(Source::File(path.into()))
}

pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

/// The error of an attempt to connect, before there is a store.
pub(crate) fn named(error: Error) -> Error {
    error.with_adapter(NAME).with_operation(Operation::Connect)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source_of(url: &str) -> String {
        match SqliteBuilder::from_url(url).unwrap().source.unwrap() {
            Source::Memory => ":memory:".to_owned(),
            Source::File(path) => path.to_str().unwrap().to_owned(),
            Source::Pool(_) => unreachable!(),
        }
    }

    #[test]
    fn urls() {
        assert_eq!(source_of("sqlite::memory:"), ":memory:");
        assert_eq!(source_of("sqlite://:memory:"), ":memory:");
        assert_eq!(source_of("sqlite:a/b.db"), "a/b.db");
        assert_eq!(source_of("sqlite://a/b.db"), "a/b.db");
        assert_eq!(source_of("sqlite:/a/b.db"), "/a/b.db");
        assert_eq!(source_of("sqlite:///a/b.db"), "/a/b.db");
        assert_eq!(source_of("SQLite:what%3F.db?mode=rw"), "what?.db");
        for url in [
            "sqlite:",
            "sqlite://",
            "redis:x",
            "sqlite:x?tabel=y",
            "sqlite:x?mode=w",
            "sqlite:x?sweep=1",
            "sqlite:x?sweep=0s",
        ] {
            assert_eq!(SqliteBuilder::from_url(url).unwrap_err().kind(), ErrorKind::InvalidConfig, "{url}");
        }
    }

    #[test]
    fn options() {
        let url = "sqlite:x?table=a%20b&values=json&setup=false&mode=ro&synchronous=normal&busy_timeout=1s\
                   &readers=2&sweep=off&permissions=0640";
        let builder = SqliteBuilder::from_url(url).unwrap();
        assert_eq!(builder.table, "a b");
        assert_eq!(builder.values, ValueFormat::Json);
        assert!(!builder.setup);
        assert_eq!((builder.mode, builder.synchronous), (Mode::ReadOnly, Synchronous::Normal));
        assert_eq!(builder.busy_timeout, Duration::from_secs(1));
        assert_eq!((builder.readers, builder.sweep), (2, Interval::OFF));
        assert_eq!(builder.permissions.map(Permissions::mode), Some(0o640));
        let sweep = SqliteBuilder::from_url("sqlite:x?sweep=5m").unwrap().sweep;
        assert_eq!(sweep, Interval::every(Duration::from_secs(300)));
    }
}

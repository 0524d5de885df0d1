//! The options, in code and in a URL.

use std::{borrow::Cow, fmt, path::PathBuf, time::Duration};

use larder_core::{Error, ErrorKind, Operation, Result, Values};
use larder_kit::StoreUrl;
use sqlx::{
    ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

pub(crate) const NAME: &str = "sqlite";

/// The options that a `sqlite:` URL takes.
pub const OPTIONS: &[&str] =
    &["table", "values", "setup", "mode", "permissions", "synchronous", "busy_timeout", "readers", "sweep"];

/// The longest busy timeout, which SQLite counts in milliseconds of 31 bits: about 24 days.
const LONGEST_BUSY_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

const PERMISSIONS_EXPECTED: &str = "the mode of a new file in octal, from 0600 to 0666, such as 0640 or 0660";

/// How the file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// To read only: writes are [`PermissionDenied`](ErrorKind::PermissionDenied), and nothing is set up or
    /// swept. Also on a file system that is mounted read-only.
    ReadOnly,
    /// To read and write; the file must be there.
    ReadWrite,
    /// To read and write; the file is made if it is not there.
    #[default]
    Create,
}

/// When SQLite waits for the disk; see the crate's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Synchronous {
    /// Never. A power cut may corrupt the database.
    Off,
    /// At checkpoints. A power cut may take the last commits with it, and nothing else.
    Normal,
    /// At each commit. What is acknowledged survives a power cut.
    #[default]
    Full,
}

/// The values that the column `value` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ValueFormat {
    /// Any bytes, as `BLOB`.
    #[default]
    Blob,
    /// JSON as `TEXT`, for SQLite's JSON functions. Other values are
    /// [`InvalidValue`](ErrorKind::InvalidValue) errors.
    Json,
}

impl ValueFormat {
    pub(crate) const fn values(self) -> Values {
        match self {
            Self::Blob => Values::Bytes,
            Self::Json => Values::JsonText,
        }
    }
}

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
    pub(crate) source: Option<Source>,
    pub(crate) table: String,
    pub(crate) format: ValueFormat,
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
pub(crate) enum Source {
    Memory,
    File(PathBuf),
    Pool(SqlitePool),
}

impl SqliteBuilder {
    /// The defaults. The database still has to be named: a [file](SqliteBuilder::file),
    /// [memory](SqliteBuilder::in_memory) or a [pool](SqliteBuilder::pool).
    #[must_use]
    pub fn new() -> Self {
        Self {
            source: None,
            table: "larder".to_owned(),
            format: ValueFormat::default(),
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

    /// The options that a URL asks for.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if it is not a `sqlite:` URL, names no file, or has an
    /// option that does not exist or does not parse.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::parse(url).map_err(named)
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

    /// The table. Any name will do; it is quoted. Default: `larder`.
    #[must_use]
    pub fn table(mut self, table: impl Into<String>) -> Self {
        self.table = table.into();
        self
    }

    /// The values that the column `value` holds. Default: any bytes.
    #[must_use]
    pub const fn values(mut self, format: ValueFormat) -> Self {
        self.format = format;
        self
    }

    /// Whether to make the table and its index if they are not there. The shape of a table that is there
    /// is checked either way. Default: `true`.
    #[must_use]
    pub const fn setup(mut self, setup: bool) -> Self {
        self.setup = setup;
        self
    }

    /// How the file is opened. Has no effect on a pool of your own, nor in memory.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// When SQLite waits for the disk. Has no effect on a pool of your own.
    #[must_use]
    pub const fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// How long to wait for another connection or process that is writing. Has no effect on a pool of your
    /// own. Default: 5 seconds.
    #[must_use]
    pub const fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// How many connections are opened for reading, at most; at least one. Each has a thread. Has no effect
    /// on a pool of your own, nor in memory. Default: 4.
    #[must_use]
    pub const fn readers(mut self, readers: u32) -> Self {
        self.readers = readers;
        self
    }

    /// How often expired rows are removed; `None` for never. Default: 60 seconds.
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

    /// The permissions of a database file that is made, such as `0o660`. Its owner must be allowed to read
    /// and write it. SQLite gives the files that it makes beside it (`-wal`, `-shm`) the same. A file that
    /// is there keeps its permissions. Has no effect on Windows. Default: `0o600`.
    #[must_use]
    pub const fn permissions(mut self, mode: u32) -> Self {
        self.permissions = Some(mode);
        self
    }

    fn parse(url: &str) -> Result<Self> {
        let mut url = StoreUrl::parse(url)?;
        if url.scheme() != NAME {
            return Err(invalid("the URL of an SQLite database begins with `sqlite:`"));
        }
        let mut builder = Self::new();
        builder.source = Some(source(&url)?);
        builder.table = url.take("table")?.unwrap_or(builder.table);
        let formats = [("blob", ValueFormat::Blob), ("json", ValueFormat::Json)];
        builder.format = url.take_choice("values", &formats)?.unwrap_or_default();
        builder.setup = url.take_bool("setup")?.unwrap_or(builder.setup);
        let modes = [("ro", Mode::ReadOnly), ("rw", Mode::ReadWrite), ("rwc", Mode::Create)];
        builder.mode = url.take_choice("mode", &modes)?.unwrap_or_default();
        let octal = |text: &str| {
            let digits = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| byte.is_ascii_digit());
            u32::from_str_radix(text, 8).ok().filter(|mode| digits && is_valid(*mode))
        };
        builder.permissions = url.take_with("permissions", PERMISSIONS_EXPECTED, octal)?;
        let levels =
            [("off", Synchronous::Off), ("normal", Synchronous::Normal), ("full", Synchronous::Full)];
        builder.synchronous = url.take_choice("synchronous", &levels)?.unwrap_or_default();
        builder.busy_timeout = url.take_duration("busy_timeout")?.unwrap_or(builder.busy_timeout);
        builder.readers = url.take_parsed("readers", "a number of connections")?.unwrap_or(builder.readers);
        builder.sweep = url.take_interval("sweep")?.unwrap_or(builder.sweep);
        url.finish(OPTIONS)?;
        Ok(builder)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.permissions.is_some_and(|mode| !is_valid(mode)) {
            return Err(invalid(format!("`permissions` takes {PERMISSIONS_EXPECTED}")));
        }
        if self.sweep == Some(Duration::ZERO) {
            return Err(invalid("the interval of `sweep` must be longer than zero"));
        }
        Ok(())
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

/// The permissions that a database file may have: its owner reads and writes, and there are no execute bits.
const fn is_valid(permissions: u32) -> bool {
    permissions & !0o666 == 0 && permissions & 0o600 == 0o600
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
        assert_eq!(builder.format, ValueFormat::Json);
        assert!(!builder.setup);
        assert_eq!((builder.mode, builder.synchronous), (Mode::ReadOnly, Synchronous::Normal));
        assert_eq!(builder.busy_timeout, Duration::from_secs(1));
        assert_eq!((builder.readers, builder.sweep, builder.permissions), (2, None, Some(0o640)));
        let sweep = SqliteBuilder::from_url("sqlite:x?sweep=5m").unwrap().sweep;
        assert_eq!(sweep, Some(Duration::from_secs(300)));
    }
}

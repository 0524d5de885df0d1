//! The options, in code and in a URL.

use std::{borrow::Cow, path::PathBuf, time::Duration};

use larder_core::{Error, ErrorKind, Result};
use larder_kit::{Configure, Interval, Permissions, StoreUrl, ValueFormat};
use sqlx::{
    ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

use crate::sql::MAX_ROWS;

/// The longest busy timeout: SQLite counts milliseconds in 31 bits, about 24 days.
const LONGEST_BUSY_TIMEOUT: Duration = Duration::from_millis(i32::MAX as u64);

larder_kit::choices! {
    /// The mode in which a file is opened.
    pub enum Mode {
        /// Read only: writes fail as [`PermissionDenied`](ErrorKind::PermissionDenied), and nothing is set up or swept.
        /// Works on a file system that is mounted read-only.
        "ro" => ReadOnly,
        /// Read and write. The file must exist.
        "rw" => ReadWrite,
        /// Read and write. The file is created if it does not exist.
        #[default]
        "rwc" => Create,
    }
}

larder_kit::choices! {
    /// The times at which SQLite waits for the disk. A commit survives the death of the process with each of these.
    pub enum Synchronous {
        /// Never. A power cut may corrupt the database.
        "off" => Off,
        /// At checkpoints. A power cut may lose the last commits, but does not damage the database.
        "normal" => Normal,
        /// At each commit. An acknowledged write survives a power cut.
        #[default]
        "full" => Full,
    }
}

/// The location of the database.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Memory,
    File(PathBuf),
    Pool(SqlitePool),
}

larder_kit::config! {
    /// The configuration of a store in an SQLite database. The database is given by a URL, [a file](Config::file),
    /// [memory](Config::in_memory) or [a pool](Config::connect_with).
    ///
    /// ```
    /// # async fn connect() -> larder_core::Result<()> {
    /// use larder_sqlite::{Config, Synchronous};
    ///
    /// let config = Config::new().file("sessions.db").table("bot sessions").synchronous(Synchronous::Normal);
    /// let store = config.connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    #[derive(Clone, Debug)]
    pub struct Config for "sqlite" {
        place: Option<Place>,
        existing: bool,
    }

    options {
        /// The name of the table. Any name works; it is quoted.
        table: String = "larder",
            if |table| is_table_name(table) => "a name without NUL that does not begin with `sqlite_`";
        /// The format of values: `bytes` stores any value as a `BLOB`; `json` stores only JSON, as `TEXT` for SQLite's
        /// JSON functions.
        values: ValueFormat = "bytes";
        /// Whether to create the table if it does not exist. The columns of an existing table are checked either way.
        setup: bool = "true";
        /// The mode in which a file is opened: `rwc` creates it if it does not exist, `rw` does not, and `ro` only
        /// reads.
        mode: Mode = "rwc";
        /// The permissions of a new file in octal, from `0600` to `0666`. An existing file keeps its own. No effect on
        /// Windows.
        permissions: Option<Permissions>, unset "`0600`";
        /// When SQLite waits for the disk: `full` (at each commit: commits survive a power cut), `normal` (a power cut
        /// may lose the last commits) or `off` (a power cut may corrupt the file). Commits survive the death of the
        /// process with each of these. Your own pool keeps its setting.
        synchronous: Synchronous = "full";
        /// The longest wait for another connection or process that is writing. Your own pool keeps its setting.
        busy_timeout: Duration = "5s";
        /// The maximum number of connections for reading, which are opened when needed. Your own pool has its own
        /// limit.
        readers: u32 = "4";
        /// The time between two removals of expired rows; `off` disables them.
        sweep: Interval = "1m";
    }
}

impl Config {
    fn locate(&mut self, url: &mut StoreUrl) -> Result<()> {
        if url.scheme() != Self::ADAPTER {
            return Err(invalid("the URL of an SQLite database must begin with `sqlite:`"));
        }
        // As in sqlx, `sqlite://sessions.db` is a relative path.
        let path = match url.rest().strip_prefix("//") {
            Some(path) if !path.starts_with('/') => StoreUrl::parse(&format!("sqlite:{path}"))?.path()?,
            _ => url.path()?,
        };
        self.place = Some(match path.as_str() {
            ":memory:" => Place::Memory,
            "" => {
                return Err(invalid(
                    "the URL does not name a file: write `sqlite:sessions.db`, or `sqlite::memory:`",
                ));
            }
            _ => Place::File(path.into()),
        });
        Ok(())
    }

    /// Uses the database in this file.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Some(Place::File(path.into()));
        self
    }

    /// Uses a database in memory, on one connection. It is lost when the store is closed or dropped.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.place = Some(Place::Memory);
        self
    }

    /// Opens a database that is already set up: creates no file or table, keeps the journal mode, and runs no sweeper.
    /// [`connect`](Config::connect) fails if the file or the table does not exist. Reading works without the permission
    /// to write; writing works with it.
    #[must_use]
    pub const fn existing(mut self) -> Self {
        self.existing = true;
        self
    }

    /// Returns the connection options for sqlx, for any location.
    pub(crate) fn connect_options(&self) -> SqliteConnectOptions {
        let options = SqliteConnectOptions::new()
            .busy_timeout(self.busy_timeout.min(LONGEST_BUSY_TIMEOUT))
            .synchronous(match self.synchronous {
                Synchronous::Off => SqliteSynchronous::Off,
                Synchronous::Normal => SqliteSynchronous::Normal,
                Synchronous::Full => SqliteSynchronous::Full,
            })
            // A longer log writes pages that change several times into the database once, with fewer syncs. Writing 64
            // random rows of 200 bytes with SQLite's default of 1,000 takes 12 % more processor time at 10,000 rows,
            // and 15 % more at 1,000,000.
            .pragma("wal_autocheckpoint", "4000")
            // One row per change of a batch: the connection's thread does not wait for its caller.
            .row_buffer_size(MAX_ROWS)
            .thread_name(|number| format!("larder-sqlite-{number}"))
            .disable_statement_logging();
        // On macOS a plain sync ends in the disk's cache. No effect elsewhere.
        if self.synchronous == Synchronous::Full { options.pragma("fullfsync", "ON") } else { options }
    }

    /// Returns whether connecting must not change the database or its schema.
    pub(crate) fn only_looks(&self) -> bool {
        self.existing || self.mode == Mode::ReadOnly && matches!(self.place, Some(Place::File(_)))
    }

    /// Returns the SQL type of the column `value`.
    pub(crate) fn column_type(&self) -> &'static str {
        if self.values == ValueFormat::Json { "TEXT" } else { "BLOB" }
    }
}

fn is_table_name(name: &str) -> bool {
    // The names of SQLite's own tables.
    let reserved = name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"));
    !name.is_empty() && !name.contains('\0') && !reserved
}

pub(crate) fn invalid(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidConfig, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place_of(url: &str) -> String {
        match Config::from_url(url).unwrap().place.unwrap() {
            Place::Memory => ":memory:".to_owned(),
            Place::File(path) => path.to_str().unwrap().to_owned(),
            Place::Pool(_) => unreachable!(),
        }
    }

    #[test]
    fn a_url_names_a_file_or_memory() {
        assert_eq!(place_of("sqlite::memory:"), ":memory:");
        assert_eq!(place_of("sqlite://:memory:"), ":memory:");
        assert_eq!(place_of("sqlite:a/b.db"), "a/b.db");
        assert_eq!(place_of("sqlite://a/b.db"), "a/b.db");
        assert_eq!(place_of("sqlite:/a/b.db"), "/a/b.db");
        assert_eq!(place_of("sqlite:///a/b.db"), "/a/b.db");
        assert_eq!(place_of("SQLite:what%3F.db?mode=rw"), "what?.db");
        for url in [
            "sqlite:",
            "sqlite://",
            "redis:x",
            "sqlite:x?tabel=y",
            "sqlite:x?mode=w",
            "sqlite:x?sweep=1",
            "sqlite:x?sweep=0s",
        ] {
            assert_eq!(Config::from_url(url).unwrap_err().kind(), ErrorKind::InvalidConfig, "{url}");
        }
    }

    #[test]
    fn a_url_sets_the_options() {
        let url = "sqlite:x?table=a%20b&values=json&setup=false&mode=ro&synchronous=normal&busy_timeout=1s\
                   &readers=2&sweep=off&permissions=0640";
        let config = Config::from_url(url).unwrap();
        assert_eq!(config.table, "a b");
        assert_eq!(config.values, ValueFormat::Json);
        assert!(!config.setup);
        assert_eq!((config.mode, config.synchronous), (Mode::ReadOnly, Synchronous::Normal));
        assert_eq!(config.busy_timeout, Duration::from_secs(1));
        assert_eq!((config.readers, config.sweep), (2, Interval::OFF));
        assert_eq!(config.permissions.map(Permissions::mode), Some(0o640));
        let sweep = Config::from_url("sqlite:x?sweep=5m").unwrap().sweep;
        assert_eq!(sweep, Interval::every(Duration::from_secs(300)));
    }

    #[test]
    fn a_configuration_file_sets_the_options() {
        let file = r#"{"url": "sqlite:a/b.db?mode=rw", "synchronous": "off", "readers": 2, "setup": false}"#;
        let config: Config = serde_json::from_str(file).unwrap();
        assert!(matches!(config.place, Some(Place::File(path)) if path.to_str() == Some("a/b.db")));
        assert_eq!((config.mode, config.synchronous), (Mode::ReadWrite, Synchronous::Off));
        assert_eq!((config.readers, config.setup), (2, false));
        assert!(serde_json::from_str::<Config>(r#"{"url": "sqlite:x", "values": "blob"}"#).is_err());
    }

    #[test]
    fn table_names_exclude_nul_and_the_reserved_prefix() {
        for name in ["larder", "a \"b\"", " ", "名前"] {
            assert!(is_table_name(name), "{name}");
        }
        for name in ["", "a\0b", "sqlite_x", "SQLite_schema"] {
            assert!(!is_table_name(name), "{name}");
        }
    }
}

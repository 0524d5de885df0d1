//! The options, in code and in a URL.

use std::{borrow::Cow, path::PathBuf, time::Duration};

use larder_core::{Error, ErrorKind, Result};
use larder_kit::{Configure, Interval, Permissions, StoreUrl, ValueFormat};
use sqlx::{
    ConnectOptions, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteSynchronous},
};

use crate::sql::MAX_ROWS;

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
    /// When SQLite waits for the disk. A commit survives the death of the process with each of these.
    pub enum Synchronous {
        /// Never. A power cut may corrupt the database.
        "off" => Off,
        /// At checkpoints. A power cut may take the last commits with it, and nothing else.
        "normal" => Normal,
        /// At each commit. An acknowledged write survives a power cut.
        #[default]
        "full" => Full,
    }
}

/// Where the database is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Memory,
    File(PathBuf),
    Pool(SqlitePool),
}

larder_kit::config! {
    /// The configuration of a store in an SQLite database, whose place is a URL, [a file](Config::file),
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
        /// The table, of any name; it is quoted.
        table: String = "larder",
            if |table| is_table_name(table) => "a name without NUL that does not begin with `sqlite_`";
        /// The values that the store holds: `bytes` for any, in a `BLOB`, or `json` for JSON only, as `TEXT`
        /// for SQLite's JSON functions.
        values: ValueFormat = "bytes";
        /// Whether to make the table if it is not there. The shape of a table that is there is checked either
        /// way.
        setup: bool = "true";
        /// How a file is opened: `rwc` makes it if it is not there, `rw` does not, and `ro` only reads.
        mode: Mode = "rwc";
        /// The permissions of a file that is made, in octal, from `0600` to `0666`. A file that is there
        /// keeps its own. Without effect on Windows.
        permissions: Option<Permissions>, unset "`0600`";
        /// When SQLite waits for the disk. A commit survives the death of the process with each value. With
        /// `full` it survives a power cut, too; with `normal` a power cut may take the last commits; with
        /// `off` it may corrupt the file. A pool of the caller keeps its own setting.
        synchronous: Synchronous = "full";
        /// How long to wait for another connection or process that is writing. A pool of the caller keeps its
        /// own setting.
        busy_timeout: Duration = "5s";
        /// The number of connections for reading, at most, which are opened as they are needed. A pool of the
        /// caller has limits of its own.
        readers: u32 = "4";
        /// How often expired rows are removed; `off` for never.
        sweep: Interval = "1m";
    }
}

impl Config {
    fn locate(&mut self, url: &mut StoreUrl) -> Result<()> {
        if url.scheme() != Self::ADAPTER {
            return Err(invalid("the URL of an SQLite database begins with `sqlite:`"));
        }
        // sqlx reads `sqlite://sessions.db` as a relative path, and so do its users.
        let path = match url.rest().strip_prefix("//") {
            Some(path) if !path.starts_with('/') => StoreUrl::parse(&format!("sqlite:{path}"))?.path()?,
            _ => url.path()?,
        };
        self.place = Some(match path.as_str() {
            ":memory:" => Place::Memory,
            "" => {
                return Err(invalid(
                    "the URL names no file; write `sqlite:sessions.db`, or `sqlite::memory:`",
                ));
            }
            _ => Place::File(path.into()),
        });
        Ok(())
    }

    /// The database in this file.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.place = Some(Place::File(path.into()));
        self
    }

    /// A database in memory, on one connection, gone with the store.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.place = Some(Place::Memory);
        self
    }

    /// Opens a database that is set up already: makes no file or table, changes no journal mode, and
    /// removes no expired rows by itself. [`connect`](Config::connect) fails if there is no such file or
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
            // Pages that are written several times go into the database once, in fewer syncs: with SQLite's own
            // 1,000, writes of 64 random rows of 200 bytes take 12 % more time of the processor with 10,000
            // rows, and 15 % with 1,000,000.
            .pragma("wal_autocheckpoint", "4000")
            // A row of each change of a batch: the connection's thread need not wait for its caller.
            .row_buffer_size(MAX_ROWS)
            .thread_name(|number| format!("larder-sqlite-{number}"))
            .disable_statement_logging();
        // On macOS a plain sync ends in the disk's cache; has no effect elsewhere.
        if self.synchronous == Synchronous::Full { options.pragma("fullfsync", "ON") } else { options }
    }

    /// Whether the database and its schema stay as they are.
    pub(crate) fn only_looks(&self) -> bool {
        self.existing || self.mode == Mode::ReadOnly && matches!(self.place, Some(Place::File(_)))
    }

    /// The type of the column `value`.
    pub(crate) fn column_type(&self) -> &'static str {
        if self.values == ValueFormat::Json { "TEXT" } else { "BLOB" }
    }
}

fn is_table_name(name: &str) -> bool {
    // Names of SQLite's own tables.
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
    fn urls() {
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
    fn options() {
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
    fn configuration_files() {
        let file = r#"{"url": "sqlite:a/b.db?mode=rw", "synchronous": "off", "readers": 2, "setup": false}"#;
        let config: Config = serde_json::from_str(file).unwrap();
        assert!(matches!(config.place, Some(Place::File(path)) if path.to_str() == Some("a/b.db")));
        assert_eq!((config.mode, config.synchronous), (Mode::ReadWrite, Synchronous::Off));
        assert_eq!((config.readers, config.setup), (2, false));
        assert!(serde_json::from_str::<Config>(r#"{"url": "sqlite:x", "values": "blob"}"#).is_err());
    }

    #[test]
    fn names_of_tables() {
        for name in ["larder", "a \"b\"", " ", "名前"] {
            assert!(is_table_name(name), "{name}");
        }
        for name in ["", "a\0b", "sqlite_x", "SQLite_schema"] {
            assert!(!is_table_name(name), "{name}");
        }
    }
}

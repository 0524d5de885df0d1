//! A Larder storage on SQLite, built on sqlx: one file (or memory), no server.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use larder_core::Result;
//!
//! # async fn example() -> Result<()> {
//! let store = larder_sqlite::connect("sqlite:sessions.db").await?;
//! store.write("chat:42", "hello").expires_in(Duration::from_secs(86_400)).await?;
//! if let Some(record) = store.read("chat:42").await? {
//!     println!("{} bytes", record.value.len());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The URL is `sqlite:relative/path`, `sqlite:/absolute/path` or `sqlite::memory:` (`sqlite://path` works too, as in
//! sqlx). The database is created if it does not exist; its directory is not. [`Config`] has the options.
//!
//! # The table
//!
//! One row per entry, in a table that is created on first use ([`Config::setup_sql`] returns the SQL):
//!
//! | column | type | contents |
//! |---|---|---|
//! | `key` | `TEXT`, primary key | the key |
//! | `version` | `INTEGER` | a random number, new at each write, for compare-and-swap |
//! | `expires_at` | `INTEGER`, null for never | the expiry in Unix milliseconds |
//! | `value` | `BLOB` (`TEXT` with `values=json`) | the value |
//!
//! Other programs may use the table too:
//!
//! - A program that writes a row must set `version` to a new random number, or compare-and-swap misses the change.
//! - The table may have further columns, which Larder ignores. They need a default or must allow nulls.
//! - A table must have row ids: one created `WITHOUT ROWID` is rejected.
//!
//! A row whose `expires_at` has passed counts as absent, and the sweeper removes it. `expires_at` has no index, because
//! every write would have to update it. Instead, a sweep reads the next 100,000 rows, or more if many have expired, so
//! a larger table takes several sweeps.
//!
//! A listing continues past a row that is not Larder's. It returns an error of kind
//! [`InvalidKey`](larder_core::ErrorKind::InvalidKey) for a key that is not a valid [`Key`](larder_core::Key), and one
//! of kind [`Corrupt`](larder_core::ErrorKind::Corrupt) for a row without a value or an integer version, or in a
//! damaged page of the file. `clear` leaves rows whose key is not valid.
//!
//! With `values=json`, values must be JSON, and SQLite can query them:
//! `SELECT key, json_extract(value, '$.name') FROM larder`.
//!
//! # The file
//!
//! Only its owner can read and write a new file, because keys may be session ids. The option `permissions` changes
//! this. SQLite gives the files beside the database (`-wal`, `-shm`) the permissions of the database. An existing file
//! keeps its permissions.
//!
//! A database that is new, or has only Larder's tables, is switched to write-ahead logging, and stays in that mode.
//! A database that has tables of another program keeps its journal mode, on which the program may depend. Larder works
//! in either mode, but without write-ahead logging readers and the writer wait for each other. To switch such a
//! database, run `PRAGMA journal_mode = WAL` once.
//!
//! A table with the right name and other columns is rejected, and the database is not changed. [`Config::existing`]
//! opens a database for inspection: it creates no file or table, keeps the journal mode, and runs no sweeper.
//!
//! `mode=ro` and `existing` also read a database on a read-only file system. SQLite uses no locks there. If the file
//! has changed, or another process has started a log beside it, calls fail with
//! [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig). Then open the storage again.
//!
//! While a database in write-ahead mode is open, even with `existing`, the files `-wal` and `-shm` are beside it. The
//! log grows to about 16 MB, or to the size that running readers need, before SQLite moves its contents into the
//! database. The last connection to close moves the rest and removes both files. `mode=ro` does not move it.
//!
//! If the file is moved, deleted or replaced while a storage has it open, every later call fails with
//! [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig), and nothing is written. Put the file back, or open the
//! storage again. Two changes are not detected: overwriting the file in place, and deleting only the `-wal` file. Close
//! the storage before you restore a backup.
//!
//! # Durability
//!
//! A write is acknowledged after its commit. A committed write survives the death of the process, even by `kill -9`,
//! with all options. The option `synchronous` decides about power cuts and crashes of the operating system:
//!
//! - `full`, the default: SQLite syncs the write-ahead log to the disk before it acknowledges a commit. Acknowledged
//!   writes are not lost.
//! - `normal`: SQLite syncs only at checkpoints. The database stays intact, but the last commits before the power cut
//!   may be missing. In return, a single write does not wait for the disk.
//! - `off`: SQLite never waits for the disk. A power cut may corrupt the database.
//!
//! Concurrent writes share a commit, so under load `full` costs one sync per batch, not per write.
//!
//! # Several processes
//!
//! Any number of processes on one machine may use one file, including compare-and-swap. One writes at a time, and the
//! others wait for at most the busy timeout; then the write fails with
//! [`Unavailable`](larder_core::ErrorKind::Unavailable). A network file system does not work, because write-ahead
//! logging needs shared memory.
//!
//! # Limits
//!
//! A value has at most [`MAX_VALUE`] bytes (SQLite's limit for a row). While a value of many megabytes is written, it
//! is in memory several times. An in-memory database belongs to one store and its clones, and is lost with them.

mod adapter;
mod batch;
mod config;
mod connect;
mod error;
mod file;
mod listing;
mod pool;
mod purge;
mod schema;
mod sql;
mod storage;
mod table;

use larder_core::{Result, Store};
pub use larder_kit::{Interval, Permissions, ValueFormat};
pub use sqlx::SqlitePool;

pub use crate::{
    adapter::Adapter,
    config::{Config, Mode, Synchronous},
    connect::MAX_VALUE,
};

/// Opens the database that `url` names and sets up its table.
///
/// # Errors
///
/// Fails as [`Config::from_url`] and [`Config::connect`] do.
pub async fn connect(url: &str) -> Result<Store> {
    Config::from_url(url)?.connect().await
}

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

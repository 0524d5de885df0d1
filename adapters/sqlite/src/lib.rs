//! Larder storage on SQLite, on sqlx: a file (or memory), no server.
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
//! The URL is `sqlite:relative/path`, `sqlite:/absolute/path` or `sqlite::memory:` (`sqlite://path`
//! works too, as sqlx has it). The database is made if it is not there; its directory is not. [`Config`]
//! has the options.
//!
//! # What it stores
//!
//! One row per entry, in a table that is made on first use ([`Config::setup_sql`] returns the
//! SQL):
//!
//! | column | type | contents |
//! |---|---|---|
//! | `key` | `TEXT`, primary key | the key |
//! | `version` | `INTEGER` | a new random number for each write, which compare-and-swap compares |
//! | `expires_at` | `INTEGER`, null for never | when it expires, in Unix milliseconds |
//! | `value` | `BLOB` (`TEXT` with `values=json`) | the value |
//!
//! Other programs may read and write the table too. A program that writes a row must set `version` to a
//! new random number, or compare-and-swap will not notice. Further columns are left alone; they need a default
//! or must allow nulls. A table must have row ids, so one made `WITHOUT ROWID` is refused. A row whose
//! `expires_at` has passed counts as absent, and is removed by the sweeper. There is no index on
//! `expires_at`, which each write would have to change: a sweep reads the next 100,000 rows, or more where many
//! have expired, and so takes several turns for a larger table. A listing goes on past a row that is not Larder's: it yields an error of kind
//! [`InvalidKey`](larder_core::ErrorKind::InvalidKey) for a key that is not a valid
//! [`Key`](larder_core::Key), and one of kind [`Corrupt`](larder_core::ErrorKind::Corrupt) for a
//! row that has no value or no integer as its version, or that lies in a damaged page of the file.
//! `clear` leaves rows whose key is not a valid key.
//!
//! With `values=json` values must be JSON, and SQLite can query them:
//! `SELECT key, json_extract(value, '$.name') FROM larder`.
//!
//! # The file
//!
//! A new file can be read and written by its owner only, because keys may be session ids. The option
//! `permissions` sets others. SQLite gives the files that it makes beside the database (`-wal`,
//! `-shm`) the permissions of the database. A file that is there keeps its own.
//!
//! A new database, and one with no other tables than Larder's, is switched to write-ahead logging,
//! and stays so. A database that has tables of another program keeps its journal mode: the program
//! may depend on it. Larder works in either mode, but without write-ahead logging readers and the
//! writer wait for each other. `PRAGMA journal_mode = WAL`, run once, switches such a database.
//!
//! A table of the right name and another shape is refused, and the database left as it is.
//! [`Config::existing`] opens a database to look at it: it makes no file or table, changes no
//! journal mode and removes no expired rows by itself.
//!
//! `mode=ro` and `existing` read a database on a read-only file system as well. There SQLite
//! uses no locks. A call fails with [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the
//! file has changed, or if another process has begun to write a log beside it; open the storage again
//! then.
//!
//! While a database in write-ahead mode is open, `existing` included, its `-wal` and `-shm`
//! files are beside it. The log grows to about 16 MB, or to as much as readers under way need, before SQLite
//! moves its contents into the database. The last connection to close moves what is left and removes both
//! files. `mode=ro` does not move it.
//!
//! A file that is moved, deleted or replaced while a storage has it open is noticed: every later call
//! fails with [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig), and nothing is written. Put
//! the file back, or open the storage again. A file that is overwritten in place is not noticed, nor a
//! `-wal` file that is deleted alone: close the storage before you restore a backup.
//!
//! # Durability
//!
//! A write is acknowledged once it is committed, and a committed write survives the death of the
//! process, `kill -9` included, whatever the options say. A power cut or a crash of the operating
//! system is another matter: with `synchronous=full`, the default, SQLite syncs the write-ahead log
//! to the disk before a commit is acknowledged, and nothing acknowledged is lost. With `normal` it
//! syncs only at checkpoints: the database stays intact, but the last commits before the power cut
//! may be missing; in return a lone write does not wait for the disk. With `off` SQLite never waits
//! for the disk, and a power cut may corrupt the database.
//!
//! Concurrent writes share a commit, so under load `full` costs one sync per batch, not per write.
//!
//! # Several processes
//!
//! Any number of processes on one machine may use one file, compare-and-swap included; one writes at
//! a time and the others wait, at most for the busy timeout, after which the write fails with
//! [`Unavailable`](larder_core::ErrorKind::Unavailable). Not over a network file system: write-ahead
//! logging needs shared memory.
//!
//! # Limits
//!
//! A value has at most [`MAX_VALUE`] bytes (SQLite's limit for a row); one of many megabytes is held
//! in memory several times while it is written. An in-memory database belongs to its handle (and the
//! handle's clones) and is gone with it.

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
    config::{Config, Mode, Synchronous},
    connect::MAX_VALUE,
};

/// Opens the database that `url` names and sets up its table.
///
/// # Errors
///
/// As [`Config::from_url`] and [`Config::connect`].
pub async fn connect(url: &str) -> Result<Store> {
    Config::from_url(url)?.connect().await
}

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

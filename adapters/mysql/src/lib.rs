//! A Larder storage on MySQL 8.0 and later and MariaDB 10.11 and later, built on sqlx.
//!
//! ```no_run
//! use larder_core::{Expiry, Key, Result};
//!
//! # async fn count() -> Result<()> {
//! let store = larder_mysql::connect("mysql://bot:secret@localhost/app").await?;
//! let key = Key::new("chat:42")?;
//! let visits = store
//!     .update(&key, Expiry::after_secs(86_400), |seen: Option<u64>| Some(seen.unwrap_or(0) + 1))
//!     .await?;
//! println!("{visits:?}");
//! # Ok(())
//! # }
//! ```
//!
//! # Columns
//!
//! One row per entry, in an InnoDB table that is created on first use ([`Config::setup_sql`] returns the SQL):
//!
//! | column | type | contents |
//! |---|---|---|
//! | `key` | `VARBINARY(512)`, primary key | the key |
//! | `value` | `LONGBLOB` (or `LONGTEXT`) | the value |
//! | `version` | `BIGINT` | a random number, new at each write, for conditions |
//! | `expires_at` | `BIGINT`, null for never | the expiry in Unix milliseconds, by the server's clock |
//!
//! Keys are compared and sorted by their bytes, whatever the collation of the database.
//!
//! Other programs may use the table too. A program that writes a row must set `version` to a new random number, or
//! conditions miss the change. The table may have further columns, which Larder ignores; they need a default or must
//! allow nulls. It must not have another unique key: a write could replace the row that it finds with that key.
//!
//! With `values=json`, SQL can query the values:
//! ``SELECT CONVERT(`key` USING utf8mb4), JSON_VALUE(value, '$.name') FROM larder``.
//!
//! [`Config::existing`] opens only an existing table, and creates and removes nothing by itself. It lets a user that
//! may only `SELECT` inspect a database. A table with other columns is always rejected, and never changed.
//!
//! # Options
//!
//! See [`Config`]. It is made from a URL, in code, or from a configuration file. The URL is
//! `mysql://user:password@host:port/database?option=value&...`, or the same with `mariadb:`.
//!
//! These options are passed to the driver: `socket` (the path of a Unix socket), `ssl-mode` (`disabled`, `preferred`,
//! `required` or `verify_identity`; default `preferred`), `ssl-ca` (a PEM file of root certificates, in addition to
//! Mozilla's), `ssl-cert` and `ssl-key` (a client certificate). `preferred` and `required` do not check the server's
//! certificate: use `verify_identity` across networks that you do not control. `verify_ca` is rejected, because the
//! driver would accept any certificate of a public authority.
//!
//! The default authentication of MySQL, `caching_sha2_password`, needs TLS or a Unix socket.
//!
//! For anything else, pass the driver's own configuration ([`Config::server`]) or your own pool
//! ([`Config::connect_with`]), which stays open when the store is closed.
//!
//! # Connections
//!
//! Statements are prepared once per connection, which costs a round trip. Then a read, a write, a deletion and a touch
//! are one statement and one round trip each, on any condition. A read that touches is two: it reads the entry, and then
//! touches it if it has not changed. If it has, it starts again.
//!
//! A batch is one commit. Puts without conditions are one statement. Other changes are one transaction, whatever their
//! mix: it locks their rows, writes and touches them with one statement, and deletes with another if the batch contains
//! deletions. A change fails alone if its condition does not hold, or the server rejects its value. If the server rolls
//! back a change because of concurrent ones (a deadlock), it is repeated.
//!
//! The option `timeout` limits a call of one statement as a whole. This includes waiting for a connection, opening one,
//! repetitions, and [ending an older change](#changes-that-time-out). A connection that takes longer to open is used by
//! a later call. The limit applies to each step of longer operations: to each page of a listing, and to each batch of
//! up to 256 entries or 8 MiB. With `group_commit` on, a write first waits for the running batch.
//!
//! If a connection breaks, the others are checked before their next use, and one that was unused for 30 seconds always
//! is.
//!
//! # Changes that time out
//!
//! A change that timed out, whose connection broke, or whose future was dropped may still be on its way to the server.
//! Each connection holds a lock of the server (`GET_LOCK`) under a name of its own. Before the next change, the storage
//! ends the connections of such changes (`KILL`), and waits until their locks are free. So the older change never
//! overwrites a newer one that was acknowledged ([`Info::fenced`](larder_core::Info::fenced)). If the confirmation does
//! not arrive within `timeout`, the newer change fails as [`Unavailable`](larder_core::ErrorKind::Unavailable), and is not
//! applied. This costs nothing until a change is lost, and then some round trips.
//!
//! If a connection reaches another server (the host name resolves to another one), changes continue there, because the
//! older change cannot reach it. If a connection reaches the first server again, the old connection is ended before a
//! change there. This does not hold for servers that replicate to each other, such as the nodes of a Galera cluster.
//!
//! Behind a proxy that pools connections or distributes statements, such as ProxySQL, `KILL` and the locks may reach
//! other connections: use your own pool there.
//!
//! With your own pool, or where the server does not support `GET_LOCK`, the storage is not `fenced`. A change that was
//! dropped, or failed as [`Timeout`](larder_core::ErrorKind::Timeout) or `Unavailable`, may then overwrite later ones
//! while the network or a lock holds it. If this matters, write with a condition: a late write that expects a version
//! finds another one, and changes nothing.
//!
//! Changes through other storages and programs do not wait for this.
//!
//! # Guarantees and limits
//!
//! - An acknowledged write is as durable as a committed transaction: with the server's defaults
//!   (`innodb_flush_log_at_trx_commit=1`), it survives a power cut.
//! - Expiry is decided by the server's clock at the beginning of a statement. The time zone has no effect.
//! - Values have at most `max_allowed_packet` bytes less 1 KiB. The storage reads this setting when it is opened; its
//!   maximum is 1 GiB. InnoDB also rejects values larger than a tenth of its redo log.
//! - `binlog_format` must be `ROW` or `MIXED`, the defaults, because batches use the isolation level `READ COMMITTED`.
//! - On a read-only replica, reads work, and changes fail as [`Unavailable`](larder_core::ErrorKind::Unavailable).
//! - With your own pool, the driver logs statements as the pool's options say, without keys and values.
//!
//! # Features
//!
//! `tls` (on by default): TLS through rustls with ring. Mozilla's root certificates are compiled in.

mod adapter;
mod batch;
mod config;
mod connect;
mod driver;
mod error;
mod pool;
mod schema;
mod sql;
mod storage;

use larder_core::{Result, Store};
pub use larder_kit::{Interval, Timeout, ValueFormat};
pub use sqlx;

pub use crate::{
    adapter::Adapter,
    config::{Config, DRIVER_OPTIONS},
};

/// Connects to the server at `url`, creates the table if it is missing, and opens the store.
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
#[derive(Debug)]
pub struct Readme;

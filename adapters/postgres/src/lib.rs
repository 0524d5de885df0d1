//! A Larder storage on PostgreSQL 12 and later, built on tokio-postgres and deadpool-postgres.
//!
//! ```no_run
//! use larder_core::{Expiry, Key, Result};
//!
//! # async fn count() -> Result<()> {
//! let store = larder_postgres::connect("postgres://bot:secret@localhost/app").await?;
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
//! One row per entry, in a table that is created on first use ([`Config::setup_sql`] returns the SQL):
//!
//! | column | type | contents |
//! |---|---|---|
//! | `key` | `text COLLATE "C"`, primary key | the key |
//! | `value` | `bytea` (or `jsonb`, `json`, `text`) | the value |
//! | `version` | `bigint` | a random number, new at each write, for conditions |
//! | `expires_at` | `timestamptz`, null for never | the expiry, by the server's clock |
//!
//! Other programs may use the table too. A program that writes a row must set `version` to a new random number, or
//! conditions miss the change. The table may have further columns, which Larder ignores; they need a default or must
//! allow nulls. Listings have the order of `COLLATE "C"`, which set-up checks.
//!
//! With `values=jsonb` or `values=json`, SQL can query the values: `SELECT key, value->>'name' FROM larder`.
//!
//! [`Config::existing`] opens only an existing table, and creates and removes nothing by itself. It lets a user that
//! may only `SELECT` inspect a database. A table with other columns is always rejected, and never changed.
//!
//! `layout=grammy` uses the table of `@grammyjs/storage-psql`: `"key" VARCHAR NOT NULL, "value" TEXT` and a unique
//! index. Its entries do not expire, conditions compare the content, and listings have the order of the database's
//! collation.
//!
//! # Options
//!
//! See [`Config`]. It is made from a URL, in code, or from a configuration file. The URL is
//! `postgres://user:password@host:port/database?option=value&...`, and may have several hosts separated by commas.
//!
//! These options are passed to the driver: `application_name` (default `larder`), `channel_binding`, `dbname`, `host`,
//! `hostaddr`, `keepalives`, `keepalives_idle` (default 30 s), `keepalives_interval` (default 10 s),
//! `keepalives_retries` (default 3), `load_balance_hosts`, `options`, `password`, `port`, `sslnegotiation`,
//! `target_session_attrs`, `tcp_user_timeout`, `user`.
//!
//! For anything else, such as a client certificate or another TLS library, pass the driver's own configuration
//! ([`Config::server`]) or your own pool ([`Config::connect_with`]), which stays open when the store is closed.
//!
//! # Connections
//!
//! Each operation is one statement and one round trip. Statements are prepared once per connection. A new connection
//! costs one more round trip, to detect a pooler. A connection is not checked when it leaves the pool; if it breaks, it
//! is dropped, and the next call opens another one.
//!
//! - **Reads** share connections, and are pipelined.
//! - **A write** has its own connection, because it may have to wait for a lock.
//! - **A batch** is one statement and one commit, for any mix of changes. A change fails alone if its condition does
//!   not hold, or the server rejects its value. If one change waits for a lock, all wait.
//! - While a call waits for a connection, later reads do not join a shared one. So with a single connection, reads and
//!   writes take turns.
//!
//! A statement whose call takes longer than `timeout` is cancelled on the server. A change whose caller has dropped it
//! is cancelled too, but with `group_commit` on it runs to its end. The connection is then closed, because the
//! cancellation could arrive late and hit the next statement. With your own pool ([`Config::connect_with`]) nothing is
//! cancelled: such a statement may still be executed when the lock that it waits for becomes free.
//!
//! The option `timeout` limits a call of one statement as a whole. This includes waiting for a connection, opening one,
//! and [ending an older change](#changes-that-time-out). A connection that takes longer to open is used by a later
//! call.
//! The limit applies to each step of longer operations: to each page of up to 500 entries of a listing, to each 1,000
//! entries of `clear`, to each statement of a batch (1,000 entries or 8 MiB), and to each step of opening. With
//! `group_commit` on, a write first waits for the running batch.
//!
//! # Changes that time out
//!
//! A change that timed out, whose connection broke, or whose future was dropped may still be on its way to the server.
//! Before the next change, the storage ends the server process that would receive it (`pg_terminate_backend`), and
//! waits until the server confirms that the process has ended. So the older change never overwrites a newer one that
//! was acknowledged ([`Info::fenced`](larder_core::Info::fenced)). If the confirmation does not arrive within
//! `timeout`, the newer change fails as [`Unavailable`](larder_core::ErrorKind::Unavailable), and is not applied. This
//! costs nothing until a change is lost, and then some round trips.
//!
//! Only the same server, without a restart in between, can confirm this. If a connection reaches another server (the
//! URL has several hosts, or the host name resolves to another one), or the server has restarted, changes continue
//! there, because the older change cannot reach it. If a connection reaches the first server again, the old process is
//! ended before a change there. The storage remembers the last 256 such processes. This does not hold for servers that
//! replicate to each other in both directions.
//!
//! Fencing needs a direct connection to the server and a user that may call `pg_terminate_backend`. Every user may, if
//! the permission was not revoked. The storage checks this when it connects. If the first connection had both, it
//! rejects later ones that lack either.
//!
//! Behind a pooler, or without the permission, the storage is not `fenced`. A change that was dropped, or failed as
//! [`Timeout`](larder_core::ErrorKind::Timeout) or `Unavailable`, may then overwrite later ones while the network, the
//! pooler or a lock holds it. The option `tcp_user_timeout` limits the network, and the server's `statement_timeout`
//! limits the lock. If this matters, connect directly, or write with a condition: a late write that expects a version
//! finds another one, and changes nothing.
//!
//! Changes through other storages and programs do not wait for this.
//!
//! The driver logs each statement at the level `debug`, without its parameters (keys and values).
//!
//! An acknowledged write is as durable as a committed transaction: with the server's defaults (`fsync` and
//! `synchronous_commit` on), it survives a power cut.
//!
//! # Limits
//!
//! - Values have at most 10^9 bytes, or 250 million with `jsonb`.
//! - `jsonb` rejects values that it cannot represent: the escape `\u0000`, and numbers beyond `numeric`.
//! - A host name that does not resolve is [`Unavailable`](larder_core::ErrorKind::Unavailable), like a server that is
//!   down.
//! - The database's encoding must be `UTF8` or `SQL_ASCII`; others cannot represent every key.
//! - TLS does not accept a self-signed server certificate as its own root: use a certificate signed by a certificate
//!   authority, which may be your own.
//! - Passwords are not bound to a certificate that is signed with ECDSA and SHA-512, or with Ed25519. Therefore
//!   `channel_binding=require` rejects such a certificate.
//!
//! # Features
//!
//! `tls` (on by default): TLS through rustls with ring. The root certificates are Mozilla's, compiled in, not those of
//! the operating system. They are the same on every machine, and in the smallest container.

mod adapter;
mod backend;
mod batch;
mod config;
mod connect;
mod driver;
mod error;
mod grammy;
mod larder;
mod listing;
mod model;
mod names;
mod pool;
mod schema;
mod sql;
mod storage;
mod table;
mod tls;
mod value;

pub use deadpool_postgres::{self, tokio_postgres};
use larder_core::{Result, Store};
pub use larder_kit::{Interval, Layout, Timeout};

pub use crate::{
    adapter::Adapter,
    config::{Config, DRIVER_OPTIONS, Roots, Statements, TlsMode, ValueFormat},
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

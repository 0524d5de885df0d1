//! Larder storage on PostgreSQL (12 and later), on tokio-postgres and deadpool-postgres.
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
//! One row per entry, in a table that is made on first use ([`Config::setup_sql`] returns
//! the SQL):
//!
//! | column | type | contents |
//! |---|---|---|
//! | `key` | `text COLLATE "C"`, primary key | the key |
//! | `value` | `bytea` (or `jsonb`, `json`, `text`) | the value |
//! | `version` | `bigint` | a random number, another one for each write; conditions compare it |
//! | `expires_at` | `timestamptz`, null for never | when it expires, by the server's clock |
//!
//! Other programs may read and write the table too. A program that writes a row must set `version` to a
//! new random number, or conditions will not notice. Further columns are left alone; they need a default
//! or must allow nulls. The order of listings is that of `COLLATE "C"`, which the set-up checks.
//!
//! With `values=jsonb` or `values=json` the database can query the values:
//! `SELECT key, value->>'name' FROM larder`.
//!
//! With [`Config::existing`] it opens a table only if it is there, and makes and removes
//! nothing by itself: for a look at a database, also by a user who may only `SELECT`. A table of
//! another shape is refused either way, and stays as it is.
//!
//! With `layout=grammy` it reads and writes the table of `@grammyjs/storage-psql`: `"key" VARCHAR NOT
//! NULL, "value" TEXT` and a unique index. There is no expiry then, conditions compare the content,
//! and listings have the order of the database's collation.
//!
//! # Options
//!
//! See [`Config`], which comes from a URL, `postgres://user:password@host:port/database?option=value&...`,
//! with several hosts separated by commas, from code or from a configuration file.
//!
//! Handed on to the driver: `application_name` (`larder` unless given), `channel_binding`, `dbname`,
//! `host`, `hostaddr`, `keepalives`, `keepalives_idle` (here 30 s), `keepalives_interval` (10 s),
//! `keepalives_retries` (3), `load_balance_hosts`, `options`, `password`, `port`, `sslnegotiation`,
//! `target_session_attrs`, `tcp_user_timeout`, `user`.
//!
//! A client certificate, another TLS library, or anything else: hand in the driver's own configuration
//! ([`Config::server`]) or a pool of your own ([`Config::connect_with`]); it stays open when the store is
//! closed.
//!
//! # How it works
//!
//! Each operation is one statement and one round trip, prepared once per connection; connections are
//! not pinged when they leave the pool. A new connection costs one round trip more, which asks whether
//! the server or a pooler is at the other end. Concurrent reads share connections, back to back; a write,
//! which may have to wait for a lock, has one to itself. While a call waits for a connection, later reads do
//! not join, so with a single connection reads and writes take turns. The changes of a batch go into one
//! statement and one commit together, whatever they are, and each fails alone if its condition does not hold or
//! the server refuses its value; a lock that one of them waits for holds up all. A connection that breaks is
//! thrown away, and the next call opens another. A statement whose call takes longer than `timeout` is cancelled
//! on the server, and so is a change whose caller has gone (with `group_commit` on, changes whose callers have
//! gone are seen to their end instead). Its connection is not used again, which the cancellation could hit
//! later. With a pool that was handed in ([`Config::connect_with`]) neither is cancelled: such a statement may
//! still happen, whenever the lock it waits for is free.
//!
//! The option `timeout` bounds a call of one statement as a whole, also if it has to wait for a connection,
//! to make one, or to [end an older change](#changes-that-time-out) first. A connection that takes longer to
//! make is there for a later call. A listing has that long for each page of up to 500 entries, `clear` for
//! every 1,000 entries, a batch for each of its statements (1,000 entries or 8 MiB), and opening for each of
//! its steps. With `group_commit` on, a write that comes while a batch is under way waits for that first.
//!
//! # Changes that time out
//!
//! A change that timed out, whose connection broke, or whose future was dropped may still be on its
//! way to the server. The next change through the same storage first ends the process of the server
//! that would receive it (`pg_terminate_backend`), and waits until the server confirms that it has
//! ended. So the older change never overwrites a newer one that was acknowledged
//! ([`Info::fenced`](larder_core::Info::fenced)). If there is no confirmation within
//! `timeout`, the newer change fails as [`Unavailable`](larder_core::ErrorKind::Unavailable) and is
//! not applied. This costs nothing until a change is lost, and then some round trips.
//!
//! Only the same server, not restarted since, can confirm it. If a connection leads to another server
//! (the URL has several hosts, or the host name leads elsewhere), or the server has restarted, the change
//! goes on there: the older one cannot reach it any more. The process on the first server is ended before
//! a change there. The storage remembers the last 256 such processes. Servers that copy changes to each
//! other in both directions have no such guarantee.
//!
//! It needs a connection straight to the server and a user who may call `pg_terminate_backend`, which
//! every user may unless the right was revoked. The storage finds out when it connects, and refuses a
//! later connection that lacks either where the first one had both. Behind a pooler, or without the
//! right, it is not `fenced`: a change that failed as [`Timeout`](larder_core::ErrorKind::Timeout) or
//! `Unavailable`, or was dropped, may overwrite later ones for as long as the network, the pooler or a
//! lock holds it back. The option `tcp_user_timeout` bounds the first, and the server's
//! `statement_timeout` the last. Where it matters, connect to the server directly, or write on a
//! condition: a late write that expects a version finds another one, and does nothing.
//!
//! Changes through other storages and programs do not wait.
//!
//! The driver logs each statement, at the level `debug`; its parameters (keys, values) are hidden from that.
//!
//! An acknowledged write survives as a committed transaction does: with the server's defaults
//! (`fsync` and `synchronous_commit` on) a power cut.
//!
//! # Limits
//!
//! Values have at most 10^9 bytes, with `jsonb` 250 million. `jsonb` refuses values that it cannot hold (the
//! escape `\u0000`, numbers beyond `numeric`). A host name that does not resolve is
//! [`Unavailable`](larder_core::ErrorKind::Unavailable), like a server that is down. The database's
//! encoding must be `UTF8` or `SQL_ASCII`; others cannot hold every key. TLS does not
//! accept a self-signed server certificate as its own root: use one that a certificate authority,
//! which may be your own, has signed. Passwords are not bound to a certificate that is signed with ECDSA and
//! SHA-512 or with Ed25519, so `channel_binding=require` refuses it.
//!
//! # Features
//!
//! `tls` (on by default): TLS through rustls with ring. Roots are Mozilla's, compiled in, rather than
//! the operating system's: the same on every machine, in the smallest container too.

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

pub use crate::config::{Config, DRIVER_OPTIONS, Roots, Statements, TlsMode, ValueFormat};

/// Connects to the server at `url`, creates the table if it is missing, and opens the store:
/// [`Config::from_url`] and
/// [`Config::connect`].
///
/// # Errors
///
/// As theirs.
pub async fn connect(url: &str) -> Result<Store> {
    Config::from_url(url)?.connect().await
}

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;

#![cfg_attr(docsrs, feature(doc_cfg))]
//! A [Larder](larder_core) storage on Redis and Valkey: one server, TLS, Cluster or Sentinel.
//!
//! ```no_run
//! # async fn example() -> larder_core::Result<()> {
//! use larder_core::{Expiry, Key};
//!
//! let store = larder_redis::connect("redis://localhost/0?prefix=shop-bot").await?;
//! let chat = Key::new("-1001234567890")?;
//! store.write_as(&chat, &vec!["Rex".to_owned(), "Míša".to_owned()], Expiry::after_secs(3600)).await?;
//! let count = |seen: Option<u32>| Some(seen.unwrap_or(0) + 1);
//! store.update(&Key::new("visits")?, Expiry::Never, count).await?;
//! # Ok(()) }
//! ```
//!
//! # URLs
//!
//! | URL | opens | feature |
//! |---|---|---|
//! | `redis://[user:password@]host[:port][/database]` | one server (`valkey://` is the same) | |
//! | `rediss://...` | one server over TLS (`valkeys://` is the same) | `tls` |
//! | `redis+unix:///path/to/socket[?db=1&user=u&password=p]` | one server on this machine | |
//! | `redis-cluster://[user:password@]host1[:port],host2[:port]` | a cluster; some of its nodes are enough | `cluster` |
//! | `redis-sentinel://[user:password@]host1[:port],host2[:port]/master[/database]` | the master with that name, located by Sentinels; user and password are those of the master | `sentinel` |
//! | `rediss-cluster://...`, `rediss-sentinel://...` | the same over TLS | also `tls` |
//!
//! [`Config`] has the table of the options: in the URL, as setters, or in a configuration file. User, password and
//! database number may be options instead of parts of the URL, for example to keep the password elsewhere.
//!
//! # Stored data
//!
//! A session is a plain string under `prefix:key`. Its time to live is that of the Redis key (`PX`). So
//! `redis-cli GET shop-bot:-1001234567890` shows it. Colons and percent signs in the *prefix* are percent-encoded:
//! the first colon of a Redis key always ends the prefix. With `layout=grammy`, keys have no prefix, and the JSON is
//! compatible with grammY's adapter in both directions. The sessions must then have the database to themselves.
//!
//! # Guarantees and limits
//!
//! - The content of a value is its version: a value that changes and changes back has the same version again.
//! - Durability across a crash of the *server* depends on its configuration. With `appendonly yes` and `appendfsync
//!   always`, every acknowledged write survives; with `everysec`, the last second may be lost; with neither, all
//!   writes since the last snapshot. Replication is asynchronous, so a failover may lose the last acknowledged writes.
//! - Eviction (a `maxmemory-policy` other than `noeviction`) deletes sessions when memory is full.
//! - A write is sent once. A command that may have reached the server is not repeated, not even in a cluster. (Your
//!   own cluster connection repeats as you configured it; `retries(0)` disables that.)
//! - A change fails as [not applied](larder_core::Outcome::NotApplied) if it could not be sent, or the server
//!   rejected it. If the connection breaks after it was sent, or the server does not answer in time, the outcome is
//!   unknown.
//! - All tasks share one connection. When it breaks, or a command times out, the running operations fail with a
//!   retryable error. The next call connects again, and asks the Sentinels again.
//! - On a single server, a change that timed out never overwrites a later one; see
//!   [After a timeout](#after-a-timeout).
//! - Listings never block the server (`SCAN`, never `KEYS`) and may return a key twice. They include strings only. For
//!   a key under the prefix that Larder cannot represent, a listing contains an error of kind
//!   [`InvalidKey`](larder_core::ErrorKind::InvalidKey), and continues; `clear` does not delete such keys. If keys move
//!   between the nodes of a cluster during a listing, it starts again and finds them. A move that is still running when
//!   the listing ends may hide the moving keys.
//! - Each operation on one key is one command. If Redis has no such command, it is a script: reading a value with its
//!   time to live (also in listings), and the cases in [`CompareAndSwap`]. So the user needs the permission to run
//!   `EVAL` and `EVALSHA`. The README lists all required commands.
//! - A batch is one pipeline per 256 changes or MiB. In a cluster its commands are sent concurrently. Two changes of
//!   one key run one after the other.
//! - [`Store::location`] is the same for all names of a server, and for its replicas; in a cluster, while it has the
//!   same masters. It uses `INFO`, `CLIENT INFO` (Redis 6.2 and newer) and, in a cluster, `CLUSTER SLOTS`. It is `None`
//!   if the server rejects them.
//! - A value has at most 512 MiB. Works with Redis 6.0 and newer, and any version of Valkey.
//!
//! # After a timeout
//!
//! Commands sent on a connection that timed out or broke may still be on their way to the server. On a single server
//! (`redis://`, `rediss://`, `redis+unix://`) the storage makes the server close that connection (`CLIENT KILL`)
//! before it sends anything on a new one, and [`Info::fenced`](larder_core::Info::fenced) is true. This costs two round
//! trips per new connection, and none otherwise. If the server does not confirm this, or does not answer within
//! `connect_timeout`, calls fail as not applied, with an [`Unavailable`](larder_core::ErrorKind::Unavailable) error.
//!
//! If another server process answers, the server has restarted, or the name resolves to another server. The storage
//! continues there, and closes the old connection if the first process answers again. It remembers the last 64 such
//! connections. So on each server, a late change never overwrites a newer one of this storage. This does not hold for
//! a name that resolves to several servers which replicate to each other.
//!
//! Fencing needs Valkey, or Redis 6.2 or newer, and a user that may run `CLIENT INFO`, `CLIENT KILL` and `INFO`
//! (`ACL SETUSER bot +client|info +client|kill +info`). The storage checks this when it first connects. `fenced` is
//! false without these commands, on a cluster (also on one node of it), behind Sentinels, and on your own connection.
//! Then a change that timed out can still take effect, and overwrite a newer one of the same key, while the network
//! holds its bytes. TCP on Linux retransmits for up to about 15 minutes (`tcp_retries2`).

mod active;
mod adapter;
mod batch;
mod client;
#[cfg(feature = "cluster")]
mod cluster;
mod config;
mod connect;
mod connection;
mod connector;
mod driver;
mod endpoint;
mod error;
mod fence;
mod keyspace;
mod listing;
mod request;
mod storage;
#[cfg(feature = "tls")]
mod tls;
mod topology;

use larder_core::{Result, Store};

/// The values of options.
pub use larder_kit::{Layout, Secret, Timeout};
/// The driver, in the version whose connections [`Connection`] accepts.
pub use redis;

pub use crate::{
    adapter::Adapter,
    config::{CompareAndSwap, Config, Protocol},
    connection::Connection,
};

/// Connects to the server or servers that the URL names, with the options of [`Config`].
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

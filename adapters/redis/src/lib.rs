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
//! # Where
//!
//! | URL | what | feature |
//! |---|---|---|
//! | `redis://[user:password@]host[:port][/database]` | one server (`valkey://` is the same) | |
//! | `rediss://...` | one server over TLS (`valkeys://` is the same) | `tls` |
//! | `redis+unix:///path/to/socket[?db=1&user=u&password=p]` | one server on this machine | |
//! | `redis-cluster://[user:password@]host1[:port],host2[:port]` | a cluster; some of its nodes are enough | `cluster` |
//! | `redis-sentinel://[user:password@]host1[:port],host2[:port]/master[/database]` | the master that Sentinels know by that name; user and password are those of the master | `sentinel` |
//! | `rediss-cluster://...`, `rediss-sentinel://...` | the same over TLS | `tls` too |
//!
//! [`Config`] has the table of the options: in the URL, as setters, or in a configuration file. User, password
//! and the number of the database may be options instead of parts of the URL, so that a password can come from
//! elsewhere.
//!
//! # What it stores
//!
//! A session is a plain string under `prefix:key`, and its time to live is that of the key (`PX`), so
//! `redis-cli GET shop-bot:-1001234567890` shows it. Colons and percent signs of the *prefix* are
//! percent-encoded: the first colon of a Redis key always ends the prefix. With `layout=grammy` there
//! is no prefix, and the JSON that grammY's adapter wrote is read, and written for it to read; the
//! database then belongs to the sessions alone.
//!
//! # What holds
//!
//! - Versions are the content: a value that changes and changes back looks unchanged.
//! - The server's configuration decides which writes survive the end of the *server*: with `appendonly
//!   yes` and `appendfsync always` every acknowledged write does; with `everysec` the last second may be
//!   lost; with neither, all since the last snapshot. Replication is asynchronous, so a failover may lose
//!   the last acknowledged writes.
//! - Eviction (`maxmemory-policy` other than `noeviction`) deletes sessions when memory is full.
//! - A write is sent once: nothing that may have reached the server is repeated, in a cluster neither
//!   (a cluster connection of your own repeats as you configured it; `retries(0)` switches that off).
//! - A change fails as [not applied](larder_core::Outcome::NotApplied) if there was no connection to
//!   send it on or the server has refused it. If the connection breaks after it was sent, or the server
//!   does not answer in time, the outcome is unknown.
//! - One connection serves all tasks. When it breaks, or a command times out, the operations under way
//!   fail with a retryable error, and the next call makes a new one, asking the Sentinels again.
//! - On one server a change that timed out never overwrites a later one; see
//!   [After a time-out](#after-a-time-out).
//! - Listings never block the server (`SCAN`, never `KEYS`) and may return a key twice. They show
//!   strings only. A key under the prefix that Larder cannot name is an error of kind
//!   [`InvalidKey`](larder_core::ErrorKind::InvalidKey), after which the listing goes on; `clear`
//!   leaves such keys alone. Keys that move between the nodes of a cluster during a listing are found,
//!   since it then begins again; a move that is still going on when it ends may hide the keys on their
//!   way.
//! - Each operation on one key is one command. Where Redis has none for it, it is a script: a value with
//!   its time to live (also in listings), and what [`CompareAndSwap`] says. So the user needs the
//!   permission to run `EVAL` and `EVALSHA`; the README names all commands that are used.
//! - A batch is one pipeline per 256 changes or MiB; in a cluster its commands go out side by side. Two
//!   changes of one key go one after the other.
//! - [`Store::location`] is the same by whatever name the server is reached, also on a replica; in a cluster, as
//!   long as it has the same masters. It asks by `INFO`, `CLIENT INFO` (Redis 6.2 and newer) and, in a cluster,
//!   `CLUSTER SLOTS`; it is `None` if the server refuses them.
//! - A value has at most 512 MiB. Redis 6.0 and newer, Valkey of any version.
//!
//! # After a time-out
//!
//! Commands sent on a connection that timed out or broke may still be on their way to the server. On one
//! server (`redis://`, `rediss://`, `redis+unix://`) the storage has the server close that connection
//! (`CLIENT KILL`) before it sends anything on a new one, and
//! [`Info::fenced`](larder_core::Info::fenced) is true. This costs two round trips when
//! it connects again, and none otherwise. If the server does not confirm it, or does not answer within
//! `connect_timeout`, calls fail as not applied, with an
//! [`Unavailable`](larder_core::ErrorKind::Unavailable) error.
//!
//! If another server process answers, the server has restarted, or the name leads to another server.
//! The storage goes on there, and closes the old connection if the first process answers again. It
//! remembers the last 64 such connections. On each server a late change therefore never overwrites a
//! newer one of this storage. A name that leads to several servers which copy changes to each other has
//! no such guarantee.
//!
//! It needs Redis 6.2 or newer or Valkey, and a user who may run `CLIENT INFO`, `CLIENT KILL` and `INFO`
//! (`ACL SETUSER bot +client|info +client|kill +info`). The storage finds this out when it connects for
//! the first time. Without it, on a cluster (also on one node of it), behind Sentinels, and
//! on a connection of your own, `fenced` is false: a change that timed out can still take effect, and
//! overwrite a newer one of the same key, as long as the network holds its bytes back. TCP gives up
//! after about 15 minutes on Linux (`tcp_retries2`).

mod active;
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
/// The driver, in the version that [`Connection`] takes connections of.
pub use redis;

pub use crate::{
    config::{CompareAndSwap, Config, Protocol},
    connection::Connection,
};

/// Connects to the server or servers that the URL names, with the options of [`Config`].
///
/// # Errors
///
/// As [`Config::from_url`] and [`Config::connect`].
pub async fn connect(url: &str) -> Result<Store> {
    Config::from_url(url)?.connect().await
}

/// The README's code compiles too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;

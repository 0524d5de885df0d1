//! A Larder storage in this process's memory: for tests, for state that may die with the process,
//! and as the reference for authors of adapters.
//!
//! ```
//! use larder_core::{Expiry, Store};
//! use larder_memory::MemoryStorage;
//!
//! # async fn example() -> larder_core::Result<()> {
//! let store = Store::from(MemoryStorage::new()); // or: larder_memory::connect("memory:").await?
//! store.write("chat:42", "hello").expiry(Expiry::after_secs(3600)).await?;
//! let record = store.read("chat:42").await?;
//! assert_eq!(record.map(|record| record.value), Some("hello".into()));
//!
//! // A clone is another handle on the same store.
//! let clone = store.clone();
//! assert!(clone.write("chat:42", "mine").if_absent().await.is_err());
//! # Ok(())
//! # }
//! ```
//!
//! # What it does
//!
//! - Values are copied in, so that nothing is shared with the writer, and handed out by reference
//!   count, so that a read copies nothing.
//! - Every write has a new version ([`Versions::Unique`](larder_core::Versions::Unique)).
//! - Time to live is counted on the monotonic clock: setting the time of day does not make entries
//!   expire. Expired entries are never returned; a sweeper gives back their memory.
//! - The entries are spread over 64 maps (8 where entries are evicted, since an eviction looks at each of
//!   them), so that tasks on different threads seldom wait for each other. Each map is under a lock of its
//!   own, which is held for one operation on one key. No lock is held while anything is awaited.
//! - A listing takes up to 256 keys at a time, by reference count. A clear and the sweeper hold the lock of
//!   one map at a time while they go through it.
//!
//! # Bounds
//!
//! Without bounds it grows as long as there is memory. With [`max_entries`] or [`max_bytes`] (or
//! both) a write that finds no room is either refused as
//! [`StorageFull`](larder_core::ErrorKind::StorageFull), after expired entries have been removed, or
//! makes room by evicting the entries that were read or written the longest time ago. [`WhenFull`] says
//! which; refusing is the default, since an evicted session is a lost session. Listings, `contains` and
//! `ttl` do not count as use.
//!
//! An entry counts with the bytes of its key and value and [`ENTRY_OVERHEAD`] more. Bounds hold for all maps
//! together. They are exact, however many tasks write at once: a write takes its room before it is done.
//!
//! # Limits
//!
//! One process, and nothing outlives it. The largest value is bounded by `max_bytes` only.
//!
//! [`max_entries`]: Config::max_entries
//! [`max_bytes`]: Config::max_bytes

mod config;
mod room;
mod storage;
mod table;

use larder_core::{Result, Store};

pub use crate::{
    config::{Config, ENTRY_OVERHEAD, WhenFull},
    storage::MemoryStorage,
};

/// Makes an empty store with the options of the URL, `memory:` with the options of [`Config`]. Each call makes a
/// store of its own.
///
/// # Errors
///
/// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the URL is wrong.
pub async fn connect(url: &str) -> Result<Store> {
    Config::from_url(url)?.connect().await
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

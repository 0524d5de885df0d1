//! A Larder storage in the memory of the process: for tests, for state that may be lost when the process ends, and
//! as the reference for authors of adapters.
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
//! # Behavior
//!
//! - A write copies the value, so it shares no memory with the caller. A read returns the value by reference count,
//!   without a copy.
//! - Every write has a new version ([`Versions::Unique`](larder_core::Versions::Unique)).
//! - Time to live is measured on the monotonic clock: changing the system time does not make entries expire.
//!   Expired entries are never returned; a sweeper frees their memory.
//! - The entries are spread over 64 maps, so tasks on different threads seldom wait for each other. With eviction
//!   there are 8 maps, because an eviction looks at each of them. Each map has its own lock, which is held for one
//!   operation on one key. No lock is held across an await.
//! - A listing takes up to 256 keys at a time, by reference count. `clear` and the sweeper hold the lock of one map
//!   at a time while they go through it.
//!
//! # Limits
//!
//! Without limits, the storage grows as long as memory is available. With [`max_entries`], [`max_bytes`], or both,
//! [`WhenFull`] decides what happens to a write that does not fit:
//!
//! - `refuse`, the default: expired entries are removed. If the write still does not fit, it fails as
//!   [`StorageFull`](larder_core::ErrorKind::StorageFull). This is the default because an evicted session is a lost
//!   session.
//! - `evict`: the least recently used entries are evicted. Reads, writes and touches count as use; listings,
//!   `contains` and `ttl` do not.
//!
//! The size of an entry is the length of its key and value, plus [`ENTRY_OVERHEAD`]. The limits apply to all maps
//! together. They are exact even under concurrent writes: a write reserves its space first.
//!
//! The largest value is limited only by `max_bytes`. The entries are lost when the process ends, and other processes
//! cannot see them.
//!
//! [`max_entries`]: Config::max_entries
//! [`max_bytes`]: Config::max_bytes

mod adapter;
mod config;
mod room;
mod storage;
mod table;

use larder_core::{Result, Store};

pub use crate::{
    adapter::Adapter,
    config::{Config, ENTRY_OVERHEAD, WhenFull},
    storage::MemoryStorage,
};

/// Makes an empty store with the options of the URL: `memory:` followed by the options of [`Config`]. Each call makes
/// a separate store.
///
/// # Errors
///
/// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the URL is invalid.
pub async fn connect(url: &str) -> Result<Store> {
    Config::from_url(url)?.connect().await
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

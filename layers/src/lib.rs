//! Layers: storages that wrap a storage, and what adapters share beside them.
//!
//! Each is a feature, and none is on by default:
//!
//! | feature | what it gives |
//! |---|---|
//! | `coalesce` | [`Coalesce`]: group commit. Concurrent writes become one batch |
//! | `sweep` | [`Sweeper`]: a task that removes expired entries every so often |
//!
//! Both need a tokio runtime.

#[cfg(feature = "coalesce")]
pub mod coalesce;
#[cfg(feature = "sweep")]
mod sweep;

#[cfg(feature = "coalesce")]
pub use crate::coalesce::Coalesce;
#[cfg(feature = "sweep")]
pub use crate::sweep::Sweeper;

//! Stores that several processes can share, by URL, and the worker process that uses them.

mod stores;

use serde::{Deserialize, Serialize};

pub use crate::stores::Stores;

/// The value that the worker's `lock` changes under a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    /// The sum so far.
    pub sum: u64,
    /// The token of the lease at the last write.
    pub token: u64,
}

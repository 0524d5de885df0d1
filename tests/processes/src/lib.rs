//! The stores that several processes can share, by URL, and the worker process that uses them.

mod stores;

use serde::{Deserialize, Serialize};

pub use crate::stores::Stores;

/// What the worker's `lock` keeps beside a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    /// The sum so far.
    pub sum: u64,
    /// The token of the lease under which it was last written.
    pub token: u64,
}

//! Group commit: concurrent changes share a commit.
//!
//! Each lane has a queue (`lane.rs`). While the queue is not empty, one task takes batches out of it and
//! applies them (`batch.rs`). `storage.rs` puts the calls into the queues.

// All imports up to `runtime` go through `super`, not `crate`: the simulation includes this module in another
// crate, with another runtime.

mod batch;
mod lane;
mod storage;

use super::runtime;

pub use self::storage::{Builder, GroupCommit};

//! Group commit: concurrent changes share a commit.
//!
//! Each lane has a queue (`lane.rs`) and, as long as that is not empty, one task that takes batches out of it and
//! applies them (`batch.rs`). `storage.rs` puts the calls into the queues.

// Imports go through `super`, not `crate`, all the way up to `runtime`: the simulation includes this module in a
// crate of its own, with another runtime beside it.

mod batch;
mod lane;
mod storage;

use super::runtime;

pub use self::storage::{Builder, GroupCommit};

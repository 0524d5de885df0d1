//! Group commit: concurrent writes become one batch.

mod batch;
mod direct;
mod guard;
mod in_flight;
mod lane;
mod pending;
mod run_to_end;
mod shared;
mod slot;
mod storage;

pub use self::storage::{Builder, GroupCommit};

//! One JSON file that holds everything, with the entries in memory in between.

mod config;
mod document;
mod map;
mod saver;
mod storage;

pub use self::{
    config::{SNAPSHOT_OPTIONS, SnapshotBuilder},
    storage::SnapshotStorage,
};

//! One JSON file that holds all entries. They are in memory, and saved every so often.

mod config;
mod document;
mod file;
mod map;
mod storage;

pub use self::config::SnapshotConfig;

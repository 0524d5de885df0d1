//! One JSON file with all entries, which are in memory and saved periodically.

mod config;
mod document;
mod file;
mod map;
mod storage;

pub use self::config::SnapshotConfig;

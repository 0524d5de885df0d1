#![doc = include_str!("../README.md")]

mod error;
mod store;
mod stored;

pub use larder_core::{Error, ErrorKind, Result};
pub use larder_web_sessions::OwnedSession;

pub use crate::store::{LarderStore, handle};

#![doc = include_str!("../README.md")]

mod error;
mod keys;
mod sessions;
mod store;
mod stored;
mod versions;

pub use larder_core::{Error, ErrorKind, Result};

pub use crate::store::LarderStore;

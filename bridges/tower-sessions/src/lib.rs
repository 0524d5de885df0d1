#![doc = include_str!("../README.md")]

mod error;
mod store;
mod stored;

pub use larder_core::{Error, ErrorKind, Result};

pub use crate::store::LarderStore;

#![doc = include_str!("../README.md")]

mod error;
mod sessions;
mod store;

pub use larder_core::{Error, ErrorKind, Result};

pub use crate::store::LarderStore;

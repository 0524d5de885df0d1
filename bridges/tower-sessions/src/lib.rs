#![doc = include_str!("../README.md")]

mod failure;
mod store;
mod stored;

pub use larder_core::v2::{Error, ErrorKind, Result};

pub use crate::store::LarderStore;

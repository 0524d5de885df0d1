//! What the tests of Larder's bridges share: the stores that they are tried on, a storage that can be
//! broken, one that can do little, a browser, and all that is logged.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)] // A test fails by panicking.

mod browser;
mod log;
mod poor;
mod probe;
mod stores;

pub use crate::{
    browser::{Answer, Browser},
    log::Log,
    poor::Poor,
    probe::{OCCUPIED, Probe},
    stores::{Stores, on_every_adapter},
};

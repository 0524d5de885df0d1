//! What the tests of Larder's bridges share: the stores that they are tried on, a storage that can be broken, a
//! browser.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)] // A test fails by panicking.

mod browser;
mod probe;
mod stores;

pub use crate::{
    browser::{Answer, Browser},
    probe::{OCCUPIED, Probe},
    stores::Stores,
};

//! What the tests of both bridges share: a browser, a storage that can be broken, stores.

#![allow(dead_code, unused_imports)] // No test needs all of it.

mod browser;
mod probe;
mod stores;

pub(crate) use self::{
    browser::{Answer, Browser},
    probe::{FOREIGN, Probe},
    stores::{Stores, memory},
};

//! Shared code of the bridges' tests: the stores, a storage that a test can break, one that it steps through, a
//! minimal storage, a browser, a service in a process of its own, and the captured log.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::missing_panics_doc)] // A test fails by panicking.

mod browser;
mod claims;
mod log;
mod poor;
mod probe;
mod service;
mod steps;
mod stores;

pub use crate::{
    browser::{Answer, Browser},
    claims::Claims,
    log::Log,
    poor::Poor,
    probe::{OCCUPIED, Probe},
    service::start_service,
    steps::{Steps, Task, finish, in_every_order, in_random_orders, interrupted},
    stores::{Stores, on_every_adapter},
};

//! The conformance suite for Larder adapters, including third-party ones.
//!
//! Each law of [`Storage`](larder_core::Storage)'s contract is a public async function in
//! [`laws`]. The store's [`Info`](larder_core::Info) decides which laws apply. If the store does not claim an
//! ability, the law checks that the operation is rejected as
//! [`Unsupported`](larder_core::ErrorKind::Unsupported) and changes nothing.
//!
//! The author of an adapter writes a [`Factory`] (or a [closure](factory())), which opens handles on
//! separate spaces of the store, and a test binary with `harness = false`:
//!
//! ```no_run
//! # use larder_core::{Result, Store};
//! # use larder_memory::MemoryStorage;
//! # async fn connect(_table: &str) -> Result<Store> { Ok(Store::from(MemoryStorage::new())) }
//!
//! fn main() {
//!     // Each space is a table, a prefix or a directory.
//!     let factory = larder_testkit::factory(|space: String| async move { connect(&space).await });
//!     larder_testkit::Suite::new("mine", factory).main()
//! }
//! ```
//!
//! [`Target`], [`Handle`], [`Must`], [`Fails`], [`Writers`] and helpers such as [`until`] are also useful for an
//! adapter's own cases.

// This crate consists of assertions: a law that does not hold panics with a description.
#![allow(clippy::panic, clippy::missing_panics_doc)]

mod claims;
mod factory;
mod guard;
mod handle;
mod law;
pub mod laws;
mod must;
mod processes;
mod proxy;
mod runner;
mod suite;
mod target;
mod tasks;
mod waiting;
mod watch;
mod writers;

pub use crate::{
    factory::{Factory, SingleOpener, factory},
    handle::Handle,
    law::Law,
    must::{Fails, Must},
    proxy::{Line, Proxy},
    runner::Runner,
    suite::{Context, Missing, Suite},
    target::{Scale, Target},
    tasks::{abandon, increment_by_conditional_write, increment_by_update, race},
    waiting::{Lifetime, until},
    writers::Writers,
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

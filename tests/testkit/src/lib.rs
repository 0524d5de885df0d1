//! The conformance suite for Larder storages, for adapters here and elsewhere.
//!
//! Each law of [`Storage`](larder_core::Storage)'s contract is a public async function in
//! [`laws`]; the store's [`Info`](larder_core::Info) decides what it has to show.
//! Where an ability is not claimed, the law checks that the operation is refused as
//! [`Unsupported`](larder_core::ErrorKind::Unsupported), not half done.
//!
//! An adapter's author writes a [`Factory`] (or a [closure](factory())), which opens handles on
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
//! In an adapter's own cases [`Target`], [`Handle`], [`Must`], [`Fails`] and the [helpers](until)
//! are of use as well.

// Assertions are what this crate is for: a law that does not hold panics with what went wrong.
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
};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

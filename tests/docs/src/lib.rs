//! The code in Larder's documents, compiled and run.
//!
//! - The README's code is a documentation test of this crate, which is only compiled: it would write `bot.db` here.
//! - The code of "Writing an adapter" comes from `larder-memory` and the two adapters here, which pass the conformance
//!   suite. A test compares them.
//! - The code of "Coming from grammY" comes from tests. A test compares them.

pub mod embedded;
pub mod server;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}

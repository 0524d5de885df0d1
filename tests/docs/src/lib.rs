//! The code in Larder's documents, compiled and run.
//!
//! The README's is a documentation test of this crate. That of "Writing an adapter" is taken from
//! `larder-memory` and the two adapters here, which pass the conformance suite; that of "Coming from grammY"
//! from tests. A test compares them.

pub mod embedded;
pub mod server;

#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
mod readme {}

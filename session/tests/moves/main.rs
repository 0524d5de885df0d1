//! Moving a session to another key.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

#[path = "../common/mod.rs"]
mod common;
mod explore;
mod laws;
mod schedule;
mod stage;

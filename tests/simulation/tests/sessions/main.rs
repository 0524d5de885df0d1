//! The simulation of sessions, leases, moves and owners.

#![allow(clippy::panic)] // Helpers of tests are not tests to clippy.

mod bugs;
mod seeds;

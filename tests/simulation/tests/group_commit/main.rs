//! The simulation of the group commit.

#![allow(clippy::panic)] // Helpers of tests are not tests to clippy.

mod bugs;
mod schedules;
mod seeds;

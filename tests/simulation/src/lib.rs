//! Simulates the kit's group commit, and sessions, leases, moves and owners.
//!
//! The README describes the simulations, and how to replay a failure.

mod faults;
pub mod group_commit;
mod living;
mod panics;
mod seeds;
pub mod sessions;
mod turns;

pub use crate::{
    faults::{Counts, Faults},
    seeds::Outcome,
};

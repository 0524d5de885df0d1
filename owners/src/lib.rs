#![doc = include_str!("../README.md")]

mod bucket;
mod deadline;
mod entry;
mod name;
mod owners;
mod saving;
mod sessions;

pub use crate::{
    deadline::Deadline,
    entry::Entry,
    owners::Owners,
    saving::{Indexed, Owner, Saving},
    sessions::{Found, Lookup},
};

#![doc = include_str!("../README.md")]

mod bucket;
mod deadline;
mod entry;
mod name;
mod owners;
mod sessions;

pub use crate::{
    deadline::Deadline,
    entry::Entry,
    owners::Owners,
    sessions::{Found, Lookup},
};

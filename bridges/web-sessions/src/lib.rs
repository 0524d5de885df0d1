#![doc = include_str!("../README.md")]

pub mod announcement;
mod operations;
mod owned;
mod place;
mod seen;
mod sessions;

pub use crate::{
    owned::OwnedSession,
    place::{Ids, Keys, handle},
    sessions::{DRAWS, MAX_SIZE, Session, Sessions, check, check_size},
};

#![doc = include_str!("../README.md")]

mod announcement;
mod operations;
mod owned;
mod place;
mod seen;
mod sessions;

pub use crate::{
    owned::OwnedSession,
    place::handle,
    sessions::{Session, Sessions, check},
};

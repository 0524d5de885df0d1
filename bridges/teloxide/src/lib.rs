#![doc = include_str!("../README.md")]

mod allowed_updates;
mod builder;
mod by;
mod dialogue;
mod error;
mod migration;
mod session;
mod storage;
mod undecodable;

pub use larder_core::{Error, ErrorKind, Result};
pub use larder_session::{
    ConflictPolicy, LazySession, Lifetime, Migrations, SessionKey, Sessions, SessionsBuilder,
};

pub use crate::{
    builder::LarderStorageBuilder,
    by::{By, KeyOf},
    dialogue::enter_dialogue,
    error::DialogueError,
    session::{enter_lazy_session, enter_session},
    storage::LarderStorage,
    undecodable::Undecodable,
};

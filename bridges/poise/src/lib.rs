#![doc = include_str!("../README.md")]

mod claims;
mod context;
mod kind;
mod open;
mod origin;
mod scope;
mod session;
mod sessions;

pub use larder_session::{
    ConflictPolicy, Error, ErrorKind, Fragment, KvSession, KvSessions, Lifetime, Migrations, Multi, Result,
    Session, SessionKey, Sessions, ok,
};

pub use crate::{
    context::{HasSessions, SessionExt},
    kind::SessionKind,
    open::Open,
    origin::Origin,
    scope::Scope,
    session::CommandSession,
    sessions::CommandSessions,
};

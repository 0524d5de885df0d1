#![doc = include_str!("../README.md")]

mod builder;
mod conflicts;
mod content;
mod format;
mod id;
mod index;
pub mod key;
mod kv;
mod lazy;
mod lease;
mod lifetime;
mod listing;
mod members;
mod migrations;
mod moves;
mod multi;
mod outcome;
mod owners;
mod plain;
mod queue;
mod session;
mod sessions;
mod shared;
mod state;

#[cfg(feature = "cbor")]
pub use larder_core::Cbor;
#[cfg(feature = "msgpack")]
pub use larder_core::MessagePack;
pub use larder_core::{
    self, Bytes, Codec, Error, ErrorKind, Expiry, IntoStore, Json, Key, Operation, Result, Storage, Store,
};

pub use crate::{
    builder::SessionsBuilder,
    conflicts::ConflictPolicy,
    key::{IntoSessionKey, SessionKey},
    kv::{KvBuilder, KvSession, KvSessions, OpenKvSession},
    lazy::LazySession,
    lease::{Lease, Leases},
    lifetime::Lifetime,
    migrations::Migrations,
    multi::{Clear, Fragment, Fragments, Keys, Lazy, Multi, Strict},
    outcome::{HandlerFuture, Outcome, ok},
    owners::OwnedSession,
    session::{OpenSession, Session},
    sessions::Sessions,
};

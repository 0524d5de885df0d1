//! The trait that every Larder adapter implements, the handle that callers use, and their value types.
//!
//! Callers use a [`Store`]. Every adapter's `connect` returns one.
//!
//! ```
//! use larder_core::{Expiry, Key, Result, Store};
//!
//! /// Adds one to the counter under `key`. Concurrent updates are not lost.
//! async fn count(store: &Store, key: &Key) -> Result<u64> {
//!     let counter = store.update(key, Expiry::Never, |seen: Option<u64>| Some(seen.unwrap_or(0) + 1));
//!     Ok(counter.await?.unwrap_or(0))
//! }
//! ```
//!
//! An adapter implements [`Storage`]: bytes under keys, each with an optional time to live. Three methods
//! are required: [`read`](Storage::read), [`write`](Storage::write) and [`delete`](Storage::delete). The
//! others have defaults. An adapter overrides the methods that its store supports natively, and its [`Info`]
//! lists them.
//!
//! | type | meaning |
//! |---|---|
//! | [`Key`] | 1 to 512 bytes of UTF-8 without control characters, checked once |
//! | [`Expiry`] | the lifetime of an entry: unlimited, or a duration |
//! | [`Record`], [`Entry`] | the results of reads and listings |
//! | [`Change`], [`Condition`], [`Version`] | changes and their conditions |
//! | [`Error`], [`ErrorKind`], [`Outcome`] | the reason of a failure, and whether anything was changed |
//! | [`Typed`], [`Codec`] | typed values, with the feature `json` (on by default), and `msgpack` or `cbor` |
//!
//! This crate contains no driver and needs no async runtime.

mod change;
pub mod clock;
#[cfg(feature = "json")]
mod codec;
mod error;
mod expiry;
#[cfg(feature = "json")]
mod finite;
mod info;
mod key;
mod layer;
mod location;
mod options;
mod record;
#[cfg(feature = "simulation")]
#[doc(hidden)]
pub mod simulation;
mod storage;
mod store;
#[cfg(feature = "json")]
#[doc(hidden)]
pub mod surrogates;
pub mod unique;
mod version;

pub use async_trait::async_trait;
pub use bytes::Bytes;

#[cfg(feature = "cbor")]
pub use crate::codec::Cbor;
#[cfg(feature = "msgpack")]
pub use crate::codec::MessagePack;
#[cfg(feature = "json")]
#[doc(hidden)]
pub use crate::codec::not_readable;
pub use crate::{
    change::{Action, Applied, Change, Condition, Written},
    error::{Error, ErrorKind, Operation, Outcome, Result},
    expiry::Expiry,
    info::{Info, Purge, Values, Versions},
    key::{IntoKey, Key},
    layer::Layer,
    location::{Location, Overlap},
    options::{DeleteOptions, ListOptions, ReadOptions, TouchOptions, WriteOptions},
    record::{Entry, Record},
    storage::{EntryStream, Storage},
    store::{DeleteRequest, IntoStore, ReadRequest, Store, TouchRequest, WriteRequest},
    version::Version,
};
#[cfg(feature = "json")]
pub use crate::{
    codec::{Codec, Json},
    store::Typed,
};

/// The examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
#[derive(Debug)]
pub struct Readme;

//! The trait that every Larder store implements, and the few values that it speaks in.
//!
//! A [`Storage`] keeps bytes under keys, each with an optional time to live. An adapter author
//! writes three methods ([`read`](Storage::read), [`write`](Storage::write) and
//! [`delete`](Storage::delete)); all others have defaults, and an adapter overrides those that its
//! store does natively. What an adapter really does it says in its [`Capabilities`].
//!
//! | value | what it is |
//! |---|---|
//! | [`Key`] | 1 to 512 bytes of UTF-8 without control characters, checked once |
//! | [`Expiry`] | how long a write lives: for ever, or a duration |
//! | [`Record`], [`Entry`] | what a read and a listing return |
//! | [`Version`], [`Condition`] | what compare-and-swap compares |
//! | [`Error`], [`ErrorKind`] | what went wrong, and whether to try again |
//! | [`Codec`] | typed values: JSON, and with features MessagePack and CBOR |
//!
//! Users of a storage import [`StorageExt`] for typed values and for updates that lose nothing:
//!
//! ```
//! use larder_core::{Expiry, Key, Result, Storage, StorageExt};
//!
//! /// Adds one to the counter under `key`, whatever else is writing to it.
//! async fn count(storage: &dyn Storage, key: &Key) -> Result<u64> {
//!     let counter = storage
//!         .update_as(key, Expiry::Never, |seen: Option<u64>| Some(seen.unwrap_or(0) + 1))
//!         .await?;
//!     Ok(counter.unwrap_or(0))
//! }
//! ```
//!
//! This crate knows no driver and no async runtime.

mod capabilities;
pub mod clock;
mod codec;
mod error;
mod expiry;
mod ext;
mod finite;
mod forward;
mod key;
mod record;
mod share;
mod storage;
#[doc(hidden)]
pub mod surrogates;
mod typed;
pub mod unique;
pub mod v2;
mod version;

#[doc(hidden)]
pub use crate::codec::not_readable;

pub use async_trait::async_trait;
pub use bytes::Bytes;

#[cfg(feature = "cbor")]
pub use crate::codec::Cbor;
#[cfg(feature = "msgpack")]
pub use crate::codec::MessagePack;
pub use crate::{
    capabilities::{Capabilities, Purge, Values, Versions},
    codec::{Codec, Json},
    error::{Error, ErrorKind, Failure, Operation, Outcome, Result},
    expiry::Expiry,
    ext::StorageExt,
    key::{IntoKey, Key},
    record::{Entry, Record, Write},
    share::share,
    storage::{EntryStream, KeyStream, Storage},
    typed::Typed,
    version::{Condition, Version},
};

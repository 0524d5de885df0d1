//! The second edition of the API, beside the first until everything is ported to it.

mod change;
mod info;
mod layer;
mod options;
mod record;
mod shim;
mod storage;
mod store;

pub use self::{
    change::{Action, Applied, Change, Condition, Written},
    info::{Info, Purge, Values, Versions},
    layer::Layer,
    options::{DeleteOptions, ListOptions, ReadOptions, TouchOptions, WriteOptions},
    record::Entry,
    shim::legacy,
    storage::{EntryStream, Storage},
    store::{DeleteRequest, ReadRequest, Store, TouchRequest, Typed, WriteRequest},
};
pub use crate::{
    Bytes, Codec, Error, ErrorKind, Expiry, IntoKey, Json, Key, Operation, Outcome, Record, Result, Version,
    async_trait, clock, unique,
};

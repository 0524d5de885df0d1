//! What a listing returns.

use crate::{Key, Record};

/// One entry of a listing.
///
/// `Debug` prints lengths, never the key or the value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value, its version and the time that it has left, as of the moment the entry was read;
    /// `None` if the listing is of [keys only](super::ListOptions::keys_only).
    pub record: Option<Record>,
}

impl Entry {
    /// An entry of a listing of keys.
    #[must_use]
    pub const fn key(key: Key) -> Self {
        Self { key, record: None }
    }

    /// An entry with its record, whose [`expiry`](Record::expiry) is set.
    #[must_use]
    pub const fn new(key: Key, record: Record) -> Self {
        Self { key, record: Some(record) }
    }
}

//! What reads and listings return.

use std::fmt;

use bytes::Bytes;

use crate::{Expiry, Key, Version};

/// A value as read, with its version where the adapter has versions.
///
/// `Debug` prints the value's length, never the value.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The bytes as they were written.
    pub value: Bytes,
    /// The state that was read, for [`Condition::At`](crate::Condition::At); `None` where the
    /// adapter has no compare-and-swap, or where the value was left out.
    pub version: Option<Version>,
    /// The time that the entry has left, if the caller asked for it.
    pub expiry: Option<Expiry>,
}

impl Record {
    /// A record with neither version nor expiry.
    #[must_use]
    pub const fn new(value: Bytes) -> Self {
        Self { value, version: None, expiry: None }
    }

    /// A record at `version`.
    #[must_use]
    pub const fn at(value: Bytes, version: Version) -> Self {
        Self { value, version: Some(version), expiry: None }
    }

    /// The same record, with the time that the entry has left.
    #[must_use]
    pub const fn expires(mut self, expiry: Expiry) -> Self {
        self.expiry = Some(expiry);
        self
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("value", &format_args!("{} bytes", self.value.len()))
            .field("version", &self.version)
            .field("expiry", &self.expiry)
            .finish()
    }
}

/// One entry of a listing.
///
/// `Debug` prints lengths, never the key or the value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value, its version and the time that it has left, as of the moment the entry was read;
    /// `None` if the listing is of [keys only](crate::ListOptions::keys_only).
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

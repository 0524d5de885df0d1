//! What reads return and batches take.

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
    /// The state that was read, for [`write_if`](crate::Storage::write_if); `None` where the
    /// adapter has no compare-and-swap.
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

/// One entry of a listing: key, value and the time that it has left.
///
/// `Debug` prints lengths, never the key or the value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// The value and its version.
    pub record: Record,
    /// The time that remains, as of the moment the entry was read.
    pub expiry: Expiry,
}

impl Entry {
    /// An entry as a listing found it.
    #[must_use]
    pub const fn new(key: Key, record: Record, expiry: Expiry) -> Self {
        Self { key, record, expiry }
    }
}

/// One write of a [`write_many`](crate::Storage::write_many).
///
/// `Debug` prints lengths, never the key or the value.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Write {
    /// The key to write.
    pub key: Key,
    /// The value to store.
    pub value: Bytes,
    /// How long it lives.
    pub expiry: Expiry,
}

impl Write {
    /// A write of `value` under `key`.
    #[must_use]
    pub fn new(key: Key, value: impl Into<Bytes>, expiry: Expiry) -> Self {
        Self { key, value: value.into(), expiry }
    }
}

impl fmt::Debug for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Write")
            .field("key", &self.key)
            .field("value", &format_args!("{} bytes", self.value.len()))
            .field("expiry", &self.expiry)
            .finish()
    }
}

//! The results of reads and listings.

use std::fmt;

use bytes::Bytes;

use crate::{Expiry, Key, Version};

/// The value of an entry, with its version if the adapter has versions.
///
/// `Debug` prints the length of the value, never the value.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The value, as it was written.
    pub value: Bytes,
    /// The version, for [`Condition::At`](crate::Condition::At). `None` if the adapter does not support
    /// compare-and-swap. May be `None` if the caller did not ask for the value.
    pub version: Option<Version>,
    /// The time until the entry expires, if the caller asked for it.
    pub expiry: Option<Expiry>,
}

impl Record {
    /// Creates a record without version and expiry.
    #[must_use]
    pub const fn new(value: Bytes) -> Self {
        Self { value, version: None, expiry: None }
    }

    /// Creates a record with a version and without expiry.
    #[must_use]
    pub const fn at(value: Bytes, version: Version) -> Self {
        Self { value, version: Some(version), expiry: None }
    }

    /// Adds the time until the entry expires.
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
    /// The value, its version and the time until the entry expires, all of the moment of the read.
    /// `None` in a listing of [keys only](crate::ListOptions::keys_only).
    pub record: Option<Record>,
}

impl Entry {
    /// Creates an entry for a listing of keys.
    #[must_use]
    pub const fn key(key: Key) -> Self {
        Self { key, record: None }
    }

    /// Creates an entry with its record. The [`expiry`](Record::expiry) of the record must be set.
    #[must_use]
    pub const fn new(key: Key, record: Record) -> Self {
        Self { key, record: Some(record) }
    }
}

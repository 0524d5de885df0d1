//! The formats of entries in Larder's own layout.

pub(crate) mod binary;
pub(crate) mod json;
pub(crate) mod json_text;
pub(crate) mod name;

use std::path::Path;

use larder_core::{Bytes, Expiry, Info, Key, Record, Result, Version};

/// A stored entry, which may have expired.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) value: Bytes,
    pub(crate) version: Version,
    pub(crate) deadline: Option<i64>,
}

/// The file of an entry: `head`, then `body`.
pub(crate) struct Encoded {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Bytes,
    pub(crate) version: Version,
}

/// A format of the files in Larder's own layout.
pub(crate) trait EntryFormat: Send + Sync {
    /// Returns the capabilities of a storage with this format.
    fn info(&self) -> Info;

    /// Returns the extension of the files.
    fn extension(&self) -> &'static str;

    /// Returns the file for an entry.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`](larder_core::ErrorKind::InvalidValue) if the format cannot store the value.
    fn encode(&self, key: &Key, deadline: Option<i64>, value: &Bytes) -> Result<Encoded>;

    /// Reads the entry in the file at `path`, and its key; `None` if the file does not exist. If `value` is false, the
    /// value may be empty.
    fn read(&self, path: &Path, value: bool) -> Result<Option<(Key, Stored)>>;

    /// Reads the key and the deadline of the entry in the file at `path`; `None` if the file does not exist.
    fn peek(&self, path: &Path) -> Result<Option<(Key, Option<i64>)>> {
        Ok(self.read(path, false)?.map(|(key, stored)| (key, stored.deadline)))
    }

    /// Sets the expiry of the entry in the file at `path`: in place (and, with `sync`, on the disk), or by returning
    /// the new content of the file.
    fn touch(&self, path: &Path, deadline: Option<i64>, sync: bool) -> Result<Option<Vec<u8>>>;
}

impl Stored {
    /// Returns whether the entry has not expired at `now`.
    pub(crate) fn is_alive(&self, now: i64) -> bool {
        Expiry::until(self.deadline, now).is_some()
    }

    /// Returns the record of the entry at `now`, with its TTL if requested; `None` if it has expired.
    pub(crate) fn record(self, ttl: bool, now: i64) -> Option<Record> {
        let expiry = Expiry::until(self.deadline, now)?;
        let record = Record::at(self.value, self.version);
        Some(if ttl { record.expires(expiry) } else { record })
    }
}

//! The trait of the formats, and its types.

use std::{fmt, path::Path};

use bytes::Bytes;
use larder_core::{Error, Expiry, Info, Key, Record, Result, Version};

use super::name::{self, FileName};
use crate::{error::corrupt, lock};

/// Where an entry is: the directory, the file in it, and the lock for both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryPath {
    pub(crate) shard: String,
    pub(crate) file: String,
    pub(crate) lock: usize,
}

/// An entry as stored, expired or not.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    pub(crate) value: Bytes,
    pub(crate) version: Version,
    pub(crate) deadline: Option<i64>,
}

/// The content of an entry's file: `head`, then `body`.
pub(crate) struct Encoded {
    pub(crate) head: Vec<u8>,
    pub(crate) body: Bytes,
    pub(crate) version: Version,
}

/// An entry's file without its value.
#[derive(Debug)]
pub(crate) struct Header {
    /// The key, where the format keeps it in the file.
    pub(crate) key: Option<Key>,
    pub(crate) deadline: Option<i64>,
}

/// A format in which a directory holds entries. The methods that have a default are those of Larder's own
/// layout.
pub(crate) trait EntryFormat: fmt::Debug + Send + Sync {
    /// What a storage with this format does.
    fn info(&self) -> Info;

    /// The format's name in the directory's marker; `None` if the directory has no marker.
    fn marker(&self) -> Option<&'static str>;

    /// The end of the names of files.
    fn extension(&self) -> &'static str;

    /// Whether files have the names of keys as they are.
    fn has_plain_names(&self) -> bool {
        false
    }

    /// Whether a touch changes a file in place, so that a reader may see half of it.
    fn changes_in_place(&self) -> bool {
        false
    }

    /// The directory and the file (without its extension) for `key`.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](larder_core::ErrorKind::InvalidKey) if the layout cannot hold the key.
    fn locate(&self, key: &Key) -> Result<(String, String)> {
        Ok((name::shard(key), name::stem(key)))
    }

    /// Whether a directory of that name may hold entries.
    fn is_shard(&self, name: &str) -> bool {
        name::is_shard(name)
    }

    /// Reads the key from the file's name without its extension; `None` for a file that is not an
    /// entry's.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](larder_core::ErrorKind::InvalidKey) for an entry's file whose key Larder cannot
    /// hold.
    fn parse(&self, shard: &str, stem: &str) -> Result<Option<FileName>> {
        // No read looks for a key in another directory.
        let misplaced = |name: &FileName| matches!(name, FileName::Key(key) if name::shard(key) != shard);
        Ok(name::parse(stem)?.filter(|name| !misplaced(name)))
    }

    /// The file for an entry.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`](larder_core::ErrorKind::InvalidValue) if the format cannot hold the value.
    fn encode(&self, key: &Key, deadline: Option<i64>, value: &Bytes) -> Result<Encoded>;

    /// Reads the entry in the file at `path`, and its key, where the format keeps that in the file; `None` if
    /// there is no file. Without `value` the value may be left out.
    fn read(&self, path: &Path, value: bool) -> Result<Option<(Option<Key>, Stored)>>;

    /// Reads the file at `path` without its value; `None` if there is no file.
    fn peek(&self, path: &Path) -> Result<Option<Header>> {
        Ok(self.read(path, false)?.map(|(key, stored)| Header { key, deadline: stored.deadline }))
    }

    /// Reads the entry for `key` from the file at `path`; `None` if there is no file. Without `value` the value
    /// may be left out.
    fn load(&self, path: &Path, key: &Key, value: bool) -> Result<Option<Stored>> {
        match self.read(path, value)? {
            Some((Some(found), _)) if found != *key => {
                Err(corrupt("the entry's file holds another key's entry"))
            }
            read => Ok(read.map(|(_, stored)| stored)),
        }
    }

    /// Gives the file at `path`, which holds the entry for `key`, another expiry: in place (and, with
    /// `sync`, on the disk), or by returning its new content.
    fn touch(&self, path: &Path, key: &Key, deadline: Option<i64>, sync: bool) -> Result<Option<Vec<u8>>> {
        let _ = (path, key, deadline, sync);
        Err(Error::unsupported())
    }

    /// Where the entry for `key` is.
    ///
    /// # Errors
    ///
    /// As [`locate`](EntryFormat::locate).
    fn path(&self, key: &Key) -> Result<EntryPath> {
        let (shard, stem) = self.locate(key)?;
        Ok(EntryPath::new(&shard, format!("{stem}{}", self.extension())))
    }
}

impl EntryPath {
    pub(crate) fn new(shard: &str, file: String) -> Self {
        Self { shard: shard.to_owned(), file, lock: lock::of_shard(shard) }
    }
}

impl Stored {
    /// Whether the entry has not expired at `now`.
    pub(crate) fn is_alive(&self, now: i64) -> bool {
        Expiry::until(self.deadline, now).is_some()
    }

    /// The entry as a read at `now` returns it, with its TTL if asked for; `None` if it has expired.
    pub(crate) fn record(self, ttl: bool, now: i64) -> Option<Record> {
        let expiry = Expiry::until(self.deadline, now)?;
        let record = Record::at(self.value, self.version);
        Some(if ttl { record.expires(expiry) } else { record })
    }
}

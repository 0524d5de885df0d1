//! Entries on the file system: directories (shards) with a file for each entry. Takes no locks.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use larder_core::{Error, Key, Result};

use crate::{
    data_dir::DataDir,
    error::{self, corrupt},
    files,
    format::{EntryFormat, EntryPath, FileName, is_alive, not_a_key},
    lock,
};

/// The directory of a storage with its entries.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) dir: DataDir,
    pub(crate) format: &'static dyn EntryFormat,
    /// Whether a change is acknowledged only once it is on the disk.
    pub(crate) sync: bool,
}

/// The file of an entry.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) at: EntryPath,
    /// The key; `None` if it is in the file.
    pub(crate) key: Option<Key>,
}

/// The items in a directory, and an error for each item whose name Larder cannot hold.
pub(crate) type Names<T> = (Vec<T>, Vec<Error>);

impl Tree {
    pub(crate) fn path(&self, at: &EntryPath) -> PathBuf {
        let mut path = self.dir.root().join(&at.shard);
        path.push(&at.file);
        path
    }

    /// Whether the entry in a file has expired. A damaged one has not: a read reports it.
    pub(crate) fn is_expired(&self, at: &EntryPath) -> bool {
        let header = self.format.peek_header(&self.path(at));
        matches!(header, Ok(Some(header)) if !is_alive(header.deadline))
    }

    /// Replaces a file. It is on the disk once the shard has been [synced](Tree::sync_shard).
    pub(crate) fn replace(&self, at: &EntryPath, head: &[u8], body: &[u8]) -> Result<()> {
        let replace = || {
            let temp = self.dir.temporary_file(at.lock);
            files::replace(&temp, &self.path(at), self.dir.permissions, head, body, self.sync)
        };
        match replace() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.create_shard(&at.shard)?;
                replace().map_err(error::unchanged)
            }
            replaced => replaced.map_err(error::unchanged),
        }
    }

    fn create_shard(&self, shard: &str) -> Result<()> {
        self.dir.check()?;
        self.dir.create_hidden()?;
        let path = self.dir.root().join(shard);
        let created = self.dir.permissions.create_directory(&path).map_err(error::io)?;
        if created && self.sync {
            files::sync_directory(self.dir.root()).map_err(error::io)?;
        }
        Ok(())
    }

    /// Removes a file; returns whether there was one.
    pub(crate) fn remove(&self, at: &EntryPath) -> Result<bool> {
        match fs::remove_file(self.path(at)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.dir.check().map(|()| false),
            Err(error) => Err(error::unchanged(error)),
        }
    }

    /// Puts the names in a shard on the disk.
    pub(crate) fn sync_shard(&self, shard: &str) -> Result<()> {
        match files::sync_directory(&self.dir.root().join(shard)) {
            // Nothing has ever been written there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(error::io),
        }
    }

    /// Puts all names and files that share a lock on the disk.
    pub(crate) fn sync(&self, lock: usize) -> Result<()> {
        self.dir.sync()?;
        for shard in self.shards()?.0.iter().filter(|shard| lock::of_shard(shard) == lock) {
            self.sync_contents(shard)?;
            self.sync_shard(shard)?;
        }
        Ok(())
    }

    /// Puts the contents of the files in a shard on the disk: a touch that was killed may have changed
    /// one in place. Formats that do not do so never change a file that has its final name.
    fn sync_contents(&self, shard: &str) -> Result<()> {
        if !self.format.changes_in_place() {
            return Ok(());
        }
        for found in self.files(shard, "")?.0 {
            let path = self.path(&found.at);
            // A file that cannot be opened cannot be read either: no answer follows from it.
            let file = open_to_sync(&path).filter(|file| file.metadata().is_ok_and(|file| file.is_file()));
            if let Some(file) = file {
                files::sync_content(&file, &path).map_err(error::io)?;
            }
        }
        Ok(())
    }

    /// The shards.
    pub(crate) fn shards(&self) -> Result<Names<String>> {
        self.dir.check()?;
        let (mut shards, mut refused) = Names::default();
        for entry in fs::read_dir(self.dir.root()).map_err(error::io)? {
            match entry.map_err(error::io)?.file_name().into_string() {
                Ok(name) if self.format.is_shard(&name) => shards.push(name),
                Err(name)
                    if self.format.has_plain_names() && self.format.is_shard(&name.to_string_lossy()) =>
                {
                    let error = not_a_key("its directory's name is not UTF-8");
                    refused.push(error.with_stored_name(name.as_encoded_bytes()));
                }
                _ => {}
            }
        }
        Ok((shards, refused))
    }

    /// The files in a shard, without those whose name says that their key does not begin with `prefix`.
    pub(crate) fn files(&self, shard: &str, prefix: &str) -> Result<Names<Found>> {
        let (mut files, mut refused) = Names::default();
        let entries = match fs::read_dir(self.dir.root().join(shard)) {
            Ok(entries) => entries,
            // A file of that name, or a directory that was removed a moment ago.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) => {
                return Ok((files, refused));
            }
            Err(error) => return Err(error::io(error)),
        };
        for entry in entries {
            let name = entry.map_err(error::io)?.file_name();
            let bytes = name.as_encoded_bytes();
            let stem = bytes.strip_suffix(self.format.extension().as_bytes());
            let Some(stem) = stem.filter(|stem| !stem.is_empty()) else {
                continue;
            };
            let stem = std::str::from_utf8(stem).map_err(|_| not_a_key("it is not UTF-8"));
            let key = match stem.and_then(|stem| self.format.parse(shard, stem)) {
                Ok(Some(FileName::Key(key))) => Some(key),
                Ok(Some(FileName::Digest)) => None,
                Ok(None) => continue,
                Err(error) => {
                    if !self.format.has_plain_names() || bytes.starts_with(prefix.as_bytes()) {
                        refused.push(error.with_stored_name(bytes));
                    }
                    continue;
                }
            };
            if key.as_ref().is_some_and(|key| !key.as_str().starts_with(prefix)) {
                continue;
            }
            let at = EntryPath::new(shard, name.to_string_lossy().into_owned());
            // A key's file in a directory where no read looks for it is not an entry.
            if key.as_ref().is_none_or(|key| self.holds(&at, key)) {
                files.push(Found { at, key });
            }
        }
        Ok((files, refused))
    }

    /// The key of an entry, from its file if need be; `None` if there is no entry (any more).
    pub(crate) fn key(&self, found: &Found) -> Result<Option<Key>> {
        if found.key.is_some() {
            return Ok(found.key.clone());
        }
        let Some(header) = self.format.peek_header(&self.path(&found.at))? else {
            return Ok(None);
        };
        let key = header.key.filter(|key| self.holds(&found.at, key));
        key.map(Some).ok_or_else(|| corrupt("a file in the directory holds an entry that belongs elsewhere"))
    }

    /// Whether the entry for `key` belongs into this file.
    fn holds(&self, at: &EntryPath, key: &Key) -> bool {
        self.format.path(key).is_ok_and(|path| path == *at)
    }
}

/// Opens a file to sync it. Windows syncs only what is open for writing.
fn open_to_sync(path: &Path) -> Option<File> {
    if cfg!(windows) {
        return OpenOptions::new().write(true).open(path).ok();
    }
    files::open(path).ok().flatten()
}

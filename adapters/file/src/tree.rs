//! Entries on the file system: directories (shards) with a file for each entry. Takes no locks.

use std::{
    ffi::OsStr,
    fs::{self, OpenOptions},
    io,
    path::PathBuf,
};

use larder_core::{Error, ErrorKind, Expiry, Key, Result, clock::unix_millis};

use crate::{
    data_dir::DataDir,
    error::{self, corrupt, if_found, unchanged},
    files,
    format::{EntryFormat, EntryPath, FileName, not_a_key},
    lock,
};

/// The directory of a storage with its entries.
pub(crate) struct Tree {
    pub(crate) dir: DataDir,
    pub(crate) format: &'static dyn EntryFormat,
    /// Whether a change is acknowledged only once it is on the disk.
    pub(crate) sync: bool,
}

/// The file of an entry.
pub(crate) struct Found {
    pub(crate) at: EntryPath,
    /// The key; `None` if it is in the file.
    pub(crate) key: Option<Key>,
}

/// The items in a directory, and an error for each item whose name Larder cannot hold.
pub(crate) type Names<T> = (Vec<T>, Vec<Error>);

impl Tree {
    pub(crate) fn path(&self, at: &EntryPath) -> PathBuf {
        self.dir.root.join(&at.shard).join(&at.file)
    }

    /// Whether the entry in a file has not expired; `None` if there is no file. A damaged one has not: reading
    /// it says what is wrong, deleting it helps.
    pub(crate) fn is_alive(&self, at: &EntryPath) -> Result<Option<bool>> {
        match self.format.peek(&self.path(at)) {
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Some(true)),
            peeked => Ok(peeked?.map(|header| Expiry::until(header.deadline, unix_millis()).is_some())),
        }
    }

    /// Replaces a file. It is on the disk once the shard has been [synced](Tree::sync_shard).
    pub(crate) fn replace(&self, at: &EntryPath, head: &[u8], body: &[u8]) -> Result<()> {
        let replace = || {
            let temp = self.dir.temporary_file(at.lock);
            files::replace(&temp, &self.path(at), self.dir.permissions, head, body, self.sync)
        };
        if if_found(replace()).map_err(unchanged)?.is_some() {
            return Ok(());
        }
        self.create_shard(&at.shard)?;
        replace().map_err(error::io).map_err(unchanged)
    }

    fn create_shard(&self, shard: &str) -> Result<()> {
        self.dir.check()?;
        self.dir.create_hidden()?;
        let path = self.dir.root.join(shard);
        let created = self.dir.permissions.create_directory(&path).map_err(error::io)?;
        if created && self.sync {
            files::sync_directory(&self.dir.root).map_err(error::io)?;
        }
        Ok(())
    }

    /// Removes a file; returns whether there was one.
    pub(crate) fn remove(&self, at: &EntryPath) -> Result<bool> {
        let removed = if_found(fs::remove_file(self.path(at))).map_err(unchanged)?;
        if removed.is_none() {
            self.dir.check()?;
        }
        Ok(removed.is_some())
    }

    /// Puts the names in a shard on the disk.
    pub(crate) fn sync_shard(&self, shard: &str) -> Result<()> {
        // There is no directory if nothing has ever been written there.
        if_found(files::sync_directory(&self.dir.root.join(shard))).map(drop)
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
            // A file that cannot be opened cannot be read either: no answer follows from it. Windows syncs only
            // a file that is open for writing.
            if path.is_file()
                && let Ok(file) = OpenOptions::new().read(true).write(cfg!(windows)).open(&path)
            {
                files::sync_content(&file, &path).map_err(error::io)?;
            }
        }
        Ok(())
    }

    /// The shards.
    pub(crate) fn shards(&self) -> Result<Names<String>> {
        self.dir.check()?;
        let (mut shards, mut refused) = Names::default();
        let plain = self.format.has_plain_names();
        for name in files::names(&self.dir.root).map_err(error::io)? {
            match name.into_string() {
                Ok(name) if self.format.is_shard(&name) => shards.push(name),
                Err(name) if plain && self.format.is_shard(&name.to_string_lossy()) => {
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
        let names = match files::names(&self.dir.root.join(shard)) {
            // A file of that name, or a directory that was removed a moment ago.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) => {
                return Ok((files, refused));
            }
            names => names.map_err(error::io)?,
        };
        let begins = |found: &Found| found.key.as_ref().is_none_or(|key| key.as_str().starts_with(prefix));
        for name in names {
            let bytes = name.as_encoded_bytes();
            match self.found(shard, &name) {
                Ok(found) => files.extend(found.filter(begins)),
                Err(error) if !self.format.has_plain_names() || bytes.starts_with(prefix.as_bytes()) => {
                    refused.push(error.with_stored_name(bytes));
                }
                Err(_) => {}
            }
        }
        Ok((files, refused))
    }

    /// The file of that name; `None` if it is not an entry's.
    fn found(&self, shard: &str, name: &OsStr) -> Result<Option<Found>> {
        let stem = name.as_encoded_bytes().strip_suffix(self.format.extension().as_bytes());
        let Some(stem) = stem.filter(|stem| !stem.is_empty()) else {
            return Ok(None);
        };
        let stem = str::from_utf8(stem).map_err(|_| not_a_key("it is not UTF-8"))?;
        let key = match self.format.parse(shard, stem)? {
            Some(FileName::Key(key)) => Some(key),
            Some(FileName::Digest) => None,
            None => return Ok(None),
        };
        Ok(Some(Found { at: EntryPath::new(shard, name.to_string_lossy().into_owned()), key }))
    }

    /// The key of an entry, from its file if need be; `None` if there is no entry (any more).
    pub(crate) fn key(&self, found: &Found) -> Result<Option<Key>> {
        if found.key.is_some() {
            return Ok(found.key.clone());
        }
        let Some(header) = self.format.peek(&self.path(&found.at))? else {
            return Ok(None);
        };
        let belongs = |key: &Key| self.format.path(key).is_ok_and(|path| path == found.at);
        let key = header.key.filter(belongs);
        key.map(Some).ok_or_else(|| corrupt("a file in the directory holds an entry that belongs elsewhere"))
    }
}

//! A directory of entries: files in directories (shards), and the locks for them. Knows no format.

use std::{
    collections::BTreeSet,
    ffi::{OsStr, OsString},
    fs::{self, OpenOptions},
    io,
    path::PathBuf,
};

use larder_core::{Error, ErrorKind, Result};

use crate::{
    data_dir::DataDir,
    error::{self, if_found, unchanged},
    files,
    lock::{self, FileLock, Locks, ShardGuard},
};

/// The end of the names of files that are changed in place, too.
pub(crate) const CHANGED_IN_PLACE: &str = ".larder";

/// The directory of a storage with its entries.
pub(crate) struct Tree {
    pub(crate) dir: DataDir,
    pub(crate) locks: Locks,
    /// Whether a change is acknowledged only once it is on the disk.
    pub(crate) sync: bool,
    /// Whether a directory of that name may hold entries.
    pub(crate) is_shard: fn(&str) -> bool,
}

/// Where an entry is: the directory, the file in it, and the lock for both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryPath {
    pub(crate) shard: OsString,
    pub(crate) file: OsString,
    pub(crate) lock: usize,
}

impl EntryPath {
    pub(crate) fn new(shard: impl Into<OsString>, file: impl Into<OsString>) -> Self {
        let shard = shard.into();
        let lock = lock::of_shard(&shard);
        Self { shard, file: file.into(), lock }
    }
}

impl Tree {
    pub(crate) fn path(&self, at: &EntryPath) -> PathBuf {
        self.dir.root.join(&at.shard).join(&at.file)
    }

    /// The shards.
    pub(crate) fn shards(&self) -> Result<Vec<OsString>> {
        self.dir.check()?;
        let mut names = files::names(&self.dir.root).map_err(error::io)?;
        names.retain(|name| (self.is_shard)(&name.to_string_lossy()));
        Ok(names)
    }

    /// The names in a shard, while no change is under way: on some file systems a listing misses a name that
    /// is replaced at the same time.
    pub(crate) fn files(&self, shard: &OsStr) -> Result<Vec<OsString>> {
        let index = lock::of_shard(shard);
        loop {
            let lock = self.locks.shared(index)?;
            let names = self.names(shard)?;
            // Without a lock there was no writer either, unless the first one has come just now.
            if lock.is_some() || self.locks.shared(index)?.is_none() {
                return Ok(names);
            }
        }
    }

    fn names(&self, shard: &OsStr) -> Result<Vec<OsString>> {
        match files::names(&self.dir.root.join(shard)) {
            // A file of that name, or a directory that was removed a moment ago.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) => {
                Ok(Vec::new())
            }
            names => names.map_err(error::io),
        }
    }

    /// Looks at a file without a lock. If it seems damaged, a touch may be changing it at this moment:
    /// then looks again while no change is under way.
    pub(crate) fn look<T>(&self, at: &EntryPath, look: impl Fn() -> Result<T>) -> Result<T> {
        match look() {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let _lock = self.locks.shared(at.lock)?;
                look()
            }
            seen => seen,
        }
    }

    /// Begins changes. Their answers are acknowledged and follow from what they find, so this first puts
    /// earlier changes on the disk: a process may have been killed before it did so.
    ///
    /// # Errors
    ///
    /// Nothing has been changed then.
    pub(crate) fn begin<'g>(&'g self, guard: &'g mut ShardGuard) -> Result<Changes<'g>> {
        let index = guard.index;
        let lock = self.locks.exclusive(guard).map_err(Error::not_applied)?;
        let synced = lock.0.metadata().is_ok_and(|metadata| metadata.len() == 1);
        let mut changes = Changes { tree: self, lock, synced, failed: false, renamed: BTreeSet::new() };
        if self.sync && !synced {
            self.sync_all(index).map_err(Error::not_applied)?;
            changes.mark_synced();
        }
        Ok(changes)
    }

    /// Removes a file; returns whether there was one. Does not note that this may not be on the disk.
    pub(crate) fn remove(&self, at: &EntryPath) -> Result<bool> {
        if_found(fs::remove_file(self.path(at))).map(|removed| removed.is_some()).map_err(unchanged)
    }

    /// Puts all names and files that share a lock on the disk. A touch that was killed may have changed a file
    /// in place.
    fn sync_all(&self, lock: usize) -> Result<()> {
        self.dir.sync()?;
        for shard in self.shards()?.iter().filter(|shard| lock::of_shard(shard) == lock) {
            for file in self.names(shard)? {
                let path = self.dir.root.join(shard).join(&file);
                // A file that cannot be opened cannot be read either: no answer follows from it. Windows syncs
                // only a file that is open for writing.
                if file.as_encoded_bytes().ends_with(CHANGED_IN_PLACE.as_bytes())
                    && path.is_file()
                    && let Ok(file) = OpenOptions::new().read(true).write(cfg!(windows)).open(&path)
                {
                    files::sync_content(&file, &path).map_err(error::io)?;
                }
            }
            self.sync_shard(shard)?;
        }
        Ok(())
    }

    /// Puts the names in a shard on the disk.
    fn sync_shard(&self, shard: &OsStr) -> Result<()> {
        // There is no directory if nothing has ever been written there.
        if_found(files::sync_directory(&self.dir.root.join(shard))).map(drop)
    }

    fn create_shard(&self, shard: &OsStr) -> Result<()> {
        self.dir.check()?;
        self.dir.create_hidden()?;
        let path = self.dir.root.join(shard);
        let created = self.dir.permissions.create_directory(&path).map_err(error::io)?;
        if created && self.sync {
            files::sync_directory(&self.dir.root).map_err(error::io)?;
        }
        Ok(())
    }
}

/// Changes under a lock, which is held until this is dropped.
///
/// The lock's file says whether all changes made under it are on the disk, so that the next holder
/// knows it also if this process is killed. It says so by its length, one byte if they are, since a
/// full disk does not keep a file from becoming shorter. A new file is empty: nothing is known.
pub(crate) struct Changes<'a> {
    tree: &'a Tree,
    lock: FileLock<&'a fs::File>,
    /// What the lock's file says.
    synced: bool,
    /// Whether a change failed midway. Then it is not known which shards have to be synced.
    failed: bool,
    /// The shards in which names have changed.
    renamed: BTreeSet<OsString>,
}

impl Changes<'_> {
    /// Makes a change, of names in `renamed` or of a file in place, which puts that on the disk by itself, if
    /// need be. Notes before that it may not be on the disk.
    pub(crate) fn change<T>(
        &mut self,
        renamed: Option<&OsStr>,
        change: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if self.synced {
            self.lock.0.set_len(0).map_err(error::io)?;
            self.synced = false;
        }
        self.renamed.extend(renamed.map(OsStr::to_owned));
        change().inspect_err(|_| self.failed = true)
    }

    /// Replaces a file, or makes it, with `head` and then `body`.
    pub(crate) fn replace(&mut self, at: &EntryPath, head: &[u8], body: &[u8]) -> Result<()> {
        let Self { tree, .. } = *self;
        let replace = || {
            let temp = tree.dir.temporary_file(at.lock);
            files::replace(&temp, &tree.path(at), tree.dir.permissions, head, body, tree.sync)
        };
        self.change(Some(&at.shard), || {
            if if_found(replace()).map_err(unchanged)?.is_some() {
                return Ok(());
            }
            tree.create_shard(&at.shard)?;
            replace().map_err(error::io).map_err(unchanged)
        })
    }

    /// Removes a file; returns whether there was one.
    pub(crate) fn remove(&mut self, at: &EntryPath) -> Result<bool> {
        let tree = self.tree;
        if if_found(fs::symlink_metadata(tree.path(at)))?.is_none() {
            return tree.dir.check().map(|()| false);
        }
        self.change(Some(&at.shard), || tree.remove(at))
    }

    /// Puts the changes on the disk, if so configured.
    pub(crate) fn commit(&mut self) -> Result<()> {
        if self.tree.sync {
            let sync = |shard: &OsString| self.tree.sync_shard(shard);
            self.renamed.iter().try_for_each(sync).map_err(Error::partly_applied)?;
            self.mark_synced();
        }
        Ok(())
    }

    /// Notes that all changes made under this lock are on the disk, unless one has failed midway.
    fn mark_synced(&mut self) {
        // If it fails, the next holder syncs everything under the lock once more.
        if !self.synced && !self.failed {
            self.synced = self.lock.0.set_len(1).is_ok();
        }
    }
}

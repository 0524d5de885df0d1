//! A directory of entries: files in directories (shards), and their locks. Independent of the format.

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
    sys,
};

/// The extension of files that may also be changed in place.
pub(crate) const CHANGED_IN_PLACE: &str = ".larder";

/// The directory of a storage with its entries.
pub(crate) struct Tree {
    pub(crate) dir: DataDir,
    pub(crate) locks: Locks,
    /// Whether a change is acknowledged only when it is on the disk.
    pub(crate) sync: bool,
    /// Returns whether a directory with this name may have entries.
    pub(crate) is_shard: fn(&str) -> bool,
}

/// The path of an entry: the directory, the file in it, and the lock for both.
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

    /// Returns the shards.
    pub(crate) fn shards(&self) -> Result<Vec<OsString>> {
        self.dir.check()?;
        let mut names = sys::names(&self.dir.root).map_err(error::io)?;
        names.retain(|name| (self.is_shard)(&name.to_string_lossy()));
        Ok(names)
    }

    /// Returns the names in a shard. Excludes running changes, because on some file systems a listing misses a name
    /// that is replaced at the same time.
    pub(crate) fn files(&self, shard: &OsStr) -> Result<Vec<OsString>> {
        let index = lock::of_shard(shard);
        loop {
            let lock = self.locks.shared(index)?;
            let names = self.names(shard)?;
            // Without a lock file there was no writer, unless the first one has just started.
            if lock.is_some() || self.locks.shared(index)?.is_none() {
                return Ok(names);
            }
        }
    }

    fn names(&self, shard: &OsStr) -> Result<Vec<OsString>> {
        match sys::names(&self.dir.root.join(shard)) {
            // A file with this name, or a directory that was removed in the meantime.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) => {
                Ok(Vec::new())
            }
            names => names.map_err(error::io),
        }
    }

    /// Reads a file without a lock. If it seems damaged, a touch may be changing it: reads again while no change is
    /// running.
    pub(crate) fn look<T>(&self, at: &EntryPath, look: impl Fn() -> Result<T>) -> Result<T> {
        match look() {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let _lock = self.locks.shared(at.lock)?;
                look()
            }
            seen => seen,
        }
    }

    /// Begins changes. Their results are acknowledged and depend on the existing files. Therefore this first syncs
    /// earlier changes, because their process may have been killed before it did so.
    ///
    /// # Errors
    ///
    /// If this fails, nothing has been changed.
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

    /// Removes a file. Returns whether it existed. Does not record that this may not be on the disk.
    pub(crate) fn remove(&self, at: &EntryPath) -> Result<bool> {
        if_found(sys::remove_file(&self.path(at))).map(|removed| removed.is_some()).map_err(unchanged)
    }

    /// Syncs all names and files that share a lock to the disk. Includes files, because a killed touch may have changed
    /// one in place.
    fn sync_all(&self, lock: usize) -> Result<()> {
        self.dir.sync()?;
        for shard in self.shards()?.iter().filter(|shard| lock::of_shard(shard) == lock) {
            for file in self.names(shard)? {
                let path = self.dir.root.join(shard).join(&file);
                // A file that cannot be opened cannot be read either, so no result depends on it. Windows syncs only
                // files that are open for writing.
                if file.as_encoded_bytes().ends_with(CHANGED_IN_PLACE.as_bytes())
                    && path.is_file()
                    && let Ok(file) = sys::open(OpenOptions::new().read(true).write(cfg!(windows)), &path)
                {
                    sys::sync_data(&file).map_err(error::io)?;
                }
            }
            self.sync_shard(shard)?;
        }
        Ok(())
    }

    /// Syncs the names in a shard to the disk.
    fn sync_shard(&self, shard: &OsStr) -> Result<()> {
        // The directory does not exist before the first write.
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
/// The lock file records whether all changes made under the lock are on the disk, so the next holder knows this even if
/// this process is killed. Its length is one byte if they are, because a full disk still allows truncating a file. A
/// new file is empty, which means unknown.
pub(crate) struct Changes<'a> {
    tree: &'a Tree,
    lock: FileLock<&'a fs::File>,
    /// The state that the lock file records.
    synced: bool,
    /// Whether a change failed midway. It is then unknown which shards must be synced.
    failed: bool,
    /// The shards in which names have changed.
    renamed: BTreeSet<OsString>,
}

impl Changes<'_> {
    /// Makes a change: of names in the shard `renamed`, or of a file in place, which `change` must sync itself if
    /// required. First records that the change may not be on the disk.
    pub(crate) fn change<T>(
        &mut self,
        renamed: Option<&OsStr>,
        change: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if self.synced {
            sys::set_len(self.lock.0, 0).map_err(error::io)?;
            self.synced = false;
        }
        self.renamed.extend(renamed.map(OsStr::to_owned));
        change().inspect_err(|_| self.failed = true)
    }

    /// Replaces or creates a file with `head` and then `body`.
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

    /// Removes a file. Returns whether it existed.
    pub(crate) fn remove(&mut self, at: &EntryPath) -> Result<bool> {
        let tree = self.tree;
        if if_found(fs::symlink_metadata(tree.path(at)))?.is_none() {
            return tree.dir.check().map(|()| false);
        }
        self.change(Some(&at.shard), || tree.remove(at))
    }

    /// Syncs the changes to the disk, if so configured.
    pub(crate) fn commit(&mut self) -> Result<()> {
        if self.tree.sync {
            let sync = |shard: &OsString| self.tree.sync_shard(shard);
            self.renamed.iter().try_for_each(sync).map_err(Error::partly_applied)?;
            self.mark_synced();
        }
        Ok(())
    }

    /// Records that all changes made under this lock are on the disk, unless one has failed midway.
    fn mark_synced(&mut self) {
        // If this fails, the next holder syncs everything under the lock again.
        if !self.synced && !self.failed {
            self.synced = sys::set_len(self.lock.0, 1).is_ok();
        }
    }
}

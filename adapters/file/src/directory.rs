//! Entries in a directory under locks: the file system calls, each to be made on a thread that may block.

use std::time::Duration;

use larder_core::{
    Action, Applied, Change, Condition, Error, ErrorKind, Expiry, Key, Outcome, ReadOptions, Record, Result,
    Written, clock::unix_millis,
};

use crate::{
    format::{EntryPath, Stored, is_alive},
    lock::{self, Locks, ShardGuard, WriteLock},
    tree::{Found, Names, Tree},
};

/// How many entries are deleted while other processes wait.
const PAGE: usize = 256;

/// A directory of entries.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) tree: Tree,
    pub(crate) locks: Locks,
}

impl Directory {
    pub(crate) fn new(tree: Tree, lock_timeout: Duration) -> Self {
        Self { locks: Locks::new(tree.dir.clone(), lock_timeout), tree }
    }

    /// Looks at a file without a lock. If it seems damaged, a touch may be changing it at this moment:
    /// then looks again while no change is under way.
    pub(crate) fn look<T>(&self, at: &EntryPath, look: impl Fn() -> Result<T>) -> Result<T> {
        match look() {
            Err(error) if error.kind() == ErrorKind::Corrupt && self.tree.format.changes_in_place() => {
                let _lock = self.locks.shared(at.lock)?;
                look()
            }
            seen => seen,
        }
    }

    /// The files in a shard, while no change is under way: on some file systems a listing misses a name
    /// that is replaced at the same time.
    pub(crate) fn files(&self, shard: &str, prefix: &str) -> Result<Names<Found>> {
        let index = lock::of_shard(shard);
        loop {
            let lock = self.locks.shared(index)?;
            let files = self.tree.files(shard, prefix)?;
            // Without a lock there was no writer either, unless the first one has come just now.
            if lock.is_some() || !self.locks.exists(index) || self.locks.shared(index)?.is_none() {
                return Ok(files);
            }
        }
    }

    /// Reads an entry. Takes no lock.
    pub(crate) fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let at = self.tree.format.path(key)?;
        let path = self.tree.path(&at);
        let Some(stored) = self.look(&at, || self.tree.format.load(&path, key, options.value))? else {
            return self.tree.dir.check().map(|()| None);
        };
        Ok(stored.record(options.ttl))
    }

    /// Reads an entry and gives it another expiry.
    pub(crate) fn read_and_touch(
        &self,
        guard: &mut ShardGuard,
        at: &EntryPath,
        key: &Key,
        options: &ReadOptions,
        expiry: Expiry,
    ) -> Result<Option<Record>> {
        let lock = self.lock(guard)?;
        let Some(mut stored) = self.current(at, key, options.value)? else {
            return Ok(None);
        };
        stored.deadline = expiry.deadline(unix_millis());
        self.touch(&lock, at, key, stored.deadline)?;
        first_failure(self.sync(&lock))?;
        Ok(stored.record(options.ttl))
    }

    /// Applies changes of different keys that share a lock; one result per change.
    pub(crate) fn apply(
        &self,
        guard: &mut ShardGuard,
        changes: &[(EntryPath, Change)],
    ) -> Vec<Result<Applied>> {
        let lock = match self.lock(guard) {
            Ok(lock) => lock,
            Err(error) => {
                let error = error.not_applied();
                return changes.iter().map(|_| Err(error.clone())).collect();
            }
        };
        let mut results: Vec<_> = changes.iter().map(|(at, change)| self.change(&lock, at, change)).collect();
        for (shard, error) in self.sync(&lock) {
            for (result, (at, _)) in results.iter_mut().zip(changes) {
                if result.is_ok() && at.shard == shard {
                    *result = Err(error.clone());
                }
            }
        }
        results
    }

    /// Deletes the entries in a shard whose keys begin with `prefix`; returns how many.
    pub(crate) fn clear_shard(&self, guard: &mut ShardGuard, shard: &str, prefix: &str) -> Result<u64> {
        let (files, _) = self.files(shard, prefix)?;
        let mut deleted = 0;
        // A shard without entries is one page too: that they are gone may not be on the disk yet.
        for page in files.chunks(PAGE).chain(files.is_empty().then_some(&[][..])) {
            let lock = self.lock(guard)?;
            for Found { at, key } in page {
                // The key is in the file. One that cannot be read has no known prefix.
                if key.is_none() && !prefix.is_empty() {
                    let header = self.tree.format.peek_header(&self.tree.path(at)).ok().flatten();
                    let key = header.and_then(|header| header.key);
                    if !key.is_some_and(|key| key.as_str().starts_with(prefix)) {
                        continue;
                    }
                }
                deleted += u64::from(self.delete(&lock, at)?);
            }
            first_failure(self.sync(&lock))?;
        }
        Ok(deleted)
    }

    /// Removes the expired entries in a shard; returns how many. Does not sync: an entry that comes back
    /// after a power cut is still expired.
    pub(crate) fn purge_shard(&self, guard: &mut ShardGuard, shard: &str) -> Result<u64> {
        let (mut expired, _) = self.files(shard, "")?;
        expired.retain(|found| self.tree.is_expired(&found.at));
        let mut purged = 0;
        for page in expired.chunks(PAGE) {
            let _lock = self.locks.exclusive(guard)?;
            for found in page {
                // It may have been written since.
                purged += u64::from(self.tree.is_expired(&found.at) && self.tree.remove(&found.at)?);
            }
        }
        Ok(purged)
    }

    /// Takes the lock for changes. Their answers are acknowledged and follow from what they find, so this
    /// first puts earlier changes on the disk: a process may have been killed before it did so.
    fn lock<'g>(&self, guard: &'g mut ShardGuard) -> Result<WriteLock<'g>> {
        let lock = self.locks.exclusive(guard)?;
        if self.tree.sync && !lock.is_synced() {
            self.tree.dir.sync()?;
            for shard in self.tree.shards()?.0 {
                if lock::of_shard(&shard) == lock.index {
                    self.tree.sync_contents(&shard)?;
                    self.tree.sync_shard(&shard)?;
                }
            }
            lock.mark_synced();
        }
        Ok(lock)
    }

    /// Puts the changes under the lock on the disk, if so configured. Returns the shards where that failed.
    fn sync(&self, lock: &WriteLock<'_>) -> Vec<(String, Error)> {
        if !self.tree.sync {
            return Vec::new();
        }
        let sync = |shard: String| self.tree.sync_shard(&shard).err().map(|error| (shard, unsynced(error)));
        let failures: Vec<_> = lock.take_renamed().into_iter().filter_map(sync).collect();
        if failures.is_empty() {
            lock.mark_synced();
        }
        failures
    }

    fn change(&self, lock: &WriteLock<'_>, at: &EntryPath, change: &Change) -> Result<Applied> {
        let Change { key, action, condition, .. } = change;
        match (action, condition) {
            (Action::Delete, Condition::Any) => return self.delete(lock, at).map(Applied::Deleted),
            // It replaces whatever there is.
            (Action::Put(..), Condition::Any) => {}
            _ => {
                let current = self.current(at, key, false)?;
                if !condition.holds(current.as_ref().map(|current| &current.version)) {
                    return Err(Error::conflict());
                }
                if current.is_none() && matches!(action, Action::Touch(_)) {
                    return Ok(Applied::Touched(false));
                }
            }
        }
        match action {
            Action::Put(value, expiry) => {
                let encoded = self.tree.format.encode(key, expiry.deadline(unix_millis()), value)?;
                lock.change(Some(&at.shard), || self.tree.replace(at, &encoded.head, &encoded.body))?;
                Ok(Applied::Put(Written::at(encoded.version)))
            }
            Action::Delete => lock.change(Some(&at.shard), || self.tree.remove(at)).map(Applied::Deleted),
            Action::Touch(expiry) => {
                self.touch(lock, at, key, expiry.deadline(unix_millis()))?;
                Ok(Applied::Touched(true))
            }
        }
    }

    /// The entry for the holder of its lock; `None` if there is none or it has expired.
    fn current(&self, at: &EntryPath, key: &Key, value: bool) -> Result<Option<Stored>> {
        let stored = self.tree.format.load(&self.tree.path(at), key, value)?;
        let current = stored.filter(|stored| is_alive(stored.deadline));
        if current.is_none() {
            self.tree.dir.check()?;
        }
        Ok(current)
    }

    /// Deletes an entry; returns whether there was one. A damaged one counts: this is how to remove it.
    fn delete(&self, lock: &WriteLock<'_>, at: &EntryPath) -> Result<bool> {
        let existed = match self.tree.format.peek_header(&self.tree.path(at)) {
            Ok(Some(header)) => is_alive(header.deadline),
            Ok(None) => return self.tree.dir.check().map(|()| false),
            Err(error) if error.kind() == ErrorKind::Corrupt => true,
            Err(error) => return Err(error),
        };
        let removed = lock.change(Some(&at.shard), || self.tree.remove(at))?;
        Ok(removed && existed)
    }

    fn touch(&self, lock: &WriteLock<'_>, at: &EntryPath, key: &Key, deadline: Option<i64>) -> Result<()> {
        let Tree { format, sync, .. } = self.tree;
        match lock.change(None, || format.touch(&self.tree.path(at), key, deadline, sync))? {
            Some(content) => lock.change(Some(&at.shard), || self.tree.replace(at, &content, b"")),
            None => Ok(()),
        }
    }
}

fn first_failure(failures: Vec<(String, Error)>) -> Result<()> {
    failures.into_iter().try_for_each(|(_, error)| Err(error))
}

/// A change that was made and is perhaps not on the disk. The kind of the error must not say that
/// nothing has changed.
fn unsynced(error: Error) -> Error {
    if error.outcome() == Outcome::Unknown {
        return error;
    }
    Error::new(ErrorKind::Other, "the change was made, but could not be put on the disk").with_source(error)
}

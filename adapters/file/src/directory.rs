//! Entries in a directory under locks: the file system calls, each to be made on a thread that may block.

use larder_core::{
    Action, Applied, Change, Condition, Error, ErrorKind, Expiry, Key, ReadOptions, Record, Result, Written,
    clock::unix_millis,
};

use crate::{
    format::{EntryPath, Stored},
    lock::{self, Locks, ShardGuard, WriteLock},
    tree::{Found, Names, Tree},
};

/// How many entries are deleted while other processes wait.
const PAGE: usize = 256;

/// A directory of entries.
pub(crate) struct Directory {
    pub(crate) tree: Tree,
    pub(crate) locks: Locks,
}

impl Directory {
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
            if lock.is_some() || self.locks.shared(index)?.is_none() {
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
        Ok(stored.record(options.ttl, unix_millis()))
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
        let mut lock = self.lock(guard)?;
        let now = unix_millis();
        let Some(mut stored) = self.current(at, key, options.value, now)? else {
            return Ok(None);
        };
        stored.deadline = expiry.deadline(now);
        self.touch(&mut lock, at, key, stored.deadline)?;
        self.sync(&mut lock)?;
        Ok(stored.record(options.ttl, now))
    }

    /// Applies changes that share a lock, in their order; one result per change.
    pub(crate) fn apply(
        &self,
        guard: &mut ShardGuard,
        changes: &[(EntryPath, Change)],
    ) -> Result<Vec<Result<Applied>>> {
        let mut lock = self.lock(guard)?;
        let mut results: Vec<Result<Applied>> = Vec::with_capacity(changes.len());
        for (at, change) in changes {
            let gone = results.last().and_then(|last| last.as_ref().err()?.unsent());
            results.push(gone.map_or_else(|| self.change(&mut lock, at, change), Err));
        }
        if let Err(error) = self.sync(&mut lock) {
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(error.clone());
            }
        }
        Ok(results)
    }

    /// Deletes the entries in a shard whose keys begin with `prefix`; returns how many.
    pub(crate) fn clear_shard(&self, guard: &mut ShardGuard, shard: &str, prefix: &str) -> Result<u64> {
        let (files, _) = self.files(shard, prefix)?;
        let mut deleted = 0;
        // A shard without entries is one page too: that they are gone may not be on the disk yet.
        for page in files.chunks(PAGE).chain(files.is_empty().then_some(&[][..])) {
            let mut lock = self.lock(guard)?;
            for found in page {
                // One that cannot be read has no known prefix.
                let begins = || match self.tree.key(found) {
                    Err(error) if error.kind() != ErrorKind::Corrupt => Err(error),
                    key => Ok(key.ok().flatten().is_some_and(|key| key.as_str().starts_with(prefix))),
                };
                if prefix.is_empty() || begins()? {
                    deleted += u64::from(self.delete(&mut lock, &found.at)?);
                }
            }
            self.sync(&mut lock)?;
        }
        Ok(deleted)
    }

    /// Removes the expired entries in a shard; returns how many. Does not sync: an entry that comes back
    /// after a power cut is still expired.
    pub(crate) fn purge_shard(&self, guard: &mut ShardGuard, shard: &str) -> Result<u64> {
        let (mut expired, _) = self.files(shard, "")?;
        let is_expired = |found: &Found| matches!(self.tree.is_alive(&found.at), Ok(Some(false)));
        expired.retain(is_expired);
        let mut purged = 0;
        for page in expired.chunks(PAGE) {
            let _lock = self.locks.exclusive(guard)?;
            for found in page {
                // It may have been written since.
                purged += u64::from(is_expired(found) && self.tree.remove(&found.at)?);
            }
        }
        Ok(purged)
    }

    /// Takes the lock for changes. Their answers are acknowledged and follow from what they find, so this
    /// first puts earlier changes on the disk: a process may have been killed before it did so.
    fn lock<'g>(&self, guard: &'g mut ShardGuard) -> Result<WriteLock<'g>> {
        let index = guard.index;
        let mut lock = self.locks.exclusive(guard).map_err(Error::not_applied)?;
        if self.tree.sync && !lock.synced {
            self.tree.sync(index).map_err(Error::not_applied)?;
            lock.mark_synced();
        }
        Ok(lock)
    }

    /// Puts the changes under the lock on the disk, if so configured.
    fn sync(&self, lock: &mut WriteLock<'_>) -> Result<()> {
        if self.tree.sync {
            lock.renamed
                .iter()
                .try_for_each(|shard| self.tree.sync_shard(shard))
                .map_err(Error::partly_applied)?;
            lock.mark_synced();
        }
        Ok(())
    }

    fn change(&self, lock: &mut WriteLock<'_>, at: &EntryPath, change: &Change) -> Result<Applied> {
        let Change { key, action, condition, .. } = change;
        let now = unix_millis();
        match (action, condition) {
            (Action::Delete, Condition::Any) => return self.delete(lock, at).map(Applied::Deleted),
            // It replaces whatever there is.
            (Action::Put(..), Condition::Any) => {}
            _ => {
                let current = self.current(at, key, false, now).map_err(Error::not_applied)?;
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
                let encoded = self.tree.format.encode(key, expiry.deadline(now), value)?;
                lock.change(Some(&at.shard), || self.tree.replace(at, &encoded.head, &encoded.body))?;
                Ok(Applied::Put(Written::at(encoded.version)))
            }
            Action::Delete => lock.change(Some(&at.shard), || self.tree.remove(at)).map(Applied::Deleted),
            Action::Touch(expiry) => {
                self.touch(lock, at, key, expiry.deadline(now))?;
                Ok(Applied::Touched(true))
            }
        }
    }

    /// The entry for the holder of its lock; `None` if there is none or it has expired.
    fn current(&self, at: &EntryPath, key: &Key, value: bool, now: i64) -> Result<Option<Stored>> {
        let stored = self.tree.format.load(&self.tree.path(at), key, value)?;
        let current = stored.filter(|stored| stored.is_alive(now));
        if current.is_none() {
            self.tree.dir.check()?;
        }
        Ok(current)
    }

    /// Deletes an entry; returns whether there was one. A damaged one counts: this is how to remove it.
    fn delete(&self, lock: &mut WriteLock<'_>, at: &EntryPath) -> Result<bool> {
        let Some(existed) = self.tree.is_alive(at)? else {
            return self.tree.dir.check().map(|()| false);
        };
        let removed = lock.change(Some(&at.shard), || self.tree.remove(at))?;
        Ok(removed && existed)
    }

    fn touch(
        &self,
        lock: &mut WriteLock<'_>,
        at: &EntryPath,
        key: &Key,
        deadline: Option<i64>,
    ) -> Result<()> {
        let Tree { format, sync, .. } = self.tree;
        match lock.change(None, || format.touch(&self.tree.path(at), key, deadline, sync))? {
            Some(content) => lock.change(Some(&at.shard), || self.tree.replace(at, &content, b"")),
            None => Ok(()),
        }
    }
}

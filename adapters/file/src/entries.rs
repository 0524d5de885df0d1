//! The parts that all layouts of a directory share.

use std::{ffi::OsStr, sync::Arc};

use larder_core::{Applied, Change, ErrorKind, Expiry, Info, Key, ReadOptions, Record, Result};
use larder_kit::side_by_side;

use crate::{
    error::blocking,
    lock::{self, ShardGuard},
    tree::{Changes, EntryPath, Tree},
};

/// The number of locks that one operation takes at the same time, to overlap the waits for the disk.
pub(crate) const PARALLEL: usize = 8;

/// The number of entries that are deleted while other processes wait.
pub(crate) const PAGE: usize = 256;

/// The file of an entry.
pub(crate) struct Found {
    pub(crate) at: EntryPath,
    /// The key; `None` if only the file has it.
    pub(crate) key: Option<Key>,
}

/// Entries in a layout. The methods block the thread.
pub(crate) trait Entries: Send + Sync + 'static {
    /// Returns the capabilities of a storage with this layout.
    fn info(&self) -> Info;

    fn tree(&self) -> &Tree;

    /// Returns the path of the entry for `key`.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](ErrorKind::InvalidKey) if the layout does not allow the key.
    fn path(&self, key: &Key) -> Result<EntryPath>;

    /// Returns the entry's file with this name; `None` if it is not the file of an entry, or its name shows that the
    /// key does not begin with `prefix`.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](ErrorKind::InvalidKey) for the file of an entry whose key is not valid in Larder.
    fn found(&self, shard: &OsStr, name: &OsStr, prefix: &str) -> Result<Option<Found>>;

    /// Returns the key of an entry, from its file if necessary; `None` if the entry does not exist any more.
    fn key(&self, found: &Found) -> Result<Option<Key>> {
        Ok(found.key.clone())
    }

    /// Returns whether a live entry exists. A damaged entry counts as live, so that a read reports it and a delete
    /// removes it.
    fn is_alive(&self, at: &EntryPath) -> Result<bool>;

    /// Reads the entry for `key` without a touch.
    fn read(&self, at: &EntryPath, key: &Key, options: &ReadOptions) -> Result<Option<Record>>;

    /// Makes a change.
    fn change(&self, changes: &mut Changes<'_>, at: &EntryPath, change: &Change) -> Result<Applied>;

    /// Deletes an entry. Returns whether it existed.
    fn delete(&self, changes: &mut Changes<'_>, at: &EntryPath) -> Result<bool> {
        let alive = self.is_alive(at)?;
        Ok(changes.remove(at)? && alive)
    }

    /// Returns the files in a shard, without those whose name shows that the key does not begin with `prefix`, and an
    /// error for each file whose name is not valid in Larder.
    fn files(&self, shard: &OsStr, prefix: &str) -> Result<Vec<Result<Found>>> {
        let names = self.tree().files(shard)?;
        Ok(names.iter().filter_map(|name| self.found(shard, name, prefix).transpose()).collect())
    }

    /// Reads an entry, and sets its expiry.
    fn read_and_touch(
        &self,
        guard: &mut ShardGuard,
        key: Key,
        options: &ReadOptions,
        expiry: Expiry,
    ) -> Result<Option<Record>> {
        let at = &self.path(&key)?;
        let mut changes = self.tree().begin(guard)?;
        let Some(record) = self.read(at, &key, options)? else {
            return Ok(None);
        };
        self.change(&mut changes, at, &Change::touch(key, expiry))?;
        changes.commit()?;
        Ok(Some(if options.ttl { record.expires(expiry) } else { record }))
    }

    /// Removes the expired entries in a shard. Returns their number.
    fn purge_shard(&self, guard: &mut ShardGuard, shard: &OsStr) -> Result<u64> {
        let _ = (guard, shard);
        Ok(0)
    }

    /// Deletes the entries in a shard whose keys begin with `prefix`. Returns their number.
    fn clear_shard(&self, guard: &mut ShardGuard, shard: &OsStr, prefix: &str) -> Result<u64> {
        let files: Vec<_> = self.files(shard, prefix)?.into_iter().flatten().collect();
        let mut deleted = 0;
        // A shard without entries is also one page, because earlier deletions may not be on the disk yet.
        for page in files.chunks(PAGE).chain(files.is_empty().then_some(&[][..])) {
            let mut changes = self.tree().begin(guard)?;
            for found in page {
                // The prefix of an unreadable entry is unknown.
                let begins = || match self.key(found) {
                    Err(error) if error.kind() != ErrorKind::Corrupt => Err(error),
                    key => Ok(key.ok().flatten().is_some_and(|key| key.as_str().starts_with(prefix))),
                };
                if prefix.is_empty() || begins()? {
                    deleted += u64::from(self.delete(&mut changes, &found.at)?);
                }
            }
            changes.commit()?;
        }
        Ok(deleted)
    }
}

/// Calls `work` on a thread that may block. It runs to its end even if the future is dropped.
pub(crate) async fn call<E: Entries, T: Send + 'static>(
    entries: &Arc<E>,
    work: impl FnOnce(&E) -> Result<T> + Send + 'static,
) -> Result<T> {
    let entries = Arc::clone(entries);
    blocking(move || work(&entries)).await
}

/// [Calls](call) `work` with the guard of a lock, and then releases the guard.
pub(crate) async fn locked<E: Entries, T: Send + 'static>(
    entries: &Arc<E>,
    lock: usize,
    work: impl FnOnce(&E, &mut ShardGuard) -> Result<T> + Send + 'static,
) -> Result<T> {
    let mut guard = entries.tree().locks.guard(lock).await?;
    call(entries, move |entries| work(entries, &mut guard)).await
}

/// Runs `work` in every shard, and returns the sum of the results.
pub(crate) async fn sum_shards<E: Entries>(
    entries: &Arc<E>,
    work: impl Fn(&E, &mut ShardGuard, &OsStr) -> Result<u64> + Clone + Send + 'static,
) -> Result<u64> {
    let shards = call(entries, |entries| entries.tree().shards()).await?;
    let calls = shards.into_iter().map(|shard| {
        let work = work.clone();
        locked(entries, lock::of_shard(&shard), move |entries, guard| work(entries, guard, &shard))
    });
    side_by_side(calls, PARALLEL).await.into_iter().sum()
}

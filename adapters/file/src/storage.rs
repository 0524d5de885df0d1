//! The storage on a directory.

use std::{
    collections::BTreeMap,
    fmt, future,
    path::PathBuf,
    sync::{Arc, OnceLock},
};

use futures_util::{StreamExt, TryStreamExt, stream};
use larder_core::{
    Applied, Bytes, Change, DeleteOptions, EntryStream, Error, Expiry, Info, Key, ListOptions, ReadOptions,
    Record, Result, Storage, Store, TouchOptions, WriteOptions, Written, async_trait,
};
use larder_kit::{Interval, Sweeper, pages};

use crate::{
    applied::{existed, written},
    config::FileBuilder,
    data_dir::DataDir,
    directory::Directory,
    error::{blocking, fail_all},
    format::EntryPath,
    listing::Listing,
    lock::{self, ShardGuard},
    permissions::Permissions,
    setup,
    tree::Tree,
};

/// How many groups of a batch are under way at a time: their waits for the disk overlap.
const PARALLEL: usize = 8;

/// How many files of a batch are read in one go.
const READ_CHUNK: usize = 256;

/// The changes of a batch that share a lock, and their places in the batch.
type Group = (Vec<usize>, Vec<(EntryPath, Change)>);

/// A storage that keeps one file per key in a directory.
///
/// Needs a tokio runtime. See the [crate's documentation](crate) for its files and options.
pub struct FileStorage {
    directory: Arc<Directory>,
    sweeper: Sweeper,
}

impl FileStorage {
    /// Opens the directory that a URL names, such as `file:sessions` or
    /// `file:sessions?layout=grammy`; the [crate's documentation](crate) lists the options.
    ///
    /// # Errors
    ///
    /// As [`FileBuilder::from_url`] and [`FileBuilder::open`].
    pub async fn connect(url: &str) -> Result<Store> {
        FileBuilder::from_url(url)?.open().await
    }

    /// Opens the directory that a URL names, if it is there; see [`FileBuilder::existing`].
    ///
    /// # Errors
    ///
    /// As [`FileBuilder::from_url`] and [`FileBuilder::open`].
    pub async fn connect_existing(url: &str) -> Result<Store> {
        FileBuilder::from_url(url)?.existing().open().await
    }

    /// Options for a storage in `directory`.
    pub fn builder(directory: impl Into<PathBuf>) -> FileBuilder {
        FileBuilder::new(directory)
    }
}

impl FileBuilder {
    /// Opens the directory, creating it if it is not there, unless [`existing`](Self::existing) is set.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the path names a file, or a
    /// directory with other things in it or in another format, or nothing with `existing`;
    /// [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) without permission. A directory
    /// that exists and may only be read opens.
    pub async fn open(self) -> Result<Store> {
        let format = self.format()?;
        let permissions = Permissions(self.permissions);
        let dir = DataDir::new(self.directory, format.marker().is_some(), permissions);
        let directory = Arc::new(Directory::new(Tree { dir, format, sync: self.sync }, self.lock_timeout));
        let opened = Arc::clone(&directory);
        let existing = self.existing;
        blocking(move || setup::open(&opened, existing)).await?;
        let off = existing || !format.info().expiry;
        let sweep = if off { Interval::OFF } else { self.sweep };
        let sweeper = Sweeper::start("file", Arc::downgrade(&directory), sweep, purge);
        Ok(Store::from(FileStorage { directory, sweeper }))
    }
}

#[async_trait]
impl Storage for FileStorage {
    fn info(&self) -> Info {
        self.directory.tree.format.info()
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let (key, options) = (key.clone(), *options);
        if let Some(expiry) = options.touch {
            self.sweeper.ensure_running();
            let at = self.directory.tree.format.path(&key)?;
            let lock = at.lock;
            let touch = move |directory: &Directory, guard: &mut ShardGuard| {
                directory.read_and_touch(guard, &at, &key, &options, expiry)
            };
            return locked(&self.directory, lock, touch).await;
        }
        let directory = Arc::clone(&self.directory);
        blocking(move || directory.read(&key, &options)).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let change = Change::put(key.clone(), value, options.expiry).on(options.condition.clone());
        self.change(change).await.map(written)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.change(Change::delete(key.clone()).on(options.condition.clone())).await.map(existed)
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.change(Change::touch(key.clone(), expiry).on(options.condition.clone())).await.map(existed)
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let mut results = Vec::with_capacity(keys.len());
        // A touch waits for its lock, each for another one.
        let chunk = if options.touch.is_some() { 1 } else { READ_CHUNK };
        for keys in keys.chunks(chunk) {
            let gone = results.last().and_then(|last: &Result<_>| last.as_ref().err()?.unsent());
            let read = match (gone, keys) {
                (Some(error), _) => fail_all(keys.len(), &error),
                (_, [key]) => vec![self.read(key, options).await],
                _ => {
                    let (directory, chunk, options) = (Arc::clone(&self.directory), keys.to_vec(), *options);
                    let read = move || Ok(chunk.iter().map(|key| directory.read(key, &options)).collect());
                    blocking(read).await.unwrap_or_else(|error| fail_all(keys.len(), &error))
                }
            };
            results.extend(read);
        }
        results
    }

    /// Changes that share a lock are applied together, as they share the wait for the disk; those of one key
    /// do.
    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        // The runtime that the sweeper ran on may have shut down.
        self.sweeper.ensure_running();
        let mut results = Vec::with_capacity(changes.len());
        let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
        for (place, change) in changes.into_iter().enumerate() {
            match self.directory.tree.format.path(&change.key) {
                Ok(at) => {
                    let (places, group) = groups.entry(at.lock).or_default();
                    places.push(place);
                    group.push((at, change));
                }
                Err(error) => results.push((place, Err(error))),
            }
        }
        let gone = &OnceLock::new();
        let apply = |(lock, (places, group)): (usize, Group)| async move {
            let apply =
                move |directory: &Directory, guard: &mut ShardGuard| Ok(directory.apply(guard, &group));
            let applied = match gone.get() {
                Some(error) => Err(Error::clone(error)),
                None => locked(&self.directory, lock, apply).await,
            };
            let applied = applied.unwrap_or_else(|error| fail_all(places.len(), &error));
            // The groups that wait for their turn would find the same.
            if let Some(error) = applied.iter().find_map(|result| result.as_ref().err()?.unsent()) {
                gone.get_or_init(|| error);
            }
            stream::iter(places.into_iter().zip(applied))
        };
        let applied = stream::iter(groups).map(apply).buffer_unordered(PARALLEL).flatten();
        results.extend(applied.collect::<Vec<_>>().await);
        results.sort_by_key(|(place, _)| *place);
        results.into_iter().map(|(_, result)| result).collect()
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        pages(Listing::new(Arc::clone(&self.directory), options))
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        let prefix = prefix.to_owned();
        sum_shards(&self.directory, move |directory, guard, shard| {
            directory.clear_shard(guard, shard, &prefix)
        })
        .await
    }

    async fn purge_expired(&self) -> Result<u64> {
        purge(Arc::clone(&self.directory)).await
    }

    async fn ping(&self) -> Result<()> {
        let directory = Arc::clone(&self.directory);
        blocking(move || directory.tree.dir.check()).await
    }

    async fn close(&self) -> Result<()> {
        self.sweeper.stop();
        self.directory.locks.close().await;
        Ok(())
    }
}

impl FileStorage {
    async fn change(&self, change: Change) -> Result<Applied> {
        self.apply(vec![change]).await.swap_remove(0)
    }
}

/// Runs `work` with the guard of a lock. It runs to its end, and lets the next task have the guard, also if
/// the future is dropped.
async fn locked<T, F>(directory: &Arc<Directory>, lock: usize, work: F) -> Result<T>
where
    T: Send + 'static,
    F: FnOnce(&Directory, &mut ShardGuard) -> Result<T> + Send + 'static,
{
    let mut guard = directory.locks.guard(lock).await?;
    let directory = Arc::clone(directory);
    blocking(move || work(&directory, &mut guard)).await
}

/// Does `work` in every shard and adds up the results.
async fn sum_shards<F>(directory: &Arc<Directory>, work: F) -> Result<u64>
where
    F: Fn(&Directory, &mut ShardGuard, &str) -> Result<u64> + Clone + Send + 'static,
{
    let listed = Arc::clone(directory);
    let (shards, _) = blocking(move || listed.tree.shards()).await?;
    stream::iter(shards)
        .map(|shard| {
            let work = work.clone();
            locked(directory, lock::of_shard(&shard), move |directory, guard| work(directory, guard, &shard))
        })
        .buffer_unordered(PARALLEL)
        .try_fold(0, |sum, count| future::ready(Ok(sum + count)))
        .await
}

async fn purge(directory: Arc<Directory>) -> Result<u64> {
    if !directory.tree.format.info().expiry {
        return Ok(0);
    }
    sum_shards(&directory, Directory::purge_shard).await
}

impl fmt::Debug for FileStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStorage")
            .field("directory", &self.directory.tree.dir.root())
            .field("format", &self.directory.tree.format)
            .finish_non_exhaustive()
    }
}

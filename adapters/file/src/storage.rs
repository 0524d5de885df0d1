//! The storage on a directory.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::PathBuf,
    sync::Arc,
};

use larder_core::{
    Applied, Bytes, Change, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions, ReadOptions, Record,
    Result, Storage, Store, TouchOptions, WriteOptions, Written, async_trait,
};
use larder_kit::{Interval, Sweeper, pages, read_chunks, side_by_side};

use crate::{
    config::FileBuilder,
    data_dir::DataDir,
    directory::Directory,
    error::blocking,
    listing::Listing,
    lock::{self, Locks, ShardGuard},
    permissions::Permissions,
    setup,
    tree::Tree,
};

/// How many locks are taken at a time for one operation: their waits for the disk overlap.
const PARALLEL: usize = 8;

/// How many files of a batch are read in one go.
const READ_CHUNK: usize = 256;

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
        let (marked, permissions) = (format.marker().is_some(), Permissions(self.permissions));
        let dir = DataDir { root: self.directory, marked, permissions };
        let locks = Locks::new(dir.clone(), self.lock_timeout);
        let directory = Arc::new(Directory { tree: Tree { dir, format, sync: self.sync }, locks });
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
            let touch = locked(&self.directory, at.lock, move |directory, guard| {
                directory.read_and_touch(guard, &at, &key, &options, expiry)
            });
            return touch.await;
        }
        let directory = Arc::clone(&self.directory);
        blocking(move || directory.read(&key, &options)).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let change = Change::put(key.clone(), value, options.expiry).on(options.condition.clone());
        match self.change(change).await? {
            Applied::Put(written) => Ok(written),
            Applied::Deleted(_) | Applied::Touched(_) => Ok(Written::default()),
        }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let change = Change::delete(key.clone()).on(options.condition.clone());
        Ok(self.change(change).await? == Applied::Deleted(true))
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let change = Change::touch(key.clone(), expiry).on(options.condition.clone());
        Ok(self.change(change).await? == Applied::Touched(true))
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        if options.touch.is_some() {
            // A touch waits for its lock, each for another one.
            return side_by_side(keys.iter().map(|key| self.read(key, options)), PARALLEL).await;
        }
        let read = |keys: &[Key]| {
            let (directory, keys, options) = (Arc::clone(&self.directory), keys.to_vec(), *options);
            blocking(move || {
                let read = |key: &Key| Some((key.to_string(), directory.read(key, &options).transpose()?));
                Ok(keys.iter().filter_map(read).collect::<HashMap<_, _>>())
            })
        };
        read_chunks(keys, READ_CHUNK, 1, read).await
    }

    /// Changes that share a lock are applied together, as they share the wait for the disk; those of one key
    /// do.
    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        // The runtime that the sweeper ran on may have shut down.
        self.sweeper.ensure_running();
        let mut results = Vec::with_capacity(changes.len());
        // By lock: the places of the changes in the batch, and the changes.
        let mut groups: BTreeMap<usize, (Vec<_>, Vec<_>)> = BTreeMap::new();
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
        let apply = |(lock, (places, group)): (usize, (Vec<usize>, Vec<_>))| {
            let apply = move |directory: &Directory, guard: &mut ShardGuard| directory.apply(guard, &group);
            (places, locked(&self.directory, lock, apply))
        };
        let (places, calls): (Vec<_>, Vec<_>) = groups.into_iter().map(apply).unzip();
        for (places, applied) in places.into_iter().zip(side_by_side(calls, PARALLEL).await) {
            let applied = applied.unwrap_or_else(|error| vec![Err(error); places.len()]);
            results.extend(places.into_iter().zip(applied));
        }
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
    let calls = shards.into_iter().map(|shard| {
        let work = work.clone();
        locked(directory, lock::of_shard(&shard), move |directory, guard| work(directory, guard, &shard))
    });
    side_by_side(calls, PARALLEL).await.into_iter().sum()
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
            .field("directory", &self.directory.tree.dir.root)
            .field("format", &self.directory.tree.format)
            .finish_non_exhaustive()
    }
}

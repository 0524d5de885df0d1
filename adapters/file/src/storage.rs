//! The storage on a directory.

use std::{path::PathBuf, sync::Arc};

use larder_core::{
    Applied, Bytes, Change, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions, ReadOptions, Record,
    Result, Storage, Store, TouchOptions, WriteOptions, Written, async_trait,
};
use larder_kit::{Interval, Sweeper, side_by_side};

use crate::{
    batch,
    config::FileBuilder,
    directory::Directory,
    entries::{self, Entries, PARALLEL},
    listing,
};

/// A storage that keeps one file per key in a directory.
///
/// Needs a tokio runtime. See the [crate's documentation](crate) for its files and options.
#[derive(Debug)]
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

    pub(crate) fn new(directory: Directory, sweep: Interval) -> Self {
        let directory = Arc::new(directory);
        let purge = |directory| async move { purge(&directory).await };
        let sweeper = Sweeper::start("file", Arc::downgrade(&directory), sweep, purge);
        Self { directory, sweeper }
    }
}

#[async_trait]
impl Storage for FileStorage {
    fn info(&self) -> Info {
        self.directory.format.info()
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let Some(expiry) = options.touch else {
            return batch::read(&self.directory, key, options).await;
        };
        self.sweeper.ensure_running();
        let (at, key, options) = (self.directory.path(key)?, key.clone(), *options);
        entries::locked(&self.directory, at.lock, move |directory, guard| {
            directory.read_and_touch(guard, &at, &key, &options, expiry)
        })
        .await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        batch::write(self, key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        batch::delete(self, key, options).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        batch::touch(self, key, expiry, options).await
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        if options.touch.is_some() {
            // A touch waits for its lock, each for another one.
            return side_by_side(keys.iter().map(|key| self.read(key, options)), PARALLEL).await;
        }
        batch::read_many(&self.directory, keys, options).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        // The runtime that the sweeper ran on may have shut down.
        self.sweeper.ensure_running();
        batch::apply(&self.directory, changes).await
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        listing::list(&self.directory, options)
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        entries::clear(&self.directory, prefix).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        purge(&self.directory).await
    }

    async fn ping(&self) -> Result<()> {
        entries::ping(&self.directory).await
    }

    async fn close(&self) -> Result<()> {
        self.sweeper.stop();
        self.directory.tree.locks.close().await;
        Ok(())
    }
}

async fn purge(directory: &Arc<Directory>) -> Result<u64> {
    entries::sum_shards(directory, Directory::purge_shard).await
}

//! The storage on a directory in any layout.

use std::{slice, sync::Arc};

use larder_core::{
    Applied, Bytes, Change, Condition, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions, Location,
    ReadOptions, Record, Result, Storage, TouchOptions, WriteOptions, Written, async_trait,
};
use larder_kit::{Configure, Interval, Sweeper, pages, side_by_side};

use crate::{
    batch,
    config::Config,
    entries::{Entries, PARALLEL, call, locked, sum_shards},
    listing::Listing,
};

/// A storage with one file per key in a directory.
pub(crate) struct FileStorage<E> {
    entries: Arc<E>,
    sweeper: Sweeper,
}

impl<E: Entries> FileStorage<E> {
    pub(crate) fn new(entries: E, sweep: Interval) -> Self {
        let entries = Arc::new(entries);
        let purge = |entries| async move { sum_shards(&entries, E::purge_shard).await };
        let sweeper = Sweeper::start(Config::ADAPTER, Arc::downgrade(&entries), sweep, purge);
        Self { entries, sweeper }
    }

    async fn apply_one(&self, change: Change, on: &Condition) -> Result<Applied> {
        self.apply(vec![change.on(on.clone())]).await.swap_remove(0)
    }

    async fn read_and_touch(
        &self,
        key: &Key,
        options: &ReadOptions,
        expiry: Expiry,
    ) -> Result<Option<Record>> {
        self.sweeper.ensure_running();
        let lock = self.entries.path(key)?.lock;
        let (key, options) = (key.clone(), *options);
        let read = move |entries: &E, guard: &mut _| entries.read_and_touch(guard, key, &options, expiry);
        locked(&self.entries, lock, read).await
    }
}

#[async_trait]
impl<E: Entries> Storage for FileStorage<E> {
    fn info(&self) -> Info {
        self.entries.info()
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        self.read_many(slice::from_ref(key), options).await.swap_remove(0)
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let put = Change::put(key.clone(), value, options.expiry);
        Ok(self.apply_one(put, &options.condition).await?.written())
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let delete = Change::delete(key.clone());
        Ok(self.apply_one(delete, &options.condition).await?.existed())
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let touch = Change::touch(key.clone(), expiry);
        Ok(self.apply_one(touch, &options.condition).await?.existed())
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let Some(expiry) = options.touch else {
            return batch::read(&self.entries, keys, options).await;
        };
        // Concurrent, because each touch waits for its own lock.
        side_by_side(keys.iter().map(|key| self.read_and_touch(key, options, expiry)), PARALLEL).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        // The sweeper's runtime may have ended.
        self.sweeper.ensure_running();
        batch::apply(&self.entries, changes).await
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        pages(Listing::new(Arc::clone(&self.entries), options))
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        let prefix = prefix.to_owned();
        sum_shards(&self.entries, move |entries, guard, shard| entries.clear_shard(guard, shard, &prefix))
            .await
    }

    async fn purge_expired(&self) -> Result<u64> {
        sum_shards(&self.entries, E::purge_shard).await
    }

    async fn ping(&self) -> Result<()> {
        call(&self.entries, |entries| entries.tree().dir.check()).await
    }

    async fn location(&self) -> Result<Option<Location>> {
        call(&self.entries, |entries| entries.tree().dir.location().map(Some)).await
    }

    async fn close(&self) -> Result<()> {
        self.sweeper.stop();
        self.entries.tree().locks.close().await;
        Ok(())
    }
}

//! The storage on a snapshot.

use std::{future, sync::Arc, time::Duration};

use futures_util::{StreamExt, TryStreamExt, stream};
use larder_core::{
    Applied, Bytes, Change, Condition, DeleteOptions, EntryStream, Error, Expiry, Info, Key, ListOptions,
    Location, Purge, ReadOptions, Record, Result, Storage, Store, TouchOptions, Versions, WriteOptions,
    Written, async_trait, clock::unix_millis,
};
use larder_kit::{Configure, Sweeper};

use super::{config::SnapshotConfig, file::SnapshotFile, map::Map};
use crate::error::blocking;

/// The longest pause between two attempts after a failed save.
const RETRY: Duration = Duration::from_secs(5);

/// A storage with its entries in memory, which are written into one JSON file periodically.
pub(super) struct SnapshotStorage {
    file: Arc<SnapshotFile>,
    saver: Sweeper,
}

impl SnapshotStorage {
    /// Calls `change` with the entries and the current time, after taking the lock against other processes. If this
    /// returns an error, `change` was not called.
    async fn change<T>(&self, change: impl FnOnce(&mut Map, i64) -> T + Send) -> Result<T> {
        self.file.hold().await.map_err(Error::not_applied)?;
        self.saver.ensure_running();
        self.file.with_map(|map| change(map, unix_millis()))
    }

    async fn apply_one(&self, change: Change, on: &Condition) -> Result<Applied> {
        self.change(|map, now| map.apply(change.on(on.clone()), now)).await?
    }
}

impl SnapshotConfig {
    /// Takes the lock of the snapshot and reads it.
    ///
    /// # Errors
    ///
    /// - [`Unavailable`](larder_core::ErrorKind::Unavailable) while another process, or another storage in this
    ///   process, uses the snapshot.
    /// - [`Corrupt`](larder_core::ErrorKind::Corrupt) if the file is not a snapshot. The file is not changed, and no
    ///   file is created beside it.
    /// - [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the path is empty or does not name a file, or,
    ///   with [`existing`](Self::existing), the file does not exist.
    /// - [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) without permission.
    pub async fn connect(self) -> Result<Store> {
        self.open().await.map_err(Self::named)
    }

    async fn open(self) -> Result<Store> {
        self.check()?;
        let interval = self.interval;
        let file = Arc::new(blocking(move || SnapshotFile::open(&self)).await?);
        let save = move |file| save(file, interval.min(RETRY));
        let saver = Sweeper::start(Self::ADAPTER, Arc::downgrade(&file), interval, save);
        Ok(Store::from(SnapshotStorage { file, saver }))
    }
}

/// Saves the changes. Repeats this until it succeeds.
async fn save(file: Arc<SnapshotFile>, pause: Duration) -> Result<u64> {
    let weak = Arc::downgrade(&file);
    let mut file = Some(file);
    while let Some(open) = file {
        open.with_map(|map| map.purge(unix_millis()))?;
        match open.flush().await {
            Ok(()) => break,
            Err(error) => tracing::warn!(%error, "could not write the snapshot; trying again"),
        }
        // The last handle may be dropped during the pause.
        drop(open);
        tokio::time::sleep(pause).await;
        file = weak.upgrade();
    }
    Ok(0)
}

#[async_trait]
impl Storage for SnapshotStorage {
    fn info(&self) -> Info {
        Info::minimal("file")
            .with_expiry()
            .with_versions(Versions::Unique)
            .with_ordered_listing()
            .with_purge(Purge::Sweep)
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let read = |map: &mut Map, now| map.read(key, options, now);
        if options.touch.is_some() {
            return self.change(read).await?;
        }
        self.file.with_map(|map| read(map, unix_millis()))?
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

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let count = changes.len();
        let apply = |map: &mut Map, now| changes.into_iter().map(|change| map.apply(change, now)).collect();
        self.change(apply).await.unwrap_or_else(|error| vec![Err(error); count])
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        let next = move |mut options: ListOptions| {
            let page = self.file.with_map(|map| map.page(&options, unix_millis()));
            future::ready(page.map(|page| {
                options.start_after = Some(page.last()?.key.clone());
                Some((stream::iter(page.into_iter().map(Ok)), options))
            }))
        };
        stream::try_unfold(options, next).try_flatten().boxed()
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        self.change(|map, now| map.clear(prefix, now)).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.change(Map::purge).await
    }

    async fn location(&self) -> Result<Option<Location>> {
        let file = Arc::clone(&self.file);
        blocking(move || file.location().map(Some)).await
    }

    /// Writes the snapshot if entries have changed. Returns when it is on the disk.
    async fn flush(&self) -> Result<()> {
        self.file.flush().await
    }

    async fn close(&self) -> Result<()> {
        self.file.close().await?;
        self.saver.stop();
        Ok(())
    }
}

//! The storage on a snapshot.

use std::{fmt, future, path::PathBuf, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use larder_core::{
    Applied, Bytes, Change, DeleteOptions, EntryStream, Error, Expiry, Info, Key, ListOptions, Purge,
    ReadOptions, Record, Result, Storage, Store, TouchOptions, Versions, WriteOptions, Written, async_trait,
    clock::unix_millis,
};
use larder_kit::Sweeper;

use super::{config::SnapshotBuilder, file::SnapshotFile, map::Map};
use crate::{batch, error::blocking};

/// How long to wait, at most, before another try after a failed save.
const RETRY: Duration = Duration::from_secs(5);

/// A storage that keeps its entries in memory and writes them all into one JSON file every so often.
///
/// **A write is acknowledged when it is in memory.** It is in the file after the next interval (60
/// seconds by default), or after [`Store::flush`] or [`Store::close`]; a crash before that loses it. So
/// [`Info::persistent`] is `false`, though everything that was flushed is there when the snapshot is opened
/// again.
///
/// **The file holds the state of one moment**: the one at which its save began. Changes during a save
/// are in the next one. The first of them copies the table of the entries, without their values: the more
/// entries there are, the longer it takes.
///
/// Dropping the last handle without a close writes the last changes at once, which blocks the thread
/// for as long as that takes and can report an error only through `tracing`: close it instead. If a close
/// fails, the entries stay in memory and are saved in the background; close again to know that they are in
/// the file.
pub struct SnapshotStorage {
    file: Arc<SnapshotFile>,
    saver: Sweeper,
}

impl SnapshotStorage {
    /// Opens the snapshot that a URL names, such as `file:sessions.json?interval=10s`.
    ///
    /// # Errors
    ///
    /// As [`SnapshotBuilder::from_url`] and [`SnapshotBuilder::open`].
    pub async fn connect(url: &str) -> Result<Store> {
        SnapshotBuilder::from_url(url)?.open().await
    }

    /// Opens the snapshot that a URL names, if it is there; see [`SnapshotBuilder::existing`].
    ///
    /// # Errors
    ///
    /// As [`SnapshotBuilder::from_url`] and [`SnapshotBuilder::open`].
    pub async fn connect_existing(url: &str) -> Result<Store> {
        SnapshotBuilder::from_url(url)?.existing().open().await
    }

    /// Options for a snapshot in the file at `path`.
    pub fn builder(path: impl Into<PathBuf>) -> SnapshotBuilder {
        SnapshotBuilder::new(path)
    }

    /// Calls `change` with the entries and the time, once the file is held against other processes. An error
    /// says that it has not been called.
    async fn change<T>(&self, change: impl FnOnce(&mut Map, i64) -> T + Send) -> Result<T> {
        self.file.hold().await.map_err(Error::not_applied)?;
        self.saver.ensure_running();
        self.file.with_map(|map| change(map, unix_millis()))
    }
}

impl SnapshotBuilder {
    /// Takes hold of the snapshot and reads it.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](larder_core::ErrorKind::Unavailable) while another process or another storage
    /// in this one has it; [`Corrupt`](larder_core::ErrorKind::Corrupt) if the file is not a snapshot:
    /// it is left as it is, and nothing is created beside it;
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the path names something that is not
    /// a file, or nothing with [`existing`](Self::existing);
    /// [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) without permission.
    pub async fn open(self) -> Result<Store> {
        self.check_options()?;
        let interval = self.interval;
        let file = Arc::new(blocking(move || SnapshotFile::open(&self)).await?);
        let save = move |file| save(file, interval.min(RETRY));
        let saver = Sweeper::start("file", Arc::downgrade(&file), interval, save);
        Ok(Store::from(SnapshotStorage { file, saver }))
    }
}

/// Saves the changes. Tries again until that succeeds.
async fn save(file: Arc<SnapshotFile>, pause: Duration) -> Result<u64> {
    let weak = Arc::downgrade(&file);
    let mut file = Some(file);
    while let Some(open) = file {
        open.with_map(|map| map.purge(unix_millis()))?;
        match open.flush().await {
            Ok(()) => break,
            Err(error) => tracing::warn!(%error, "the snapshot could not be written; trying again"),
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
        batch::write(self, key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        batch::delete(self, key, options).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        batch::touch(self, key, expiry, options).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let count = changes.len();
        let apply = |map: &mut Map, now| changes.into_iter().map(|change| map.apply(change, now)).collect();
        self.change(apply).await.unwrap_or_else(|error| vec![Err(error); count])
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        let next = move |mut options: ListOptions| {
            let next = self.file.with_map(|map| map.next(&options, unix_millis()));
            future::ready(next.map(|next| {
                let entry = next?;
                options.start_after = Some(entry.key.clone());
                Some((entry, options))
            }))
        };
        stream::try_unfold(options, next).boxed()
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        self.change(|map, now| map.clear(prefix, now)).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.change(Map::purge).await
    }

    /// Writes the snapshot, if something has changed, and returns once it is on the disk.
    async fn flush(&self) -> Result<()> {
        self.file.flush().await
    }

    async fn close(&self) -> Result<()> {
        self.file.close().await?;
        self.saver.stop();
        Ok(())
    }
}

impl fmt::Debug for SnapshotStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotStorage").field("path", &self.file.path).finish_non_exhaustive()
    }
}

//! The storage on a snapshot.

use std::{fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream, stream::BoxStream};
use larder_core::{
    Capabilities, Condition, Entry, EntryStream, Error, Expiry, Key, KeyStream, Operation, Purge, Record,
    Result, Storage, Version, Versions, Write, clock::unix_millis,
};

use super::{
    config::SnapshotBuilder,
    map::{Map, Slot, entry},
    saver::{Shared, closed},
};
use crate::error::{NAME, blocking, during};

/// How many entries a listing takes in one go.
const PAGE: usize = 256;

/// A storage that keeps its entries in memory and writes them all into one JSON file every so often.
///
/// **A write is acknowledged when it is in memory.** It is in the file after the next interval (60
/// seconds by default), or after [`flush`](Storage::flush) or [`close`](Storage::close); a crash
/// before that loses it. So [`Capabilities::persistent`] is `false`, though what was flushed is there
/// when the snapshot is opened again.
///
/// **The file holds the state of one moment**: the one at which its save began. Changes during a save
/// are in the next one.
///
/// Cheap to clone; clones share everything. Dropping the last one without a close writes what is left
/// there and then, which blocks the thread for as long as that takes and can report an error only
/// through `tracing`: close it instead. A close that fails leaves the storage open, so that it can be
/// tried again.
#[derive(Clone)]
pub struct SnapshotStorage {
    shared: Arc<Shared>,
}

impl SnapshotStorage {
    /// Opens the snapshot that a URL names, such as `file:sessions.json?interval=10s`.
    ///
    /// # Errors
    ///
    /// As [`SnapshotBuilder::from_url`] and [`SnapshotBuilder::open`].
    pub async fn connect(url: &str) -> Result<Self> {
        SnapshotBuilder::from_url(url)?.open().await
    }

    /// Opens the snapshot that a URL names, if it is there; see [`SnapshotBuilder::existing`].
    ///
    /// # Errors
    ///
    /// As [`SnapshotBuilder::from_url`] and [`SnapshotBuilder::open`].
    pub async fn connect_existing(url: &str) -> Result<Self> {
        SnapshotBuilder::from_url(url)?.existing().open().await
    }

    /// Options for a snapshot in the file at `path`.
    pub fn builder(path: impl Into<PathBuf>) -> SnapshotBuilder {
        SnapshotBuilder::new(path)
    }

    pub(super) async fn open(builder: SnapshotBuilder) -> Result<Self> {
        builder.check()?;
        let existing = builder.existing;
        let shared = blocking(move || Shared::open(&builder)).await?;
        let storage = Self { shared: Arc::new(shared) };
        if !existing {
            storage.shared.ensure_running();
        }
        Ok(storage)
    }

    fn look<T>(&self, operation: Operation, look: impl FnOnce(&Map, i64) -> T) -> Result<T> {
        let state = self.shared.state();
        if state.closed {
            return Err(during(operation)(closed()));
        }
        Ok(look(&state.map, unix_millis()))
    }

    async fn change<T>(
        &self,
        operation: Operation,
        change: impl FnOnce(&mut Map, i64) -> Result<T> + Send,
    ) -> Result<T> {
        self.shared.take_hold().await.map_err(during(operation))?;
        self.shared.ensure_running();
        let mut state = self.shared.state();
        if state.closed {
            return Err(during(operation)(closed()));
        }
        change(&mut state.map, unix_millis())
    }

    fn pages<'a, T: Send + 'a>(
        &'a self,
        operation: Operation,
        prefix: &'a str,
        item: impl Fn((Key, Slot)) -> Option<T> + Send + 'a,
    ) -> BoxStream<'a, Result<T>> {
        let first: Option<Option<Key>> = Some(None);
        let pages = stream::unfold(first, move |last| {
            let page =
                last.map(|last| self.look(operation, |map, now| map.page(prefix, last.as_ref(), PAGE, now)));
            async move {
                match page? {
                    Ok((_, None)) => None,
                    Ok((page, reached)) => Some((page.into_iter().map(Ok).collect(), Some(reached))),
                    Err(error) => Some((vec![Err(error)], None)),
                }
            }
        });
        pages
            .map(stream::iter)
            .flatten()
            .filter_map(move |found| std::future::ready(found.map(&item).transpose()))
            .boxed()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for SnapshotStorage {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::minimal()
            .with_expiry()
            .with_versions(Versions::Unique)
            .with_listing()
            .with_purge(Purge::Sweep)
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.look(Operation::Read, |map, now| map.get(key, now).map(Slot::record))
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.change(Operation::Write, |map, now| {
            map.set(key, &value, expiry, now);
            Ok(())
        })
        .await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.change(Operation::Delete, |map, now| Ok(map.remove(key, now))).await
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        self.change(Operation::WriteIf, |map, now| {
            if Condition::from(map.get(key, now).map(Slot::version)) != condition {
                return Err(Error::conflict().with_adapter(NAME).with_operation(Operation::WriteIf));
            }
            Ok(map.set(key, &value, expiry, now))
        })
        .await
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        self.change(Operation::DeleteIf, |map, now| {
            if map.get(key, now).map(Slot::version).as_ref() != Some(version) {
                return Err(Error::conflict().with_adapter(NAME).with_operation(Operation::DeleteIf));
            }
            map.remove(key, now);
            Ok(())
        })
        .await
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        self.change(Operation::Touch, |map, now| Ok(map.touch(key, expiry, now))).await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        self.look(Operation::Ttl, |map, now| {
            map.get(key, now).and_then(|slot| Expiry::until(slot.deadline, now))
        })
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.look(Operation::Contains, |map, now| map.get(key, now).is_some())
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        self.look(Operation::ReadMany, |map, now| {
            keys.iter().map(|key| map.get(key, now).map(Slot::record)).collect()
        })
    }

    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        self.change(Operation::WriteMany, |map, now| {
            for write in writes {
                map.set(&write.key, &write.value, write.expiry, now);
            }
            Ok(())
        })
        .await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        self.change(Operation::DeleteMany, |map, now| {
            Ok(keys.iter().map(|key| u64::from(map.remove(key, now))).sum())
        })
        .await
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        self.pages(Operation::Keys, prefix, |(key, _)| Some(key))
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        self.pages::<Entry>(Operation::Entries, prefix, |found| entry(found, unix_millis()))
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        self.change(Operation::Clear, |map, now| Ok(map.clear(prefix, now))).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.change(Operation::PurgeExpired, |map, now| Ok(map.purge(now))).await
    }

    async fn ping(&self) -> Result<()> {
        self.look(Operation::Ping, |_, _| ())
    }

    /// Writes the snapshot, if something has changed, and returns once it is on the disk.
    async fn flush(&self) -> Result<()> {
        self.look(Operation::Flush, |_, _| ())?;
        self.shared.flush().await.map_err(during(Operation::Flush))
    }

    async fn close(&self) -> Result<()> {
        self.shared.close().await.map_err(during(Operation::Close))
    }
}

impl fmt::Debug for SnapshotStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotStorage").field("path", &self.shared.path()).finish_non_exhaustive()
    }
}

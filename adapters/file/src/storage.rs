//! The storage on a directory.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream, stream::BoxStream};
use larder_core::{
    Capabilities, Condition, Entry, EntryStream, Error, ErrorKind, Expiry, Failure, Key, KeyStream,
    Operation, Purge, Record, Result, Storage, Values, Version, Versions, Write,
};
use larder_layers::Sweeper;

use crate::{
    FileBuilder,
    directory::Directory,
    error::{NAME, blocking, during},
    form::{Form, Place, Stored},
    listing::{Item, Walk},
    lock::Turn,
};

/// How many groups of a batch are under way at a time: their waits for the disk overlap.
const PARALLEL: usize = 8;

/// How many files of a batch are read in one go.
const READ_CHUNK: usize = 256;

/// The entries of a batch by lock, each with its place in the batch.
type Groups<T> = BTreeMap<usize, Vec<(usize, Place, T)>>;

/// A storage that keeps one file per key in a directory.
///
/// Cheap to clone; clones share everything, [`close`](Storage::close) included. Needs a tokio
/// runtime. See the [crate's documentation](crate) for what is stored and when to pick it.
#[derive(Clone)]
pub struct FileStorage {
    directory: Arc<Directory>,
    closed: Arc<AtomicBool>,
    sweeping: Option<Arc<Sweeping>>,
}

/// Lives as long as there is a handle: the sweeper holds `target` weakly.
struct Sweeping {
    sweeper: Sweeper,
    _target: Arc<FileStorage>,
}

impl FileStorage {
    /// Opens the directory that a URL names, such as `file:sessions` or
    /// `file:sessions?layout=grammy`; the [crate's documentation](crate) lists the options.
    ///
    /// # Errors
    ///
    /// As [`FileBuilder::from_url`] and [`FileBuilder::open`].
    pub async fn connect(url: &str) -> Result<Self> {
        FileBuilder::from_url(url)?.open().await
    }

    /// Opens the directory that a URL names, if it is there; see [`FileBuilder::existing`].
    ///
    /// # Errors
    ///
    /// As [`FileBuilder::from_url`] and [`FileBuilder::open`].
    pub async fn connect_existing(url: &str) -> Result<Self> {
        FileBuilder::from_url(url)?.existing().open().await
    }

    /// Options for a storage in `directory`.
    pub fn builder(directory: impl Into<std::path::PathBuf>) -> FileBuilder {
        FileBuilder::new(directory)
    }

    pub(crate) fn new(directory: Arc<Directory>, sweep: Option<Duration>) -> Self {
        let plain = Self { directory, closed: Arc::default(), sweeping: None };
        let sweeping = sweep.map(|every| {
            let target = Arc::new(plain.clone());
            Arc::new(Sweeping { sweeper: Sweeper::start(Arc::downgrade(&target), every), _target: target })
        });
        Self { sweeping, ..plain }
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(
                ErrorKind::Closed,
                "the storage has been closed; open it again to use it",
            ));
        }
        Ok(())
    }

    /// Expiry where there is none is refused rather than forgotten.
    fn check_expiry(&self, expiry: Expiry) -> Result<()> {
        if self.directory.form == Form::Grammy && expiry != Expiry::Never {
            return Err(Error::new(ErrorKind::Unsupported, "nothing expires in grammY's layout"));
        }
        if let (Some(sweeping), Expiry::After(_)) = (&self.sweeping, expiry) {
            // The runtime that the sweeper ran on may have shut down.
            sweeping.sweeper.ensure_running();
        }
        Ok(())
    }

    fn check_has_expiry(&self, operation: Operation) -> Result<()> {
        if self.directory.form == Form::Grammy {
            Err(Error::unsupported().with_adapter(NAME).with_operation(operation))
        } else {
            Ok(())
        }
    }

    /// Work that takes no lock.
    async fn look<T, F>(&self, operation: Operation, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Arc<Directory>) -> Result<T> + Send + 'static,
    {
        let directory = Arc::clone(&self.directory);
        let look = async {
            self.check_open()?;
            blocking(move || work(&directory)).await
        };
        look.await.map_err(during(operation))
    }

    /// Work for whose turn it is at lock `lock`. It goes on to its end, and gives the turn on, also
    /// when the future is dropped.
    async fn change<T, F>(&self, operation: Operation, lock: usize, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Directory, &mut Turn) -> Result<T> + Send + 'static,
    {
        let change = async {
            self.check_open()?;
            let mut turn = self.directory.locks.turn(lock).await;
            // Closing waits for turns: who waited behind it must not begin.
            self.check_open()?;
            let directory = Arc::clone(&self.directory);
            blocking(move || work(&directory, &mut turn)).await
        };
        change.await.map_err(during(operation))
    }

    fn place(&self, operation: Operation, key: &Key) -> Result<Place> {
        self.directory.form.place(key).map_err(during(operation))
    }

    /// Parts a batch by lock; what has no place fails.
    fn groups<T>(&self, items: impl Iterator<Item = (Key, T)>) -> (Groups<T>, Vec<Failure>) {
        let mut groups = Groups::new();
        let mut failures = Vec::new();
        for (index, (key, item)) in items.enumerate() {
            match self.directory.form.place(&key) {
                Ok(place) => groups.entry(place.lock).or_default().push((index, place, item)),
                Err(error) => failures.push(Failure::new(index, error)),
            }
        }
        (groups, failures)
    }

    /// Does `work` in every directory and adds up what it returns.
    async fn sum_shards(
        &self,
        operation: Operation,
        prefix: &str,
        work: fn(&Directory, &mut Turn, &str, &str) -> Result<u64>,
    ) -> Result<u64> {
        let (shards, _) = self.look(operation, |directory| directory.shards()).await?;
        stream::iter(shards)
            .map(|shard| {
                let prefix = prefix.to_owned();
                self.change(operation, Form::lock(&shard), move |directory, turn| {
                    work(directory, turn, &shard, &prefix)
                })
            })
            .buffer_unordered(PARALLEL)
            .try_fold(0, |sum, count| std::future::ready(Ok(sum + count)))
            .await
    }

    fn walk<'a, T: Item>(&'a self, operation: Operation, prefix: &str) -> BoxStream<'a, Result<T>> {
        let walk = Walk::new(Arc::clone(&self.directory), prefix);
        let pages = stream::unfold(Some(walk), move |walk| async move {
            let mut walk = walk?;
            let page = self
                .look(operation, move |_| {
                    let page = walk.page::<T>();
                    Ok((walk, page))
                })
                .await;
            match page {
                Ok((_, Ok(page))) if page.is_empty() => None,
                Ok((walk, Ok(mut page))) => {
                    let end = page
                        .iter()
                        .position(|item| item.as_ref().is_err_and(|error| !error.concerns_one_entry()));
                    if let Some(end) = end {
                        page.truncate(end + 1);
                    }
                    Some((page, end.is_none().then_some(walk)))
                }
                Ok((_, Err(error))) | Err(error) => Some((vec![Err(error)], None)),
            }
        });
        pages.map(stream::iter).flatten().map(move |item| item.map_err(during(operation))).boxed()
    }
}

fn record(stored: Stored) -> Record {
    Record::at(stored.value, stored.version)
}

fn outcome<T>(operation: Operation, mut failures: Vec<Failure>, total: usize, done: T) -> Result<T> {
    if failures.is_empty() {
        return Ok(done);
    }
    failures.sort_by_key(|failure| failure.index);
    Err(during(operation)(Error::partial(failures, total)))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for FileStorage {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let shared = Capabilities::minimal().with_listing().with_persistence().with_sharing();
        let ours = shared.with_expiry().with_versions(Versions::Unique).with_purge(Purge::Sweep);
        match self.directory.form {
            Form::Binary => ours,
            Form::Json => ours.with_values(Values::JsonText),
            Form::Grammy => {
                shared.with_versions(Versions::Content).with_values(Values::JsonText).with_restricted_keys()
            }
        }
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        let key = key.clone();
        self.look(Operation::Read, move |directory| Ok(directory.read(&key)?.map(record))).await
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.check_expiry(expiry).map_err(during(Operation::Write))?;
        let place = self.place(Operation::Write, key)?;
        let key = key.clone();
        self.change(Operation::Write, place.lock, move |directory, turn| {
            directory.write(turn, &key, &value, expiry)
        })
        .await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let place = self.place(Operation::Delete, key)?;
        let key = key.clone();
        self.change(Operation::Delete, place.lock, move |directory, turn| directory.delete(turn, &key)).await
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        self.check_expiry(expiry).map_err(during(Operation::WriteIf))?;
        let place = self.place(Operation::WriteIf, key)?;
        let key = key.clone();
        self.change(Operation::WriteIf, place.lock, move |directory, turn| {
            directory.write_if(turn, &key, &value, expiry, &condition)
        })
        .await
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        let place = self.place(Operation::DeleteIf, key)?;
        let (key, version) = (key.clone(), version.clone());
        self.change(Operation::DeleteIf, place.lock, move |directory, turn| {
            directory.delete_if(turn, &key, &version)
        })
        .await
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        self.check_has_expiry(Operation::Touch)?;
        self.check_expiry(expiry)?;
        let place = self.place(Operation::Touch, key)?;
        let key = key.clone();
        self.change(Operation::Touch, place.lock, move |directory, turn| directory.touch(turn, &key, expiry))
            .await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        self.check_has_expiry(Operation::Ttl)?;
        let key = key.clone();
        self.look(Operation::Ttl, move |directory| directory.remaining(&key)).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        let key = key.clone();
        self.look(Operation::Contains, move |directory| Ok(directory.remaining(&key)?.is_some())).await
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        let mut records = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(READ_CHUNK) {
            let chunk = chunk.to_vec();
            let read = move |directory: &Arc<Directory>| {
                chunk.iter().map(|key| Ok(directory.read(key)?.map(record))).collect::<Result<Vec<_>>>()
            };
            records.extend(self.look(Operation::ReadMany, read).await?);
        }
        Ok(records)
    }

    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        self.check_open().map_err(during(Operation::WriteMany))?;
        let (mut groups, mut failures) =
            self.groups(writes.iter().map(|write| (write.key.clone(), write.clone())));
        for group in groups.values_mut() {
            group.retain(|(index, _, write)| match self.check_expiry(write.expiry) {
                Ok(()) => true,
                Err(error) => {
                    failures.push(Failure::new(*index, error));
                    false
                }
            });
        }
        let mut groups = stream::iter(groups)
            .map(|(lock, group)| {
                self.change(Operation::WriteMany, lock, move |directory, turn| {
                    Ok(directory.write_group(turn, &group))
                })
            })
            .buffer_unordered(PARALLEL);
        while let Some(failed) = groups.next().await {
            failures.extend(failed?);
        }
        drop(groups);
        outcome(Operation::WriteMany, failures, writes.len(), ())
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        self.check_open().map_err(during(Operation::DeleteMany))?;
        let (groups, mut failures) = self.groups(keys.iter().map(|key| (key.clone(), ())));
        let mut groups = stream::iter(groups)
            .map(|(lock, group)| {
                let group: Vec<_> = group.into_iter().map(|(index, place, ())| (index, place)).collect();
                self.change(Operation::DeleteMany, lock, move |directory, turn| {
                    Ok(directory.delete_group(turn, &group))
                })
            })
            .buffer_unordered(PARALLEL);
        let mut deleted = 0;
        while let Some(group) = groups.next().await {
            let (count, failed) = group?;
            deleted += count;
            failures.extend(failed);
        }
        drop(groups);
        outcome(Operation::DeleteMany, failures, keys.len(), deleted)
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        self.walk::<Key>(Operation::Keys, prefix)
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        self.walk::<Entry>(Operation::Entries, prefix)
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        self.sum_shards(Operation::Clear, prefix, Directory::clear_shard).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        if self.directory.form == Form::Grammy {
            self.check_open().map_err(during(Operation::PurgeExpired))?;
            return Ok(0);
        }
        self.sum_shards(Operation::PurgeExpired, "", Directory::purge_shard).await
    }

    async fn ping(&self) -> Result<()> {
        self.look(Operation::Ping, |directory| directory.home.check()).await
    }

    /// Nothing to do: a write is stored when it is acknowledged.
    async fn flush(&self) -> Result<()> {
        self.check_open().map_err(during(Operation::Flush))
    }

    async fn close(&self) -> Result<()> {
        self.closed.store(true, Ordering::Release);
        if let Some(sweeping) = &self.sweeping {
            sweeping.sweeper.stop();
        }
        self.directory.locks.close().await;
        Ok(())
    }
}

impl fmt::Debug for FileStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileStorage")
            .field("directory", &self.directory.home.root())
            .field("form", &self.directory.form)
            .field("closed", &self.closed.load(Ordering::Relaxed))
            .finish_non_exhaustive()
    }
}

//! A storage in memory whose operations run in the order of a schedule.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use larder_core::{
    Bytes, Condition, DeleteOptions, EntryStream, Error, Expiry, Info, Key, ListOptions, ReadOptions, Record,
    Result, Storage, Store, TouchOptions, Version, Versions, WriteOptions, Written, async_trait,
};
use larder_memory::{Config, MemoryStorage};

/// Each operation is pending once: polling an actor's future runs one operation. Clones are handles to the
/// same entries.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    entries: Store,
    versions: Versions,
    /// Whether operations are pending first.
    directed: Arc<AtomicBool>,
}

impl Stage {
    pub(crate) fn new(versions: Versions) -> Self {
        Self::on(Store::from(MemoryStorage::with(&Config::new().sweep(None)).unwrap()), versions)
    }

    pub(crate) fn on(entries: Store, versions: Versions) -> Self {
        Self { entries, versions, directed: Arc::default() }
    }

    pub(crate) fn direct(&self, directed: bool) {
        self.directed.store(directed, Ordering::Relaxed);
    }

    /// Returns the stored entry directly.
    pub(crate) const fn entries(&self) -> &Store {
        &self.entries
    }

    pub(crate) async fn turn(&self) {
        let mut waited = !self.directed.load(Ordering::Relaxed);
        poll_fn(|context| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn seen(&self, mut record: Record) -> Record {
        match self.versions {
            Versions::Content => record.version = Some(Version::from_content(record.value.clone())),
            Versions::None => record.version = None,
            _ => {}
        }
        record
    }

    /// Translates the condition for the inner store.
    async fn beneath(&self, key: &Key, condition: &Condition) -> Result<Condition> {
        let Condition::At(version) = condition else {
            return Ok(condition.clone());
        };
        if self.versions == Versions::Unique {
            return Ok(condition.clone());
        }
        let record = self.entries.read(key).await?;
        let record = record.filter(|record| Some(&record.value) == version.as_content());
        record.and_then(|record| record.version).map(Condition::At).ok_or_else(Error::conflict)
    }
}

#[async_trait]
impl Storage for Stage {
    fn info(&self) -> Info {
        let mut info = self.entries.info().with_versions(self.versions);
        info.name = "stage";
        info
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        self.turn().await;
        Ok(self.entries.read_with(key, options).await?.map(|record| self.seen(record)))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.turn().await;
        let condition = self.beneath(key, &options.condition).await?;
        let options = options.clone().condition(condition);
        let written = self.entries.write_with(key, value.clone(), &options).await?;
        Ok(match self.versions {
            Versions::None => Written::default(),
            Versions::Content => Written::at(Version::from_content(value)),
            _ => written,
        })
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.turn().await;
        let condition = self.beneath(key, &options.condition).await?;
        self.entries.delete_with(key, &options.clone().condition(condition)).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.turn().await;
        let condition = self.beneath(key, &options.condition).await?;
        self.entries.touch_with(key, expiry, &options.clone().condition(condition)).await
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        self.entries.list(options)
    }
}

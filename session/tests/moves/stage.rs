//! A storage in memory on which a schedule decides who does the next operation.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
};

use larder_core::{
    Bytes, Capabilities, Condition, EntryStream, Error, Expiry, Key, KeyStream, Operation, Record, Result,
    Storage, Version, Versions, async_trait,
};
use larder_memory::MemoryStorage;

/// Each operation waits for its turn once: whoever polls an actor's future lets it do one operation.
/// Clones are handles on the same entries.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    entries: MemoryStorage,
    versions: Versions,
    /// Whether operations wait at all.
    directed: Arc<AtomicBool>,
}

impl Stage {
    pub(crate) fn new(versions: Versions) -> Self {
        Self::on(MemoryStorage::with(&MemoryStorage::builder().sweep_every(None)).unwrap(), versions)
    }

    pub(crate) fn on(entries: MemoryStorage, versions: Versions) -> Self {
        Self { entries, versions, directed: Arc::default() }
    }

    pub(crate) fn direct(&self, directed: bool) {
        self.directed.store(directed, Ordering::Relaxed);
    }

    /// What is stored, past everything.
    pub(crate) const fn entries(&self) -> &MemoryStorage {
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

    fn version(&self, record: Record) -> Record {
        match self.versions {
            Versions::Content => Record::at(record.value.clone(), Version::from_content(record.value)),
            Versions::None => Record::new(record.value),
            _ => record,
        }
    }

    /// The version of the entries beneath that `version` is.
    async fn beneath(&self, key: &Key, version: &Version, operation: Operation) -> Result<Version> {
        if self.versions == Versions::Unique {
            return Ok(version.clone());
        }
        let record = self.entries.read(key).await?;
        record
            .filter(|record| Some(&record.value) == version.as_content())
            .and_then(|record| record.version)
            .ok_or_else(|| Error::conflict().with_adapter("stage").with_operation(operation))
    }
}

#[async_trait]
impl Storage for Stage {
    fn name(&self) -> &'static str {
        "stage"
    }

    fn capabilities(&self) -> Capabilities {
        self.entries.capabilities().with_versions(self.versions)
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.turn().await;
        Ok(self.entries.read(key).await?.map(|record| self.version(record)))
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.turn().await;
        self.entries.write(key, value, expiry).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.turn().await;
        self.entries.delete(key).await
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        if self.versions == Versions::None {
            return Err(Error::unsupported().with_adapter("stage").with_operation(Operation::WriteIf));
        }
        self.turn().await;
        let condition = match condition {
            Condition::Absent => Condition::Absent,
            Condition::At(version) => Condition::At(self.beneath(key, &version, Operation::WriteIf).await?),
        };
        let written = self.entries.write_if(key, value.clone(), expiry, condition).await?;
        Ok(if self.versions == Versions::Unique { written } else { Version::from_content(value) })
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        if self.versions == Versions::None {
            return Err(Error::unsupported().with_adapter("stage").with_operation(Operation::DeleteIf));
        }
        self.turn().await;
        let version = self.beneath(key, version, Operation::DeleteIf).await?;
        self.entries.delete_if(key, &version).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        self.turn().await;
        self.entries.touch(key, expiry).await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        self.turn().await;
        self.entries.ttl(key).await
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        self.entries.keys(prefix)
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        self.entries.entries(prefix)
    }
}

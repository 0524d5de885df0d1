//! A storage in memory, for looking at what a session does with its storage.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use futures_util::{StreamExt, stream};
use larder_core::{
    Bytes, Capabilities, Condition, EntryStream, Error, ErrorKind, Expiry, Key, KeyStream, Operation, Record,
    Result, Storage, Version, Write, async_trait,
};
use larder_memory::MemoryStorage;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

/// Where calls wait until the test lets them go on.
pub(crate) struct Gate {
    arrived: watch::Sender<usize>,
    open: Semaphore,
}

impl Gate {
    fn new() -> Arc<Self> {
        Arc::new(Self { arrived: watch::Sender::new(0), open: Semaphore::new(0) })
    }

    async fn pass(&self) {
        self.arrived.send_modify(|arrived| *arrived += 1);
        self.open.acquire().await.unwrap().forget();
    }

    /// Waits until so many have come.
    pub(crate) async fn arrived(&self, calls: usize) {
        super::soon(self.arrived.subscribe().wait_for(|&arrived| arrived >= calls)).await.unwrap();
    }

    /// So many may go on, now or when they come.
    pub(crate) fn let_through(&self, calls: usize) {
        self.open.add_permits(calls);
    }
}

#[derive(Default)]
struct Control {
    counts: Mutex<HashMap<Operation, usize>>,
    expiries: Mutex<Vec<Expiry>>,
    read_gate: Mutex<Option<Arc<Gate>>>,
    write_gate: Mutex<Option<Arc<Gate>>>,
    failing_reads: Mutex<VecDeque<ErrorKind>>,
    failing_writes: Mutex<VecDeque<ErrorKind>>,
    /// The first items of the next listings of keys.
    failing_keys: Mutex<VecDeque<ErrorKind>>,
    /// What another process does before the next writes.
    others: Mutex<VecDeque<(Key, Option<Bytes>)>>,
}

/// A [`MemoryStorage`] that counts calls, and in which things happen when a test wants them to. Clones
/// are handles on the same one. A "write" here is whatever changes an entry's value: `write`,
/// `write_if`, `delete` and `delete_if`.
#[derive(Clone)]
pub(crate) struct Counting {
    inner: MemoryStorage,
    control: Arc<Control>,
    compares: bool,
    expires: bool,
}

impl Counting {
    pub(crate) fn new() -> Self {
        Self { inner: MemoryStorage::new(), control: Arc::default(), compares: true, expires: true }
    }

    /// A handle on the same entries that cannot compare and swap.
    pub(crate) fn without_compare_and_swap(mut self) -> Self {
        self.compares = false;
        self
    }

    /// A handle on the same entries that knows no time to live.
    pub(crate) fn without_expiry(mut self) -> Self {
        self.expires = false;
        self
    }

    /// The entries, uncounted: another process's way to them.
    pub(crate) fn behind(&self) -> &MemoryStorage {
        &self.inner
    }

    pub(crate) fn count(&self, operation: Operation) -> usize {
        self.control.counts.lock().get(&operation).copied().unwrap_or_default()
    }

    pub(crate) fn reads(&self) -> usize {
        self.count(Operation::Read)
    }

    pub(crate) fn writes(&self) -> usize {
        [Operation::Write, Operation::WriteIf, Operation::Delete, Operation::DeleteIf]
            .into_iter()
            .map(|operation| self.count(operation))
            .sum()
    }

    pub(crate) fn calls(&self) -> usize {
        self.control.counts.lock().values().sum()
    }

    /// Counts anew.
    pub(crate) fn forget_counts(&self) {
        self.control.counts.lock().clear();
        self.control.expiries.lock().clear();
    }

    /// The expiries of all writes and touches, in order.
    pub(crate) fn expiries(&self) -> Vec<Expiry> {
        self.control.expiries.lock().clone()
    }

    /// Reads wait at a gate from now on.
    pub(crate) fn gate_reads(&self) -> Arc<Gate> {
        Arc::clone(self.control.read_gate.lock().insert(Gate::new()))
    }

    /// Writes wait at a gate from now on.
    pub(crate) fn gate_writes(&self) -> Arc<Gate> {
        Arc::clone(self.control.write_gate.lock().insert(Gate::new()))
    }

    /// The next read fails.
    pub(crate) fn fail_read(&self, kind: ErrorKind) {
        self.control.failing_reads.lock().push_back(kind);
    }

    /// The next write fails, and changes nothing.
    pub(crate) fn fail_write(&self, kind: ErrorKind) {
        self.control.failing_writes.lock().push_back(kind);
    }

    /// The next listing of keys begins with such an error.
    pub(crate) fn fail_key(&self, kind: ErrorKind) {
        self.control.failing_keys.lock().push_back(kind);
    }

    /// Another process writes this when the next write is about to be done; told several times, once
    /// before each of as many writes. `None`: it deletes.
    pub(crate) fn overtake(&self, key: &str, value: impl Into<Option<Value>>) {
        let value = value.into().map(|value| Bytes::from(value.to_string()));
        self.control.others.lock().push_back((Key::new(key).unwrap(), value));
    }

    /// Puts bytes there, uncounted.
    pub(crate) async fn put(&self, key: &str, value: impl Into<Bytes>) {
        self.inner.write(&Key::new(key).unwrap(), value.into(), Expiry::Never).await.unwrap();
    }

    pub(crate) async fn put_json(&self, key: &str, value: Value) {
        self.put(key, value.to_string()).await;
    }

    /// What is stored, uncounted.
    pub(crate) async fn record(&self, key: &str) -> Option<Record> {
        self.inner.read(&Key::new(key).unwrap()).await.unwrap()
    }

    pub(crate) async fn text(&self, key: &str) -> Option<String> {
        self.record(key).await.map(|record| String::from_utf8(record.value.to_vec()).unwrap())
    }

    pub(crate) async fn json(&self, key: &str) -> Option<Value> {
        self.record(key).await.map(|record| serde_json::from_slice(&record.value).unwrap())
    }

    fn counted(&self, operation: Operation) {
        *self.control.counts.lock().entry(operation).or_default() += 1;
    }

    async fn reading(&self, operation: Operation) -> Result<()> {
        self.counted(operation);
        let gate = self.control.read_gate.lock().clone();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        fail(&self.control.failing_reads, operation)
    }

    async fn writing(&self, operation: Operation, expiry: Option<Expiry>) -> Result<()> {
        self.counted(operation);
        self.control.expiries.lock().extend(expiry);
        let gate = self.control.write_gate.lock().clone();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        fail(&self.control.failing_writes, operation)?;
        let other = self.control.others.lock().pop_front();
        match other {
            Some((key, Some(value))) => self.inner.write(&key, value, Expiry::Never).await,
            Some((key, None)) => self.inner.delete(&key).await.map(drop),
            None => Ok(()),
        }
    }
}

fn fail(next: &Mutex<VecDeque<ErrorKind>>, operation: Operation) -> Result<()> {
    match next.lock().pop_front() {
        Some(kind) => Err(Error::new(kind, "as the test wants it").with_operation(operation)),
        None => Ok(()),
    }
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counting").finish_non_exhaustive()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Counting {
    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.reading(Operation::Read).await?;
        let record = self.inner.read(key).await?;
        Ok(if self.compares { record } else { record.map(|record| Record::new(record.value)) })
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.writing(Operation::Write, Some(expiry)).await?;
        self.inner.write(key, value, expiry).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.writing(Operation::Delete, None).await?;
        self.inner.delete(key).await
    }

    fn name(&self) -> &'static str {
        "counting"
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = if self.compares {
            self.inner.capabilities()
        } else {
            Capabilities::minimal().with_expiry().with_listing()
        };
        capabilities.expiry &= self.expires;
        capabilities
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        if !self.compares {
            return Err(Error::unsupported().with_adapter(self.name()).with_operation(Operation::WriteIf));
        }
        self.writing(Operation::WriteIf, Some(expiry)).await?;
        self.inner.write_if(key, value, expiry, condition).await
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        if !self.compares {
            return Err(Error::unsupported().with_adapter(self.name()).with_operation(Operation::DeleteIf));
        }
        self.writing(Operation::DeleteIf, None).await?;
        self.inner.delete_if(key, version).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        self.counted(Operation::Touch);
        self.control.expiries.lock().push(expiry);
        self.inner.touch(key, expiry).await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        self.counted(Operation::Ttl);
        if !self.expires {
            return Err(Error::unsupported().with_adapter(self.name()).with_operation(Operation::Ttl));
        }
        self.inner.ttl(key).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.reading(Operation::Contains).await?;
        self.inner.contains(key).await
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        self.reading(Operation::ReadMany).await?;
        self.inner.read_many(keys).await
    }

    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        self.writing(Operation::WriteMany, None).await?;
        self.inner.write_many(writes).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        self.writing(Operation::DeleteMany, None).await?;
        self.inner.delete_many(keys).await
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        self.counted(Operation::Keys);
        let error = fail(&self.control.failing_keys, Operation::Keys).err().map(Err);
        stream::iter(error).chain(self.inner.keys(prefix)).boxed()
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        self.counted(Operation::Entries);
        self.inner.entries(prefix)
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        self.writing(Operation::Clear, None).await?;
        self.inner.clear(prefix).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.counted(Operation::PurgeExpired);
        self.inner.purge_expired().await
    }

    async fn ping(&self) -> Result<()> {
        self.counted(Operation::Ping);
        self.inner.ping().await
    }

    async fn flush(&self) -> Result<()> {
        self.counted(Operation::Flush);
        self.inner.flush().await
    }

    async fn close(&self) -> Result<()> {
        self.counted(Operation::Close);
        self.inner.close().await
    }
}

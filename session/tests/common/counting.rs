//! A storage in memory that counts the operations of sessions.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use larder_core::{
    Applied, Bytes, Change, Condition, DeleteOptions, EntryStream, Error, ErrorKind, Expiry, Info, Key,
    ListOptions, Location, ReadOptions, Record, Result, Storage, Store, TouchOptions, Versions, WriteOptions,
    Written, async_trait,
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};

/// The counted operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Read,
    /// A read of the TTL alone.
    Ttl,
    Write,
    /// With a condition.
    WriteIf,
    Delete,
    /// With a condition.
    DeleteIf,
    Touch,
    ReadMany,
    Apply,
    List,
    Clear,
    PurgeExpired,
    Ping,
    Flush,
    Close,
}

/// A gate at which calls wait until the test opens it.
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

    /// Waits until this many calls have arrived.
    pub(crate) async fn arrived(&self, calls: usize) {
        super::soon(self.arrived.subscribe().wait_for(|&arrived| arrived >= calls)).await.unwrap();
    }

    /// Lets this many calls pass, now or when they arrive.
    pub(crate) fn let_through(&self, calls: usize) {
        self.open.add_permits(calls);
    }
}

#[derive(Default)]
struct Control {
    counts: Mutex<HashMap<Call, usize>>,
    expiries: Mutex<Vec<Expiry>>,
    read_gate: Mutex<Option<Arc<Gate>>>,
    write_gate: Mutex<Option<Arc<Gate>>>,
    failing_reads: Mutex<VecDeque<ErrorKind>>,
    failing_writes: Mutex<VecDeque<ErrorKind>>,
    /// The changes of another process before the next writes.
    others: Mutex<VecDeque<(Key, Option<Bytes>)>>,
}

/// Memory that counts calls, and fails or waits when a test tells it to. Clones are handles to the same
/// storage. A "write" is any change of a value: a write, a deletion or a batch of them.
#[derive(Clone)]
pub(crate) struct Counting {
    inner: Store,
    control: Arc<Control>,
    compares: bool,
    expires: bool,
}

impl Counting {
    pub(crate) fn new() -> Self {
        Self { inner: super::memory(), control: Arc::default(), compares: true, expires: true }
    }

    /// Returns a handle to the same entries without compare-and-swap.
    pub(crate) fn without_compare_and_swap(mut self) -> Self {
        self.compares = false;
        self
    }

    /// Returns a handle to the same entries without expiry.
    pub(crate) fn without_expiry(mut self) -> Self {
        self.expires = false;
        self
    }

    /// Returns the entries for another process, without counting.
    pub(crate) fn behind(&self) -> &Store {
        &self.inner
    }

    pub(crate) fn count(&self, call: Call) -> usize {
        self.control.counts.lock().get(&call).copied().unwrap_or_default()
    }

    pub(crate) fn reads(&self) -> usize {
        self.count(Call::Read)
    }

    pub(crate) fn writes(&self) -> usize {
        let calls = [Call::Write, Call::WriteIf, Call::Delete, Call::DeleteIf, Call::Apply];
        calls.map(|call| self.count(call)).iter().sum()
    }

    pub(crate) fn calls(&self) -> usize {
        self.control.counts.lock().values().sum()
    }

    /// Resets the counts.
    pub(crate) fn forget_counts(&self) {
        self.control.counts.lock().clear();
        self.control.expiries.lock().clear();
    }

    /// The expiries of all writes and touches, in order.
    pub(crate) fn expiries(&self) -> Vec<Expiry> {
        self.control.expiries.lock().clone()
    }

    /// From now on, reads wait at the gate.
    pub(crate) fn gate_reads(&self) -> Arc<Gate> {
        Arc::clone(self.control.read_gate.lock().insert(Gate::new()))
    }

    /// From now on, writes wait at the gate.
    pub(crate) fn gate_writes(&self) -> Arc<Gate> {
        Arc::clone(self.control.write_gate.lock().insert(Gate::new()))
    }

    /// Makes the next read fail.
    pub(crate) fn fail_read(&self, kind: ErrorKind) {
        self.control.failing_reads.lock().push_back(kind);
    }

    /// Makes the next write fail without a change.
    pub(crate) fn fail_write(&self, kind: ErrorKind) {
        self.control.failing_writes.lock().push_back(kind);
    }

    /// Another process writes this just before the next write, or deletes with `None`. Several calls apply to
    /// as many writes, in order.
    pub(crate) fn overtake(&self, key: &str, value: impl Into<Option<Value>>) {
        let value = value.into().map(|value| Bytes::from(value.to_string()));
        self.control.others.lock().push_back((Key::new(key).unwrap(), value));
    }

    /// Stores bytes, without counting.
    pub(crate) async fn put(&self, key: &str, value: impl Into<Bytes>) {
        self.inner.write(key, value).await.unwrap();
    }

    pub(crate) async fn put_json(&self, key: &str, value: Value) {
        self.put(key, value.to_string()).await;
    }

    /// Returns the stored entry, without counting.
    pub(crate) async fn record(&self, key: &str) -> Option<Record> {
        self.inner.read(key).await.unwrap()
    }

    pub(crate) async fn text(&self, key: &str) -> Option<String> {
        self.record(key).await.map(|record| String::from_utf8(record.value.to_vec()).unwrap())
    }

    pub(crate) async fn json(&self, key: &str) -> Option<Value> {
        self.record(key).await.map(|record| serde_json::from_slice(&record.value).unwrap())
    }

    fn counted(&self, call: Call) {
        *self.control.counts.lock().entry(call).or_default() += 1;
    }

    async fn reading(&self, call: Call) -> Result<()> {
        self.counted(call);
        let gate = self.control.read_gate.lock().clone();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        fail(&self.control.failing_reads)
    }

    async fn writing(&self, call: Call, expiry: Option<Expiry>) -> Result<()> {
        self.counted(call);
        self.control.expiries.lock().extend(expiry);
        let gate = self.control.write_gate.lock().clone();
        if let Some(gate) = gate {
            gate.pass().await;
        }
        fail(&self.control.failing_writes)?;
        let other = self.control.others.lock().pop_front();
        match other {
            Some((key, Some(value))) => self.inner.write(&key, value).await.map(drop),
            Some((key, None)) => self.inner.delete(&key).await.map(drop),
            None => Ok(()),
        }
    }

    fn seen(&self, mut record: Record) -> Record {
        record.version = record.version.filter(|_| self.compares);
        record
    }
}

fn fail(next: &Mutex<VecDeque<ErrorKind>>) -> Result<()> {
    next.lock().pop_front().map_or(Ok(()), |kind| Err(Error::new(kind, "as the test wants it")))
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Counting {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        if options.ttl && !options.value {
            self.counted(Call::Ttl);
        } else {
            self.reading(Call::Read).await?;
        }
        Ok(self.inner.read_with(key, options).await?.map(|record| self.seen(record)))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let conditional = options.condition != Condition::Any;
        let call = if conditional { Call::WriteIf } else { Call::Write };
        self.writing(call, Some(options.expiry)).await?;
        let written = self.inner.write_with(key, value, options).await?;
        Ok(if self.compares { written } else { Written::default() })
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let conditional = options.condition != Condition::Any;
        self.writing(if conditional { Call::DeleteIf } else { Call::Delete }, None).await?;
        self.inner.delete_with(key, options).await
    }

    fn info(&self) -> Info {
        let mut info = *self.inner.info();
        info.name = "counting";
        info.expiry = self.expires;
        if !self.compares {
            info.versions = Versions::None;
        }
        info
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.counted(Call::Touch);
        self.control.expiries.lock().push(expiry);
        self.inner.touch_with(key, expiry, options).await
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        self.counted(Call::ReadMany);
        self.inner.read_many(keys, options).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        match self.writing(Call::Apply, None).await {
            Ok(()) => self.inner.apply(changes).await,
            Err(error) => changes.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        self.counted(Call::List);
        self.inner.list(options)
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        self.writing(Call::Clear, None).await?;
        self.inner.clear(prefix).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.counted(Call::PurgeExpired);
        self.inner.purge_expired().await
    }

    async fn ping(&self) -> Result<()> {
        self.counted(Call::Ping);
        self.inner.ping().await
    }

    async fn location(&self) -> Result<Option<Location>> {
        self.inner.location().await
    }

    async fn flush(&self) -> Result<()> {
        self.counted(Call::Flush);
        self.inner.flush().await
    }

    async fn close(&self) -> Result<()> {
        self.counted(Call::Close);
        self.inner.close().await
    }
}

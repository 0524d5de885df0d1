//! A storage whose every step the test decides.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
};

use larder_core::{
    Action, Applied, Bytes, Change, Condition, DeleteOptions, Error, ErrorKind, Expiry, Info, Key,
    ReadOptions, Record, Result, Storage, TouchOptions, Version, Versions, WriteOptions, Written,
    async_trait,
};
use tokio::sync::{Semaphore, watch};

/// What happens when the storage is handed a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is refused; others in its batch are not.
    Refuse,
    /// The store is gone, for the whole batch.
    Unavailable,
    /// The storage panics.
    Panic,
}

/// Calls that change something wait for a permit each, and are written down as they come.
#[derive(Clone, Debug)]
pub(crate) struct Probe(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    yields: bool,
    gate: Semaphore,
    entries: Mutex<BTreeMap<Key, Bytes>>,
    history: Mutex<HashMap<Key, Vec<Bytes>>>,
    log: Mutex<Vec<String>>,
    faults: Mutex<HashMap<Bytes, Fault>>,
    writing: Mutex<HashSet<Key>>,
    started: watch::Sender<usize>,
    closed: Mutex<bool>,
}

impl Probe {
    /// Every call that changes something waits until the test lets it go on.
    pub(crate) fn gated() -> Self {
        Self::with_permits(0)
    }

    pub(crate) fn open() -> Self {
        Self::with_permits(Semaphore::MAX_PERMITS)
    }

    /// Open, but every call takes a moment, in which others get to run.
    pub(crate) fn busy() -> Self {
        Self::make(Semaphore::MAX_PERMITS, true)
    }

    fn with_permits(permits: usize) -> Self {
        Self::make(permits, false)
    }

    fn make(permits: usize, yields: bool) -> Self {
        Self(Arc::new(Inner {
            yields,
            gate: Semaphore::new(permits),
            entries: Mutex::default(),
            history: Mutex::default(),
            log: Mutex::default(),
            faults: Mutex::default(),
            writing: Mutex::default(),
            started: watch::channel(0).0,
            closed: Mutex::default(),
        }))
    }

    pub(crate) fn let_go(&self, calls: usize) {
        self.0.gate.add_permits(calls);
    }

    pub(crate) fn let_all_go(&self) {
        self.let_go(1_000);
    }

    /// Waits until this many calls that change something have begun.
    pub(crate) async fn started(&self, calls: usize) {
        let mut started = self.0.started.subscribe();
        started.wait_for(|count| *count >= calls).await.unwrap();
    }

    /// A write of this value fails.
    pub(crate) fn fault(&self, value: &'static str, fault: Fault) {
        self.0.faults.lock().unwrap().insert(Bytes::from_static(value.as_bytes()), fault);
    }

    /// The calls so far, such as `apply a=1 b=2`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.0.log.lock().unwrap().clone()
    }

    pub(crate) fn value(&self, key: &str) -> Option<Bytes> {
        self.0.entries.lock().unwrap().get(key).cloned()
    }

    /// Everything that was ever written under `key`, in order.
    pub(crate) fn history(&self, key: &Key) -> Vec<Bytes> {
        self.0.history.lock().unwrap().get(key).cloned().unwrap_or_default()
    }

    /// How many handles on the storage there are.
    pub(crate) fn holders(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    async fn begin(&self, call: String) -> Result<()> {
        if *self.0.closed.lock().unwrap() {
            return Err(Error::new(ErrorKind::Closed, "closed"));
        }
        self.0.log.lock().unwrap().push(call);
        self.0.started.send_modify(|count| *count += 1);
        if self.0.yields {
            tokio::task::yield_now().await;
        }
        self.0.gate.acquire().await.unwrap().forget();
        Ok(())
    }

    fn fault_of(&self, change: &Change) -> Option<Fault> {
        let Action::Put(value, _) = &change.action else { return None };
        self.0.faults.lock().unwrap().get(value).copied()
    }

    fn apply_one(&self, change: &Change) -> Applied {
        let mut entries = self.0.entries.lock().unwrap();
        match &change.action {
            Action::Put(value, _) => {
                entries.insert(change.key.clone(), value.clone());
                self.0.history.lock().unwrap().entry(change.key.clone()).or_default().push(value.clone());
                Applied::Put(Written::at(Version::unique()))
            }
            Action::Delete => Applied::Deleted(entries.remove(&change.key).is_some()),
            Action::Touch(_) => Applied::Touched(entries.contains_key(&change.key)),
        }
    }
}

/// Keys that are being written, so that two writers of one key are noticed.
struct Writing<'a>(&'a Probe, Vec<Key>);

impl<'a> Writing<'a> {
    fn begin(probe: &'a Probe, changes: &[Change]) -> Self {
        let plain =
            |change: &&Change| matches!(change.action, Action::Put(..)) && change.condition == Condition::Any;
        let keys: Vec<_> = changes.iter().filter(plain).map(|change| change.key.clone()).collect();
        let mut writing = probe.0.writing.lock().unwrap();
        for key in &keys {
            assert!(writing.insert(key.clone()), "two writers of one key, or a key twice in a batch");
        }
        drop(writing);
        Self(probe, keys)
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut writing = self.0.0.writing.lock().unwrap();
        for key in &self.1 {
            writing.remove(key);
        }
    }
}

fn describe(call: &str, changes: &[Change]) -> String {
    let mut text = call.to_owned();
    for change in changes {
        text += &match &change.action {
            Action::Put(value, _) => format!(" {}={}", change.key, String::from_utf8_lossy(value)),
            Action::Delete => format!(" -{}", change.key),
            Action::Touch(_) => format!(" ~{}", change.key),
        };
    }
    text
}

fn bad() -> Error {
    Error::new(ErrorKind::TooLarge, "bad")
}

fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "gone").with_source("the cable")
}

#[async_trait]
impl Storage for Probe {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        if options.touch.is_some() {
            self.begin(format!("read_and_touch {key}")).await?;
        }
        Ok(self.value(key.as_str()).map(Record::new))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let changes = [Change::put(key.clone(), value, options.expiry).on(options.condition.clone())];
        if options.condition != Condition::Any {
            self.begin(format!("write_if {key}")).await?;
            return Ok(Written::at(Version::unique()));
        }
        let _writing = Writing::begin(self, &changes);
        self.begin(describe("write", &changes)).await?;
        match self.fault_of(&changes[0]) {
            Some(Fault::Refuse) => return Err(bad()),
            Some(Fault::Unavailable) => return Err(unavailable()),
            Some(Fault::Panic) => panic!("as the test asked"),
            None => self.apply_one(&changes[0]),
        };
        Ok(Written::at(Version::unique()))
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let distinct: HashSet<_> = changes.iter().map(|change| &change.key).collect();
        // Only the batches of the lanes must not name a key twice.
        let _writing = (distinct.len() == changes.len()).then(|| Writing::begin(self, &changes));
        let all = |error: Error| changes.iter().map(|_| Err(error.clone())).collect();
        if let Err(error) = self.begin(describe("apply", &changes)).await {
            return all(error);
        }
        let faults: Vec<_> = changes.iter().map(|change| self.fault_of(change)).collect();
        if faults.contains(&Some(Fault::Panic)) {
            panic!("as the test asked");
        }
        if faults.contains(&Some(Fault::Unavailable)) {
            return all(unavailable());
        }
        let result = |(change, fault): (&Change, Option<Fault>)| match fault {
            Some(_) => Err(bad()),
            None => Ok(self.apply_one(change)),
        };
        changes.iter().zip(faults).map(result).collect()
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        if options.condition != Condition::Any {
            self.begin(format!("delete_if {key}")).await?;
            return Ok(true);
        }
        self.begin(format!("delete {key}")).await?;
        Ok(self.0.entries.lock().unwrap().remove(key).is_some())
    }

    fn info(&self) -> Info {
        Info::minimal("probe").with_expiry().with_versions(Versions::Unique).with_listing()
    }

    async fn touch(&self, key: &Key, _: Expiry, _: &TouchOptions) -> Result<bool> {
        self.begin(format!("touch {key}")).await?;
        Ok(true)
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        self.begin(format!("clear {prefix}")).await?;
        self.0.entries.lock().unwrap().retain(|key, _| !key.as_str().starts_with(prefix));
        Ok(0)
    }

    async fn close(&self) -> Result<()> {
        *self.0.closed.lock().unwrap() = true;
        self.0.log.lock().unwrap().push("close".to_owned());
        Ok(())
    }
}

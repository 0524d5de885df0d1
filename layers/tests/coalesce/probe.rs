//! A storage whose every step the test decides.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
};

use larder_core::{
    Bytes, Condition, Error, ErrorKind, Expiry, Failure, Key, Record, Result, Storage, Version, Write,
    async_trait,
};
use tokio::sync::{Semaphore, watch};

/// What happens when the storage is handed a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A batch fails as [`ErrorKind::Partial`], naming it; alone it is refused.
    Refuse,
    /// A batch fails as a whole; alone it is refused.
    RefuseWhole,
    /// The store is not there.
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

    /// Whoever is handed this value fails.
    pub(crate) fn fault(&self, value: &'static str, fault: Fault) {
        self.0.faults.lock().unwrap().insert(Bytes::from_static(value.as_bytes()), fault);
    }

    /// The calls so far, such as `write_many a=1 b=2`.
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

    /// How many hold on to the storage.
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

    fn fault_of(&self, write: &Write) -> Option<Fault> {
        self.0.faults.lock().unwrap().get(&write.value).copied()
    }

    fn apply(&self, write: &Write) {
        self.0.entries.lock().unwrap().insert(write.key.clone(), write.value.clone());
        self.0.history.lock().unwrap().entry(write.key.clone()).or_default().push(write.value.clone());
    }
}

/// Keys that are being written, so that two writers of one key are noticed.
struct Writing<'a>(&'a Probe, Vec<Key>);

impl<'a> Writing<'a> {
    fn begin(probe: &'a Probe, writes: &[Write]) -> Self {
        let keys: Vec<_> = writes.iter().map(|write| write.key.clone()).collect();
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

fn describe(call: &str, writes: &[Write]) -> String {
    let mut text = call.to_owned();
    for write in writes {
        text += &format!(" {}={}", write.key, String::from_utf8_lossy(&write.value));
    }
    text
}

fn unavailable() -> Error {
    Error::new(ErrorKind::Unavailable, "gone").with_source("the cable")
}

#[async_trait]
impl Storage for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        Ok(self.value(key.as_str()).map(Record::new))
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        let writes = [Write::new(key.clone(), value, expiry)];
        let _writing = Writing::begin(self, &writes);
        self.begin(describe("write", &writes)).await?;
        match self.fault_of(&writes[0]) {
            Some(Fault::Refuse | Fault::RefuseWhole) => return Err(Error::new(ErrorKind::TooLarge, "bad")),
            Some(Fault::Unavailable) => return Err(unavailable()),
            Some(Fault::Panic) => panic!("as the test asked"),
            None => self.apply(&writes[0]),
        }
        Ok(())
    }

    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        let _writing = Writing::begin(self, writes);
        self.begin(describe("write_many", writes)).await?;
        let faults: Vec<_> = writes.iter().map(|write| self.fault_of(write)).collect();
        if faults.contains(&Some(Fault::Panic)) {
            panic!("as the test asked");
        }
        if faults.contains(&Some(Fault::Unavailable)) {
            return Err(unavailable());
        }
        if faults.contains(&Some(Fault::RefuseWhole)) {
            return Err(Error::new(ErrorKind::Other, "one of them is bad"));
        }
        let mut failures = Vec::new();
        for (index, write) in writes.iter().enumerate() {
            match faults[index] {
                Some(_) => failures.push(Failure::new(index, Error::new(ErrorKind::TooLarge, "bad"))),
                None => self.apply(write),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(Error::partial(failures, writes.len())) }
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.begin(format!("delete {key}")).await?;
        Ok(self.0.entries.lock().unwrap().remove(key).is_some())
    }

    async fn write_if(&self, key: &Key, _: Bytes, _: Expiry, _: Condition) -> Result<Version> {
        self.begin(format!("write_if {key}")).await?;
        Ok(Version::unique())
    }

    async fn delete_if(&self, key: &Key, _: &Version) -> Result<()> {
        self.begin(format!("delete_if {key}")).await
    }

    async fn touch(&self, key: &Key, _: Expiry) -> Result<bool> {
        self.begin(format!("touch {key}")).await?;
        Ok(true)
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        self.begin("delete_many".to_owned()).await?;
        self.0.entries.lock().unwrap().retain(|key, _| !keys.contains(key));
        Ok(keys.len() as u64)
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
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

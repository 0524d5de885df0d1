//! A storage whose steps the test controls.

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

/// The effect of writing a certain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The change is rejected. Other changes in its batch are not affected.
    Reject,
    /// The store is gone, for the whole batch.
    Unavailable,
    /// The storage panics.
    Panic,
}

/// Calls that change entries are logged, and each waits for a permit.
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
    changing: Mutex<HashSet<Key>>,
    started: watch::Sender<usize>,
    closed: Mutex<bool>,
}

impl Probe {
    /// Every call that changes entries waits until the test releases it.
    pub(crate) fn gated() -> Self {
        Self::with_permits(0)
    }

    pub(crate) fn open() -> Self {
        Self::with_permits(Semaphore::MAX_PERMITS)
    }

    /// Open, but every call yields once to other tasks.
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
            changing: Mutex::default(),
            started: watch::channel(0).0,
            closed: Mutex::default(),
        }))
    }

    pub(crate) fn release(&self, calls: usize) {
        self.0.gate.add_permits(calls);
    }

    pub(crate) fn release_all(&self) {
        self.release(1_000);
    }

    /// Waits until this many calls that change entries have begun.
    pub(crate) async fn started(&self, calls: usize) {
        let mut started = self.0.started.subscribe();
        started.wait_for(|count| *count >= calls).await.unwrap();
    }

    /// Lets a write of this value fail.
    pub(crate) fn fault(&self, value: &'static str, fault: Fault) {
        self.0.faults.lock().unwrap().insert(Bytes::from_static(value.as_bytes()), fault);
    }

    /// Returns the calls so far, such as `apply a=1 b=2`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.0.log.lock().unwrap().clone()
    }

    pub(crate) fn value(&self, key: &str) -> Option<Bytes> {
        self.0.entries.lock().unwrap().get(key).cloned()
    }

    /// Returns all values that were written under `key`, in order.
    pub(crate) fn history(&self, key: &Key) -> Vec<Bytes> {
        self.0.history.lock().unwrap().get(key).cloned().unwrap_or_default()
    }

    /// Returns the number of handles on the storage.
    pub(crate) fn handles(&self) -> usize {
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

    async fn change(&self, call: &str, change: Change) -> Result<Applied> {
        self.change_all(call, vec![change]).await.remove(0)
    }

    async fn change_all(&self, call: &str, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let _changing = Changing::begin(self, &changes);
        let all = |error: Error| changes.iter().map(|_| Err(error.clone())).collect();
        if let Err(error) = self.begin(describe(call, &changes)).await {
            return all(error);
        }
        let faults: Vec<_> = changes.iter().map(|change| self.fault_of(change)).collect();
        if faults.contains(&Some(Fault::Panic)) {
            panic!("planted panic");
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

/// The keys that a call is changing. Detects two calls that change one key at the same time.
struct Changing<'a>(&'a Probe, HashSet<Key>);

impl<'a> Changing<'a> {
    fn begin(probe: &'a Probe, changes: &[Change]) -> Self {
        let keys: HashSet<Key> = changes.iter().map(|change| change.key.clone()).collect();
        let mut changing = probe.0.changing.lock().unwrap();
        for key in &keys {
            assert!(changing.insert(key.clone()), "two calls change one key at the same time");
        }
        drop(changing);
        Self(probe, keys)
    }
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        self.0.0.changing.lock().unwrap().retain(|key| !self.1.contains(key));
    }
}

/// Returns a text such as `apply a=1 -b ~c`. A question mark stands for a condition.
fn describe(call: &str, changes: &[Change]) -> String {
    let mut text = call.to_owned();
    for change in changes {
        text += match change.condition {
            Condition::Any => " ",
            _ => " ?",
        };
        text += &match &change.action {
            Action::Put(value, _) => format!("{}={}", change.key, String::from_utf8_lossy(value)),
            Action::Delete => format!("-{}", change.key),
            Action::Touch(_) => format!("~{}", change.key),
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
    async fn read(&self, key: &Key, _: &ReadOptions) -> Result<Option<Record>> {
        Ok(self.value(key.as_str()).map(Record::new))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let change = Change::put(key.clone(), value, options.expiry).on(options.condition.clone());
        self.change("write", change).await.map(Applied::written)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let change = Change::delete(key.clone()).on(options.condition.clone());
        self.change("delete", change).await.map(|applied| applied.existed())
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        if options.touch.is_some() {
            let touches: Vec<_> = keys.iter().map(|key| Change::touch(key.clone(), Expiry::Never)).collect();
            let _changing = Changing::begin(self, &touches);
            self.begin(describe("read", &touches)).await.unwrap();
        }
        keys.iter().map(|key| Ok(self.value(key.as_str()).map(Record::new))).collect()
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        self.change_all("apply", changes).await
    }

    fn info(&self) -> Info {
        Info::minimal("probe").with_expiry().with_versions(Versions::Unique).with_listing()
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let change = Change::touch(key.clone(), expiry).on(options.condition.clone());
        self.change("touch", change).await.map(|applied| applied.existed())
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

//! A storage that records its calls.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use futures_util::{StreamExt, stream};
use larder_core::{
    Action, Applied, Bytes, Change, Condition, DeleteOptions, Entry, EntryStream, Error, ErrorKind, Expiry,
    Info, Key, ListOptions, ReadOptions, Record, Result, Storage, Store, TouchOptions, Version, WriteOptions,
    Written, async_trait,
};

pub(crate) fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

/// Stores values, and records its calls. Conditions on versions always hold.
pub(crate) struct Recorder {
    info: Info,
    calls: Mutex<Vec<String>>,
    values: Mutex<BTreeMap<Key, Bytes>>,
    failure: Mutex<Option<(usize, ErrorKind)>>,
    in_listing: Mutex<Option<(usize, ErrorKind)>>,
    /// Batches return one result too few.
    pub(crate) short: AtomicBool,
    /// Records do not contain their remaining time. Otherwise they do, even if the caller did not ask for it.
    pub(crate) forgets_ttl: AtomicBool,
    versions: AtomicU64,
    closes: Mutex<Option<Store>>,
}

impl Recorder {
    pub(crate) fn new(info: Info) -> Self {
        Self {
            info,
            calls: Mutex::default(),
            values: Mutex::default(),
            failure: Mutex::default(),
            in_listing: Mutex::default(),
            short: AtomicBool::default(),
            forgets_ttl: AtomicBool::default(),
            versions: AtomicU64::default(),
            closes: Mutex::default(),
        }
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn put(&self, name: &str) {
        self.values.lock().unwrap().insert(key(name), Bytes::from_static(b"v"));
    }

    pub(crate) fn fail(&self, kind: ErrorKind) {
        self.fail_after(0, kind);
    }

    /// Fails every call after the next `calls` calls.
    pub(crate) fn fail_after(&self, calls: usize, kind: ErrorKind) {
        let done = self.calls.lock().unwrap().len();
        *self.failure.lock().unwrap() = Some((done + calls, kind));
    }

    pub(crate) fn succeed(&self) {
        *self.failure.lock().unwrap() = None;
    }

    pub(crate) fn fail_in_listing(&self, place: usize, kind: ErrorKind) {
        *self.in_listing.lock().unwrap() = Some((place, kind));
    }

    /// Closes `store` during the next read.
    pub(crate) fn close_before_answering(&self, store: Store) {
        *self.closes.lock().unwrap() = Some(store);
    }

    fn call(&self, call: String) -> Result<()> {
        let mut calls = self.calls.lock().unwrap();
        calls.push(call);
        match *self.failure.lock().unwrap() {
            Some((after, kind)) if calls.len() > after => Err(Error::new(kind, "planted failure")),
            _ => Ok(()),
        }
    }

    fn record(&self, value: Bytes) -> Record {
        let record = Record::new(value);
        if self.forgets_ttl.load(Ordering::Relaxed) { record } else { record.expires(Expiry::Never) }
    }

    fn change(&self, change: &Change) -> Applied {
        let mut values = self.values.lock().unwrap();
        match &change.action {
            Action::Put(value, _) => {
                values.insert(change.key.clone(), value.clone());
                Applied::Put(Written::at(Version::from_token(self.versions.fetch_add(1, Ordering::Relaxed))))
            }
            Action::Delete => Applied::Deleted(values.remove(&change.key).is_some()),
            Action::Touch(_) => Applied::Touched(values.contains_key(&change.key)),
        }
    }
}

#[async_trait]
impl Storage for Recorder {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let ReadOptions { value, ttl, touch, .. } = options;
        self.call(format!("read {key} value={value} ttl={ttl} touch={touch:?}"))?;
        let closes = self.closes.lock().unwrap().take();
        if let Some(store) = closes {
            store.close().await?;
        }
        let value = self.values.lock().unwrap().get(key).cloned();
        Ok(value.map(|value| self.record(value)))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.call(format!("write {key} {:?} {:?}", options.expiry, options.condition))?;
        match self.change(&Change::put(key.clone(), value, options.expiry)) {
            Applied::Put(written) => Ok(written),
            other => panic!("{other:?}"),
        }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.call(format!("delete {key} {:?}", options.condition))?;
        assert_ne!(options.condition, Condition::Absent);
        Ok(self.change(&Change::delete(key.clone())) == Applied::Deleted(true))
    }

    fn info(&self) -> Info {
        self.info
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.call(format!("touch {key} {expiry:?} {:?}", options.condition))?;
        assert_ne!(options.condition, Condition::Absent);
        Ok(self.change(&Change::touch(key.clone(), expiry)) == Applied::Touched(true))
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let kept = keys.len() - usize::from(self.short.load(Ordering::Relaxed));
        let mut results = Vec::new();
        for key in &keys[..kept] {
            results.push(self.read(key, options).await);
        }
        results
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let names: Vec<_> = changes.iter().map(|change| change.key.as_str()).collect();
        if let Err(error) = self.call(format!("apply {}", names.join(" "))) {
            return changes.iter().map(|_| Err(error.clone())).collect();
        }
        let short = usize::from(self.short.load(Ordering::Relaxed));
        changes.iter().skip(short).map(|change| Ok(self.change(change))).collect()
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        if let Err(error) = self.call(format!("list {}", options.prefix)) {
            return stream::iter([Err(error)]).boxed();
        }
        let values = self.values.lock().unwrap().clone();
        let mut entries: Vec<Result<Entry>> = values
            .into_iter()
            .filter(|(key, _)| key.as_str().starts_with(&options.prefix))
            .filter(|(key, _)| options.start_after.as_ref().is_none_or(|after| key > after))
            .map(|(key, value)| {
                Ok(if options.values { Entry::new(key, self.record(value)) } else { Entry::key(key) })
            })
            .collect();
        if let Some((place, kind)) = *self.in_listing.lock().unwrap() {
            entries.insert(place, Err(Error::new(kind, "damaged")));
        }
        stream::iter(entries).boxed()
    }

    async fn close(&self) -> Result<()> {
        self.call("close".to_owned())
    }

    async fn ping(&self) -> Result<()> {
        self.call("ping".to_owned())
    }
}

/// The three required methods of a recorder. The other methods are the trait's defaults.
pub(crate) struct Minimal(pub(crate) Arc<Recorder>);

#[async_trait]
impl Storage for Minimal {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        self.0.read(key, options).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.0.write(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.0.delete(key, options).await
    }
}

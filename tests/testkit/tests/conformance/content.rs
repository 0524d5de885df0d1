//! A storage with content versions, JSON values, restricted keys and repeating listings, as in the layouts of other
//! programs.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use futures_util::{StreamExt, stream};
use larder_core::{
    Bytes, DeleteOptions, Entry, EntryStream, Error, ErrorKind, Expiry, Info, Key, ListOptions, ReadOptions,
    Record, Result, Storage, Values, Version, Versions, WriteOptions, Written, async_trait,
};

const INFO: Info = Info::minimal("content")
    .with_versions(Versions::Content)
    .with_repeating_listing()
    .with_values(Values::Json)
    .with_restricted_keys()
    .with_max_value(1 << 20);

#[derive(Default)]
pub(crate) struct Content {
    entries: Mutex<BTreeMap<Key, Bytes>>,
}

impl Content {
    /// Runs `act` on the entries, unless the key is rejected.
    fn with<T>(&self, key: &Key, act: impl FnOnce(&mut BTreeMap<Key, Bytes>) -> Result<T>) -> Result<T> {
        if key.as_str().contains(['/', '\\']) {
            return Err(Error::new(ErrorKind::InvalidKey, "the key contains a slash"));
        }
        act(&mut self.entries.lock().unwrap())
    }
}

fn json(value: &Bytes) -> Result<Bytes> {
    let parsed: serde_json::Result<serde_json::Value> = serde_json::from_slice(value);
    match parsed {
        Ok(value) => Ok(value.to_string().into()),
        Err(_) => Err(Error::new(ErrorKind::InvalidValue, "not JSON")),
    }
}

fn at(value: &Bytes) -> Version {
    Version::from_content(value.clone())
}

fn record(value: &Bytes) -> Record {
    Record::at(value.clone(), at(value)).expires(Expiry::Never)
}

#[async_trait]
impl Storage for Content {
    fn info(&self) -> Info {
        INFO
    }

    async fn read(&self, key: &Key, _: &ReadOptions) -> Result<Option<Record>> {
        self.with(key, |entries| Ok(entries.get(key).map(record)))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.with(key, |entries| {
            let value = json(&value)?;
            if !options.condition.holds(entries.get(key).map(at).as_ref()) {
                return Err(Error::conflict());
            }
            entries.insert(key.clone(), value.clone());
            Ok(Written::at(at(&value)))
        })
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.with(key, |entries| {
            if !options.condition.holds(entries.get(key).map(at).as_ref()) {
                return Err(Error::conflict());
            }
            Ok(entries.remove(key).is_some())
        })
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        let entries = self.entries.lock().unwrap().clone();
        let prefix = options.prefix.as_str();
        let found = entries.iter().filter(|(key, _)| key.as_str().starts_with(prefix));
        let entry = |(key, value): (&Key, &Bytes)| {
            if options.values { Entry::new(key.clone(), record(value)) } else { Entry::key(key.clone()) }
        };
        let found: Vec<Entry> = found.map(entry).collect();
        // Repeats every third entry.
        let again: Vec<Entry> = found.iter().step_by(3).cloned().collect();
        stream::iter(found.into_iter().chain(again).map(Ok)).boxed()
    }
}

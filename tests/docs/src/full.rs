//! The same adapter with everything that its store can do: a sorted map behind a lock.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use larder_core::{
    Bytes, Condition, DeleteOptions, Entry, EntryStream, Error, Expiry, Info, Key, ListOptions, Purge,
    ReadOptions, Record, Result, Storage, Store, TouchOptions, Version, Versions, WriteOptions, Written,
    async_trait, clock::unix_millis,
};
use larder_kit::{Pager, pages};

const INFO: Info = Info::minimal("shelf")
    .with_expiry()
    .with_purge(Purge::Sweep)
    .with_versions(Versions::Unique)
    .with_ordered_listing();

/// How many entries a listing takes from the map at a time.
const PAGE: usize = 256;

/// Entries in a sorted map.
#[derive(Default)]
pub struct Shelf {
    entries: Mutex<BTreeMap<Key, Stored>>,
}

struct Stored {
    value: Bytes,
    version: Version,
    deadline: Option<i64>,
}

impl Stored {
    fn new(value: &Bytes, expiry: Expiry) -> Self {
        Self {
            value: Bytes::copy_from_slice(value),
            version: Version::unique(),
            deadline: expiry.deadline(unix_millis()),
        }
    }

    /// The time that is left; `None` once there is none.
    fn left(&self) -> Option<Expiry> {
        Expiry::until(self.deadline, unix_millis())
    }

    /// The record as of now, unless the entry has expired.
    fn record(&self) -> Option<Record> {
        let record = Record::at(self.value.clone(), self.version.clone());
        Some(record.expires(self.left()?))
    }
}

/// The entry under `key`, unless it has expired, if `condition` holds.
fn live<'a>(
    entries: &'a mut BTreeMap<Key, Stored>,
    key: &Key,
    condition: &Condition,
) -> Result<Option<&'a mut Stored>> {
    let stored = entries.get_mut(key).filter(|stored| stored.left().is_some());
    if condition.holds(stored.as_ref().map(|stored| &stored.version)) {
        Ok(stored)
    } else {
        Err(Error::conflict())
    }
}

impl Shelf {
    /// Opens an empty shelf.
    #[must_use]
    pub fn open() -> Store {
        Store::from(Self::default())
    }

    fn entries(&self) -> MutexGuard<'_, BTreeMap<Key, Stored>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Storage for Shelf {
    fn info(&self) -> Info {
        INFO
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let mut entries = self.entries();
        let Some(stored) = live(&mut entries, key, &Condition::Any)? else { return Ok(None) };
        if let Some(expiry) = options.touch {
            stored.deadline = expiry.deadline(unix_millis());
        }
        Ok(stored.record())
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let mut entries = self.entries();
        live(&mut entries, key, &options.condition)?;
        let stored = Stored::new(&value, options.expiry);
        let version = stored.version.clone();
        entries.insert(key.clone(), stored);
        Ok(Written::at(version))
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let mut entries = self.entries();
        let existed = live(&mut entries, key, &options.condition)?.is_some();
        entries.remove(key);
        Ok(existed)
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let mut entries = self.entries();
        let Some(stored) = live(&mut entries, key, &options.condition)? else { return Ok(false) };
        stored.deadline = expiry.deadline(unix_millis());
        Ok(true)
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        let last = options.start_after.clone();
        pages(Pages { shelf: self, options, last })
    }

    async fn purge_expired(&self) -> Result<u64> {
        let mut entries = self.entries();
        let before = entries.len();
        entries.retain(|_, stored| stored.left().is_some());
        Ok(u64::try_from(before - entries.len()).unwrap_or(u64::MAX))
    }
}

/// A listing under way.
struct Pages {
    shelf: Arc<Shelf>,
    options: ListOptions,
    /// The last key that was listed, or the one to start after.
    last: Option<Key>,
}

impl Pager for Pages {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        let prefix = self.options.prefix.as_str();
        let from = match &self.last {
            Some(last) if last.as_str() >= prefix => Bound::Excluded(last.as_str()),
            _ => Bound::Included(prefix),
        };
        let entries = self.shelf.entries();
        let entry = |key: &Key, record| {
            if self.options.values { Entry::new(key.clone(), record) } else { Entry::key(key.clone()) }
        };
        let page: Vec<Entry> = entries
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .filter_map(|(key, stored)| Some(entry(key, stored.record()?)))
            .take(self.options.page(PAGE))
            .collect();
        let Some(entry) = page.last() else { return Ok(None) };
        self.last = Some(entry.key.clone());
        Ok(Some(page.into_iter().map(Ok).collect()))
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}

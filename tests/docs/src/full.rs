//! The same adapter with everything that its store can do: a sorted map behind a lock.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::{StreamExt, stream};
use larder_core::{
    Bytes, Capabilities, Condition, Entry, EntryStream, Error, Expiry, Key, KeyStream, Operation, Purge,
    Record, Result, Storage, Version, Versions, async_trait, clock::unix_millis,
};

const NAME: &str = "shelf";

const CAPABILITIES: Capabilities = Capabilities::minimal()
    .with_expiry()
    .with_purge(Purge::Sweep)
    .with_versions(Versions::Unique)
    .with_listing();

/// How many keys a listing takes from the map at a time.
const PAGE: usize = 256;

/// Entries in a sorted map. Clones share the map.
#[derive(Clone, Default)]
pub struct Shelf {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    entries: Mutex<BTreeMap<Key, Stored>>,
    closed: AtomicBool,
}

#[derive(Clone)]
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

    fn record(&self) -> Record {
        Record::at(self.value.clone(), self.version.clone())
    }
}

/// What is under `key`, if it has not expired.
fn live<'a>(entries: &'a BTreeMap<Key, Stored>, key: &Key) -> Option<&'a Stored> {
    entries.get(key).filter(|stored| stored.left().is_some())
}

impl Shelf {
    fn entries(&self, operation: Operation) -> Result<MutexGuard<'_, BTreeMap<Key, Stored>>> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Error::closed().with_adapter(NAME).with_operation(operation));
        }
        Ok(self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The live entries after `last` that begin with `prefix`, at most a page of them.
    fn page(&self, operation: Operation, prefix: &str, last: Option<&Key>) -> Result<Vec<Entry>> {
        let entries = self.entries(operation)?;
        let from = match last {
            Some(last) => Bound::Excluded(last.as_str()),
            None => Bound::Included(prefix),
        };
        Ok(entries
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.as_str().starts_with(prefix))
            .filter_map(|(key, stored)| Some(Entry::new(key.clone(), stored.record(), stored.left()?)))
            .take(PAGE)
            .collect())
    }

    fn list<'a>(&'a self, operation: Operation, prefix: &'a str) -> EntryStream<'a> {
        let pages = stream::unfold(Some(None), move |state: Option<Option<Key>>| async move {
            let last = state?;
            match self.page(operation, prefix, last.as_ref()) {
                Ok(page) => {
                    let next = page.last().map(|entry| Some(entry.key.clone()));
                    Some((page.into_iter().map(Ok).collect(), next))
                }
                Err(error) => Some((vec![Err(error)], None)),
            }
        });
        pages.map(|page: Vec<_>| stream::iter(page)).flatten().boxed()
    }
}

#[async_trait]
impl Storage for Shelf {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        CAPABILITIES
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        Ok(live(&*self.entries(Operation::Read)?, key).map(Stored::record))
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.entries(Operation::Write)?.insert(key.clone(), Stored::new(&value, expiry));
        Ok(())
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let removed = self.entries(Operation::Delete)?.remove(key);
        Ok(removed.is_some_and(|stored| stored.left().is_some()))
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        let mut entries = self.entries(Operation::WriteIf)?;
        let version = live(&entries, key).map(|stored| &stored.version);
        let holds = match &condition {
            Condition::Absent => version.is_none(),
            Condition::At(expected) => version == Some(expected),
        };
        if !holds {
            return Err(Error::conflict().with_adapter(NAME).with_operation(Operation::WriteIf));
        }
        let stored = Stored::new(&value, expiry);
        let version = stored.version.clone();
        entries.insert(key.clone(), stored);
        Ok(version)
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        let mut entries = self.entries(Operation::DeleteIf)?;
        if live(&entries, key).is_none_or(|stored| stored.version != *version) {
            return Err(Error::conflict().with_adapter(NAME).with_operation(Operation::DeleteIf));
        }
        entries.remove(key);
        Ok(())
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        let mut entries = self.entries(Operation::Touch)?;
        let Some(stored) = entries.get_mut(key).filter(|stored| stored.left().is_some()) else {
            return Ok(false);
        };
        stored.deadline = expiry.deadline(unix_millis());
        Ok(true)
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        Ok(self.entries(Operation::Ttl)?.get(key).and_then(Stored::left))
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        self.list(Operation::Keys, prefix).map(|entry| entry.map(|entry| entry.key)).boxed()
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        self.list(Operation::Entries, prefix)
    }

    async fn purge_expired(&self) -> Result<u64> {
        let mut entries = self.entries(Operation::PurgeExpired)?;
        let before = entries.len();
        entries.retain(|_, stored| stored.left().is_some());
        Ok(u64::try_from(before - entries.len()).unwrap_or(u64::MAX))
    }

    async fn flush(&self) -> Result<()> {
        self.entries(Operation::Flush).map(drop)
    }

    async fn close(&self) -> Result<()> {
        self.shared.closed.store(true, Ordering::Release);
        Ok(())
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").finish_non_exhaustive()
    }
}

//! A layer that records the running operations, for the report of a case that hangs. It also checks the number of
//! results of batches, which a [`Store`] would correct.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use futures_util::StreamExt;
use larder_core::{
    Applied, Bytes, Change, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions, Location, Operation,
    ReadOptions, Record, Result, Storage, Store, TouchOptions, WriteOptions, Written, async_trait,
};

/// The running operations on the stores of a case.
#[derive(Clone, Debug, Default)]
pub(crate) struct Running(Arc<Mutex<Operations>>);

#[derive(Debug, Default)]
struct Operations {
    begun: u64,
    running: BTreeMap<u64, (Operation, Instant)>,
}

impl Running {
    /// Wraps the store in a layer that records its operations.
    pub(crate) fn watch(&self, store: &Store) -> Store {
        let running = self.clone();
        store.layer(|inner| Arc::new(Watched { inner, running }) as Arc<dyn Storage>)
    }

    /// Describes the running operations, the oldest first, such as `write (for 3.2s)`.
    pub(crate) fn describe(&self) -> Option<String> {
        let operations = self.operations();
        let longest = operations.running.values().take(5);
        let texts: Vec<String> = longest
            .map(|(operation, begun)| format!("{operation} (for {:.1}s)", begun.elapsed().as_secs_f64()))
            .collect();
        (!texts.is_empty()).then(|| texts.join(", "))
    }

    fn operations(&self) -> MutexGuard<'_, Operations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running operation. Dropping it ends the operation.
struct Noted {
    running: Running,
    number: u64,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.running.operations().running.remove(&self.number);
    }
}

struct Watched {
    inner: Arc<dyn Storage>,
    running: Running,
}

impl Watched {
    fn note(&self, operation: Operation) -> Noted {
        let mut operations = self.running.operations();
        operations.begun += 1;
        let number = operations.begun;
        operations.running.insert(number, (operation, Instant::now()));
        drop(operations);
        Noted { running: self.running.clone(), number }
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Watched {
    fn info(&self) -> Info {
        self.inner.info()
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let _noted = self.note(Operation::Read);
        self.inner.read(key, options).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let _noted = self.note(Operation::Write);
        self.inner.write(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let _noted = self.note(Operation::Delete);
        self.inner.delete(key, options).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let _noted = self.note(Operation::Touch);
        self.inner.touch(key, expiry, options).await
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let _noted = self.note(Operation::ReadMany);
        let results = self.inner.read_many(keys, options).await;
        assert_eq!(results.len(), keys.len(), "the storage returned a wrong number of results for read_many");
        results
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let _noted = self.note(Operation::Apply);
        let count = changes.len();
        let results = self.inner.apply(changes).await;
        assert_eq!(results.len(), count, "the storage returned a wrong number of results for apply");
        results
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        let noted = self.note(Operation::List);
        let entries = Arc::clone(&self.inner).list(options);
        entries
            .map(move |entry| {
                let _ = &noted;
                entry
            })
            .boxed()
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        let _noted = self.note(Operation::Clear);
        Arc::clone(&self.inner).clear(prefix).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        let _noted = self.note(Operation::PurgeExpired);
        self.inner.purge_expired().await
    }

    async fn ping(&self) -> Result<()> {
        let _noted = self.note(Operation::Ping);
        self.inner.ping().await
    }

    async fn location(&self) -> Result<Option<Location>> {
        let _noted = self.note(Operation::Location);
        self.inner.location().await
    }

    async fn flush(&self) -> Result<()> {
        let _noted = self.note(Operation::Flush);
        self.inner.flush().await
    }

    async fn close(&self) -> Result<()> {
        let _noted = self.note(Operation::Close);
        self.inner.close().await
    }
}

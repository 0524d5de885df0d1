//! Faulty storages: a memory store and a twist.

use std::sync::{Arc, Mutex};

use larder_core::{
    Applied, Bytes, Change, DeleteOptions, EntryStream, Error, Expiry, Info, Key, ListOptions, Location,
    ReadOptions, Record, Result, Storage, Store, TouchOptions, WriteOptions, Written, async_trait,
};
use larder_testkit::{Factory, Handle, Line};

use crate::common::Spaces;

/// The behaviour of a faulty storage. The default of each method is correct.
#[async_trait]
pub(crate) trait Twist: Send + Sync + Sized + 'static {
    /// Whether a batch is applied as single operations. It then has their faults too.
    const SINGLE: bool = false;

    fn info(&self, inner: &Store) -> Info {
        *inner.info()
    }

    /// Returns the line of the handle's changes, for a storage that claims to be fenced.
    fn line(self: &Arc<Self>) -> Option<Arc<dyn Line>> {
        None
    }

    /// Damages the entry under `key`, if the twist supports it.
    fn damage(&self, key: &Key) -> bool {
        let _ = key;
        false
    }

    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        inner.read_with(key, options).await
    }

    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        inner.write_with(key, value, options).await
    }

    async fn delete(&self, inner: &Store, key: &Key, options: &DeleteOptions) -> Result<bool> {
        inner.delete_with(key, options).await
    }

    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        inner.touch_with(key, expiry, options).await
    }

    async fn read_many(
        &self,
        inner: &Store,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Record>>> {
        inner.read_many(keys, options).await
    }

    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        inner.apply(changes).await
    }

    fn list(self: Arc<Self>, inner: Store, options: ListOptions) -> EntryStream {
        inner.list(options)
    }

    async fn clear(self: Arc<Self>, inner: Store, prefix: &str) -> Result<u64> {
        inner.clear(prefix).await
    }

    async fn purge_expired(&self, inner: &Store) -> Result<u64> {
        inner.purge_expired().await
    }

    async fn ping(&self, inner: &Store) -> Result<()> {
        inner.ping().await
    }

    async fn location(&self, inner: &Store) -> Result<Option<Location>> {
        inner.location().await
    }

    async fn flush(&self, inner: &Store) -> Result<()> {
        inner.flush().await
    }

    async fn close(&self, inner: &Store) -> Result<()> {
        inner.close().await
    }
}

/// A memory store with a twist.
pub(crate) struct Broken<T> {
    inner: Store,
    twist: Arc<T>,
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<T: Twist> Storage for Broken<T> {
    fn info(&self) -> Info {
        self.twist.info(&self.inner)
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        self.twist.read(&self.inner, key, options).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.twist.write(&self.inner, key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.twist.delete(&self.inner, key, options).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.twist.touch(&self.inner, key, expiry, options).await
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        self.twist.read_many(&self.inner, keys, options).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        if !T::SINGLE {
            return self.twist.apply(&self.inner, changes).await;
        }
        let broken = Self { inner: self.inner.clone(), twist: Arc::clone(&self.twist) };
        let handle = Handle::new(broken);
        let mut results = Vec::new();
        for change in &changes {
            results.push(handle.apply_single(change).await);
        }
        results
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        Arc::clone(&self.twist).list(self.inner.clone(), options)
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        Arc::clone(&self.twist).clear(self.inner.clone(), prefix).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.twist.purge_expired(&self.inner).await
    }

    async fn ping(&self) -> Result<()> {
        self.twist.ping(&self.inner).await
    }

    async fn location(&self) -> Result<Option<Location>> {
        self.twist.location(&self.inner).await
    }

    async fn flush(&self) -> Result<()> {
        self.twist.flush(&self.inner).await
    }

    async fn close(&self) -> Result<()> {
        self.twist.close(&self.inner).await
    }
}

/// Opens memory stores with a twist. All handles on a space share one store, and each space has its own store.
pub(crate) struct BrokenSpaces<T, M> {
    spaces: Spaces,
    made: Mutex<std::collections::HashMap<String, Arc<T>>>,
    make: M,
}

impl<T: Twist, M: Fn() -> T + Send + Sync + 'static> BrokenSpaces<T, M> {
    pub(crate) fn new(make: M) -> Self {
        Self { spaces: Spaces::default(), made: Mutex::default(), make }
    }
}

#[async_trait]
impl<T: Twist, M: Fn() -> T + Send + Sync + 'static> Factory for BrokenSpaces<T, M> {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        let inner = self.spaces.store(space).await;
        let mut made = self.made.lock().unwrap();
        let twist = Arc::clone(made.entry(space.to_owned()).or_insert_with(|| Arc::new((self.make)())));
        Ok(Store::from(Broken { inner, twist }))
    }

    async fn damage(&self, space: &str, key: &Key) -> Result<bool, Error> {
        let made = self.made.lock().unwrap();
        Ok(made.get(space).is_some_and(|twist| twist.damage(key)))
    }

    async fn open_over_line(&self, space: &str) -> Result<Option<(Store, Arc<dyn Line>)>, Error> {
        let twist = Arc::new((self.make)());
        let Some(line) = twist.line() else { return Ok(None) };
        let inner = self.spaces.store(space).await;
        Ok(Some((Store::from(Broken { inner, twist }), line)))
    }
}

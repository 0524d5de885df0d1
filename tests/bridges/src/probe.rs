//! A storage that a test can break, delay, and change without its user.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, ErrorKind, Expiry, Info, Key, Operation, ReadOptions, Record,
    Result, Storage, Store, TouchOptions, WriteOptions, Written, async_trait,
};
use larder_memory::MemoryStorage;
use tokio::{sync::Semaphore, time::timeout};

/// The value of an occupied key.
pub const OCCUPIED: &str = r#"{"owner":["another program"]}"#;

/// A storage in memory that a test can break. Clones share the state.
#[derive(Clone, Debug)]
pub struct Probe(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: MemoryStorage,
    store: Store,
    down: AtomicBool,
    read_only: AtomicBool,
    /// The number of next creations whose key is already taken.
    occupy: AtomicUsize,
    occupied: Mutex<Vec<Key>>,
    calls: Mutex<Vec<Operation>>,
    /// The number of writes and deletions until the one to pause, or 0.
    hold: AtomicUsize,
    held: Semaphore,
    go: Semaphore,
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

impl Probe {
    /// Creates a working storage in memory.
    #[must_use]
    pub fn new() -> Self {
        let memory = MemoryStorage::new();
        Self(Arc::new(Inner {
            store: Store::new(memory.clone()),
            memory,
            down: AtomicBool::new(false),
            read_only: AtomicBool::new(false),
            occupy: AtomicUsize::new(0),
            occupied: Mutex::default(),
            calls: Mutex::default(),
            hold: AtomicUsize::new(0),
            held: Semaphore::new(0),
            go: Semaphore::new(0),
        }))
    }

    /// Returns the underlying storage, which always works.
    #[must_use]
    pub fn storage(&self) -> &Store {
        &self.0.store
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.0.memory.len()
    }

    /// Sets whether every operation fails.
    pub fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::SeqCst);
    }

    /// Sets whether every operation except a read fails.
    pub fn set_read_only(&self, read_only: bool) {
        self.0.read_only.store(read_only, Ordering::SeqCst);
    }

    /// Makes the keys of the next `count` creations already taken.
    pub fn occupy(&self, count: usize) {
        self.0.occupy.store(count, Ordering::SeqCst);
    }

    /// Returns the keys that `occupy` has taken.
    #[must_use]
    pub fn occupied(&self) -> Vec<Key> {
        self.0.occupied.lock().unwrap().clone()
    }

    /// Returns the operations since the last call of this method.
    #[must_use]
    pub fn calls(&self) -> Vec<Operation> {
        std::mem::take(&mut self.0.calls.lock().unwrap())
    }

    /// Runs `request`, pauses it between its read and its write of the session, and runs `during` in the
    /// pause.
    pub async fn between<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
        during: impl Future<Output = ()>,
    ) -> T {
        self.before(1, request, during).await
    }

    /// Runs `request`, pauses it before one of its writes and deletions, counted from 1, and runs `during` in the
    /// pause.
    pub async fn before<T: Send + 'static>(
        &self,
        change: usize,
        request: impl Future<Output = T> + Send + 'static,
        during: impl Future<Output = ()>,
    ) -> T {
        self.0.hold.store(change, Ordering::SeqCst);
        let request = tokio::spawn(request);
        let held = timeout(Duration::from_secs(60), self.0.held.acquire()).await;
        held.expect("the request writes its session").unwrap().forget();
        during.await;
        self.0.go.add_permits(1);
        request.await.unwrap()
    }

    /// Waits if this is the change to pause.
    async fn pause(&self) {
        let count = |hold: usize| hold.checked_sub(1);
        if self.0.hold.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count) == Ok(1) {
            self.0.held.add_permits(1);
            self.0.go.acquire().await.unwrap().forget();
        }
    }

    fn call(&self, operation: Operation) {
        self.0.calls.lock().unwrap().push(operation);
    }

    fn reads(&self) -> Result<()> {
        if self.0.down.load(Ordering::SeqCst) { Err(gone()) } else { Ok(()) }
    }

    fn writes(&self) -> Result<()> {
        self.reads()?;
        if self.0.read_only.load(Ordering::SeqCst) { Err(gone()) } else { Ok(()) }
    }
}

fn gone() -> Error {
    Error::new(ErrorKind::Unavailable, "the server has gone away")
}

#[async_trait]
impl Storage for Probe {
    fn info(&self) -> Info {
        let mut info = *self.0.store.info();
        info.name = "probe";
        // Keeps the trait's default.
        info.listing = false;
        info
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        self.call(Operation::Read);
        if options.touch.is_some() {
            self.writes()?;
        } else {
            self.reads()?;
        }
        self.0.store.read_with(key, options).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.call(Operation::Write);
        self.pause().await;
        self.writes()?;
        let take = |count: usize| count.checked_sub(1);
        if options.condition == Condition::Absent
            && self.0.occupy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
        {
            self.0.store.write(key, OCCUPIED).await?;
            self.0.occupied.lock().unwrap().push(key.clone());
        }
        self.0.store.write_with(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.call(Operation::Delete);
        self.pause().await;
        self.writes()?;
        self.0.store.delete_with(key, options).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.call(Operation::Touch);
        self.writes()?;
        self.0.store.touch_with(key, expiry, options).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.call(Operation::PurgeExpired);
        self.writes()?;
        self.0.store.purge_expired().await
    }
}

//! A storage that a test can break, hold up, and fill behind the back of its user.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder_core::{
    Bytes, Condition, DeleteOptions, Error, ErrorKind, Expiry, Info, Key, ReadOptions, Record, Result,
    Storage, Store, TouchOptions, WriteOptions, Written, async_trait,
};
use larder_memory::MemoryStorage;
use tokio::{sync::Semaphore, time::timeout};

/// What an occupied key holds.
pub const OCCUPIED: &str = r#"{"owner":["somebody else"]}"#;

/// A storage in memory that a test can break. Clones share it.
#[derive(Clone, Debug)]
pub struct Probe(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: MemoryStorage,
    store: Store,
    down: AtomicBool,
    read_only: AtomicBool,
    /// How many of the next keys that a session is created under are taken.
    occupy: AtomicUsize,
    occupied: Mutex<Vec<Key>>,
    hold: AtomicBool,
    held: Semaphore,
    go: Semaphore,
}

impl Default for Probe {
    fn default() -> Self {
        Self::new()
    }
}

impl Probe {
    /// Memory, which works.
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
            hold: AtomicBool::new(false),
            held: Semaphore::new(0),
            go: Semaphore::new(0),
        }))
    }

    /// The storage underneath, which always works.
    #[must_use]
    pub fn storage(&self) -> &Store {
        &self.0.store
    }

    /// How many entries there are.
    #[must_use]
    pub fn entries(&self) -> usize {
        self.0.memory.len()
    }

    /// Whether nothing works.
    pub fn set_down(&self, down: bool) {
        self.0.down.store(down, Ordering::SeqCst);
    }

    /// Whether reads are all that works.
    pub fn set_read_only(&self, read_only: bool) {
        self.0.read_only.store(read_only, Ordering::SeqCst);
    }

    /// The next `count` keys that a session is created under will be taken.
    pub fn occupy(&self, count: usize) {
        self.0.occupy.store(count, Ordering::SeqCst);
    }

    /// The keys that were taken so.
    #[must_use]
    pub fn occupied(&self) -> Vec<Key> {
        self.0.occupied.lock().unwrap().clone()
    }

    /// The next session that is replaced is held up between its reading and its writing; `meanwhile`
    /// happens then.
    pub async fn between<T: Send + 'static>(
        &self,
        request: impl Future<Output = T> + Send + 'static,
        meanwhile: impl Future<Output = ()>,
    ) -> T {
        self.0.hold.store(true, Ordering::SeqCst);
        let request = tokio::spawn(request);
        let held = timeout(Duration::from_secs(60), self.0.held.acquire()).await;
        held.expect("the request writes its session").unwrap().forget();
        meanwhile.await;
        self.0.go.add_permits(1);
        request.await.unwrap()
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
        // The trait's defaults.
        info.listing = false;
        info
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        if options.touch.is_some() {
            self.writes()?;
        } else {
            self.reads()?;
        }
        self.0.store.read_with(key, options).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.writes()?;
        let take = |count: usize| count.checked_sub(1);
        match options.condition {
            Condition::Absent
                if self.0.occupy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() =>
            {
                self.0.store.write(key, OCCUPIED).await?;
                self.0.occupied.lock().unwrap().push(key.clone());
            }
            Condition::At(_) if self.0.hold.swap(false, Ordering::SeqCst) => {
                self.0.held.add_permits(1);
                self.0.go.acquire().await.unwrap().forget();
            }
            _ => {}
        }
        self.0.store.write_with(key, value, options).await
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.writes()?;
        self.0.store.delete_with(key, options).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.writes()?;
        self.0.store.touch_with(key, expiry, options).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.writes()?;
        self.0.store.purge_expired().await
    }
}

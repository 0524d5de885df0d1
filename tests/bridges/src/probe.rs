//! A storage that a test can break, hold up, and fill behind the back of its user.

use std::{
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder::{
    Bytes, Capabilities, Condition, Error, ErrorKind, Expiry, Key, Operation, Record, Result, Storage,
    Version, async_trait,
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
    storage: MemoryStorage,
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
        Self(Arc::new(Inner {
            storage: MemoryStorage::new(),
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
    pub fn storage(&self) -> &MemoryStorage {
        &self.0.storage
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

    fn up(&self, operation: Operation) -> Result<()> {
        let reads = matches!(operation, Operation::Read | Operation::Ttl);
        if self.0.down.load(Ordering::SeqCst) || (self.0.read_only.load(Ordering::SeqCst) && !reads) {
            return Err(Error::new(ErrorKind::Unavailable, "the server has gone away")
                .with_adapter("probe")
                .with_operation(operation));
        }
        Ok(())
    }
}

#[async_trait]
impl Storage for Probe {
    fn name(&self) -> &'static str {
        "probe"
    }

    fn capabilities(&self) -> Capabilities {
        self.0.storage.capabilities()
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.up(Operation::Read)?;
        self.0.storage.read(key).await
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.up(Operation::Write)?;
        self.0.storage.write(key, value, expiry).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.up(Operation::Delete)?;
        self.0.storage.delete(key).await
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        self.up(Operation::WriteIf)?;
        let take = |count: usize| count.checked_sub(1);
        if condition == Condition::Absent {
            if self.0.occupy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok() {
                self.0.storage.write(key, Bytes::from_static(OCCUPIED.as_bytes()), Expiry::Never).await?;
                self.0.occupied.lock().unwrap().push(key.clone());
            }
        } else if self.0.hold.swap(false, Ordering::SeqCst) {
            self.0.held.add_permits(1);
            self.0.go.acquire().await.unwrap().forget();
        }
        self.0.storage.write_if(key, value, expiry, condition).await
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        self.up(Operation::DeleteIf)?;
        self.0.storage.delete_if(key, version).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        self.up(Operation::Touch)?;
        self.0.storage.touch(key, expiry).await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        self.up(Operation::Ttl)?;
        self.0.storage.ttl(key).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.up(Operation::PurgeExpired)?;
        self.0.storage.purge_expired().await
    }
}

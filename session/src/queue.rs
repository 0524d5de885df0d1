//! The queues that serialize the updates of each key.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt, iter,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder_core::{Error, ErrorKind, Key, Record, Result, Store};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// Identifies a session: the address of its storage, and its full key. One storage can have several queues.
pub(crate) type Identity = (usize, Key);

tokio::task_local! {
    /// The innermost update around this code.
    static HELD: Arc<Nested>;
}

fn held() -> Option<Arc<Nested>> {
    HELD.try_with(Arc::clone).ok()
}

/// The keys that an update holds while its handler runs (the handler would wait for them forever), and the
/// writes of updates within it, through other [`Sessions`](crate::Sessions) on the same store, which cannot
/// be recognized beforehand.
#[derive(Debug)]
pub(crate) struct Nested {
    claims: Vec<(Arc<Queue>, Key)>,
    /// The last write of each claimed key within this update.
    writes: Mutex<HashMap<Key, Record>>,
    /// The update around this one.
    outer: Option<Arc<Nested>>,
}

impl Nested {
    /// Iterates over this update and all updates around it.
    fn all(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |nested| nested.outer.as_deref())
    }

    fn holds(&self, identity: &Identity) -> bool {
        self.claims.iter().any(|(queue, key)| queue.identity(key) == *identity)
    }

    /// Whether a claimed key now has a value that was written within this update. Then it is the same store,
    /// and another run would conflict again.
    pub(crate) async fn caused_conflict(&self) -> bool {
        let writes = std::mem::take(&mut *self.writes.lock());
        for (queue, key) in &self.claims {
            if let Some(written) = writes.get(key)
                && let Ok(Some(stored)) = queue.store.read(key).await
                && stored.version == written.version
                && same(&stored.value, &written.value)
            {
                return true;
            }
        }
        false
    }
}

/// Whether the values are equal, or differ only in their JSON formatting.
fn same(one: &[u8], other: &[u8]) -> bool {
    let json = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    one == other || json(one).is_some_and(|one| json(other) == Some(one))
}

/// Whether this code runs within an update, which records writes.
pub(crate) fn is_nested() -> bool {
    HELD.try_with(|_| ()).is_ok()
}

/// Records a write in the updates around this code.
pub(crate) fn note_write(key: &Key, written: &Record) {
    let note = |held: &Arc<Nested>| {
        for nested in held.all().filter(|nested| nested.claims.iter().any(|(_, claimed)| claimed == key)) {
            nested.writes.lock().insert(key.clone(), written.clone());
        }
    };
    // Outside of an update there is nothing to record.
    let _ = HELD.try_with(note);
}

/// The surrounding updates in which a permit is refused: it would wait forever for an update of the same key.
#[derive(Clone, Debug)]
pub(crate) enum Nesting {
    /// All updates around the call.
    Refused,
    /// These updates. For an update that can hold several permits, or that acquires its permit within the
    /// handler.
    Own(Option<Arc<Nested>>),
}

impl Nesting {
    /// For an update that starts here.
    pub(crate) fn own() -> Self {
        Self::Own(held())
    }

    /// Whether to skip the queue of the new key after a move: waiting for it with another permit in hand
    /// could deadlock. Compare-and-swap alone then detects conflicts.
    pub(crate) const fn skips_queue_after_move(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// `identity` is that of the session to lock.
    fn refuses(&self, identity: impl Fn() -> Identity) -> bool {
        let holds = |held: &Arc<Nested>| held.all().any(|nested| nested.holds(&identity()));
        match self {
            Self::Refused => HELD.try_with(holds).unwrap_or(false),
            Self::Own(held) => held.as_ref().is_some_and(holds),
        }
    }
}

/// A fair (first come, first served) lock per key, with a limit for the number of waiting updates. A key uses
/// memory only while its lock is held or awaited.
pub struct Queue {
    store: Store,
    locks: Mutex<HashMap<Key, Lock>>,
    waiting: AtomicUsize,
    max_queued: usize,
    timeout: Option<Duration>,
}

impl Queue {
    pub(crate) fn new(store: Store, max_queued: usize, timeout: Option<Duration>) -> Arc<Self> {
        let waiting = AtomicUsize::new(0);
        Arc::new(Self { store, locks: Mutex::default(), waiting, max_queued, timeout })
    }

    /// Identifies the session at `key` among all sessions of all stores.
    pub(crate) fn identity(&self, key: &Key) -> Identity {
        let storage = Arc::as_ptr(self.store.storage()).addr();
        let namespace = self.store.prefix();
        if namespace.is_empty() {
            return (storage, key.clone());
        }
        // A key that is too long for the store is rejected before it is read.
        (storage, Key::new(format!("{namespace}{key}")).unwrap_or_else(|_| key.clone()))
    }

    /// Waits for the permit of `key`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] within another update of the same key; [`ErrorKind::Unavailable`] if too
    /// many updates wait; [`ErrorKind::Timeout`].
    pub(crate) async fn enter(self: &Arc<Self>, key: &Key, nesting: &Nesting) -> Result<QueuePermit> {
        if nesting.refuses(|| self.identity(key)) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "an update within an update of the same session would wait for itself; use the session that \
                 the handler was given",
            ));
        }
        // Created before the lock and dropped after it: the last reference is the map's.
        let mut permit = QueuePermit { queue: Arc::clone(self), key: key.clone(), guard: None };
        let lock = Arc::clone(self.locks.lock().entry(key.clone()).or_default());
        if let Ok(guard) = Arc::clone(&lock).try_lock_owned() {
            permit.guard = Some(guard);
            return Ok(permit);
        }
        let _waiting = Waiting::count(self)?;
        let wait = lock.lock_owned();
        permit.guard = Some(match self.timeout {
            None => wait.await,
            Some(timeout) => tokio::time::timeout(timeout, wait).await.map_err(|_| {
                Error::new(
                    ErrorKind::Timeout,
                    format!(
                        "earlier updates of the session did not finish within {timeout:?}; if a handler awaits a task \
                         that updates the handler's own session, the two wait for each other"
                    ),
                )
            })?,
        });
        Ok(permit)
    }

    /// Runs `work`, in which [`enter`](Self::enter) refuses these keys instead of waiting forever. Also
    /// returns the writes within it.
    pub(crate) async fn holding<'k, F: Future>(
        claims: impl IntoIterator<Item = &'k (Arc<Self>, Key)>,
        work: F,
    ) -> (F::Output, Arc<Nested>) {
        let claims = claims.into_iter().cloned().collect();
        let nested = Arc::new(Nested { claims, writes: Mutex::default(), outer: held() });
        (HELD.scope(Arc::clone(&nested), work).await, nested)
    }

    /// The number of keys in use.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.locks.lock().len()
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queue").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

/// Counts a waiting update until it is dropped.
struct Waiting<'q>(&'q AtomicUsize);

impl<'q> Waiting<'q> {
    fn count(queue: &'q Queue) -> Result<Self> {
        let waiting = Self(&queue.waiting);
        if queue.waiting.fetch_add(1, Ordering::Relaxed) >= queue.max_queued {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("{} updates are already waiting", queue.max_queued),
            ));
        }
        Ok(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to update a key, until it is dropped. It is also dropped if the wait is cancelled.
pub struct QueuePermit {
    queue: Arc<Queue>,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl QueuePermit {
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }
}

impl fmt::Debug for QueuePermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuePermit").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Drop for QueuePermit {
    fn drop(&mut self) {
        // Unlock first, for the next in the queue; under the map's lock, so that a lock that is being removed
        // cannot be acquired.
        let mut locks = self.queue.locks.lock();
        drop(self.guard.take());
        // If the map has the only reference, the lock is neither held nor awaited (a waiting future has a
        // reference too).
        if let Entry::Occupied(lock) = locks.entry(self.key.clone())
            && Arc::strong_count(lock.get()) == 1
        {
            lock.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, future::join_all};
    use larder_memory::MemoryStorage;

    use super::*;

    fn queue(max_queued: usize, timeout: Option<Duration>) -> Arc<Queue> {
        Queue::new(Store::new(MemoryStorage::new()), max_queued, timeout)
    }

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[tokio::test]
    async fn permits_are_granted_in_the_order_of_arrival() {
        let queue = queue(100, None);
        let first = queue.enter(&key("a"), &Nesting::Refused).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..10)
            .map(|number| {
                let (queue, order) = (Arc::clone(&queue), Arc::clone(&order));
                async move {
                    let _permit = queue.enter(&key("a"), &Nesting::Refused).await.unwrap();
                    order.lock().push(number);
                    tokio::task::yield_now().await;
                }
            })
            .collect();
        let mut all = Box::pin(join_all(waiting));
        assert!(all.as_mut().now_or_never().is_none());
        drop(first);
        all.await;
        assert_eq!(*order.lock(), (0..10).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn keys_are_independent_and_use_no_memory_when_idle() {
        let queue = queue(100, None);
        let a = queue.enter(&key("a"), &Nesting::Refused).await.unwrap();
        let b = queue.enter(&key("b"), &Nesting::Refused).now_or_never().unwrap().unwrap();
        let a_key = key("a");
        let mut given_up = Box::pin(queue.enter(&a_key, &Nesting::Refused));
        assert!(given_up.as_mut().now_or_never().is_none());
        drop(given_up);
        assert_eq!(queue.len(), 2);
        drop((a, b));
        assert_eq!(queue.len(), 0);
        assert_eq!(queue.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn updates_above_the_limit_are_refused_and_not_counted() {
        let queue = queue(1, None);
        let first = queue.enter(&key("a"), &Nesting::Refused).await.unwrap();
        let a_key = key("a");
        let mut second = Box::pin(queue.enter(&a_key, &Nesting::Refused));
        assert!(second.as_mut().now_or_never().is_none());
        for _ in 0..3 {
            let refused = queue.enter(&key("a"), &Nesting::Refused).await.map(drop).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::Unavailable);
        }
        drop(first);
        second.await.unwrap();
        assert_eq!(queue.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_queue_timeout_ends_the_wait() {
        let queue = queue(10, Some(Duration::from_secs(5)));
        let _first = queue.enter(&key("a"), &Nesting::Refused).await.unwrap();
        assert_eq!(
            queue.enter(&key("a"), &Nesting::Refused).await.map(drop).unwrap_err().kind(),
            ErrorKind::Timeout
        );
    }

    #[tokio::test]
    async fn waiting_within_the_own_update_is_an_error() {
        let queue = queue(10, None);
        let _permit = queue.enter(&key("a"), &Nesting::Refused).await.unwrap();
        let held = [(Arc::clone(&queue), key("a"))];
        let inner = async { queue.enter(&key("a"), &Nesting::Refused).await.map(drop).unwrap_err().kind() };
        assert_eq!(Queue::holding(&held, inner).await.0, ErrorKind::Unsupported);
        let other = async { queue.enter(&key("b"), &Nesting::Refused).await.is_ok() };
        assert!(Queue::holding(&held, other).await.0);
    }
}

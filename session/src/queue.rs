//! Updates of one key take turns.

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

/// A session among all: the address of its storage, and its key in the whole store. Several queues may
/// be of one storage.
pub(crate) type Identity = (usize, Key);

tokio::task_local! {
    /// The innermost update that this code runs in.
    static HELD: Arc<Nested>;
}

fn held() -> Option<Arc<Nested>> {
    HELD.try_with(Arc::clone).ok()
}

/// The keys that an update holds while its handler runs (waiting for one of them within it would never end),
/// and the writes of updates within it: through other [`Sessions`](crate::Sessions) on the same store, which
/// cannot be told beforehand that it is the same.
#[derive(Debug)]
pub(crate) struct Nested {
    claims: Vec<(Arc<Queue>, Key)>,
    /// The last write of each claimed key.
    writes: Mutex<HashMap<Key, Record>>,
    /// The update that this one runs in.
    outer: Option<Arc<Nested>>,
}

impl Nested {
    /// This update and all that it runs in.
    fn all(&self) -> impl Iterator<Item = &Self> {
        iter::successors(Some(self), |nested| nested.outer.as_deref())
    }

    fn holds(&self, identity: &Identity) -> bool {
        self.claims.iter().any(|(queue, key)| queue.identity(key) == *identity)
    }

    /// Whether what is stored now at a claimed key is what was written within: it is the same store then,
    /// and to run the handler again would overtake it again.
    pub(crate) async fn has_overtaken(&self) -> bool {
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

/// Whether a store may have made one of the other.
fn same(one: &[u8], other: &[u8]) -> bool {
    let json = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    one == other || json(one).is_some_and(|one| json(other) == Some(one))
}

/// Whether this runs within an update, which may have to know of a write.
pub(crate) fn is_nested() -> bool {
    HELD.try_with(|_| ()).is_ok()
}

/// This was written at `key`.
pub(crate) fn note_write(key: &Key, written: &Record) {
    let note = |held: &Arc<Nested>| {
        for nested in held.all().filter(|nested| nested.claims.iter().any(|(_, claimed)| claimed == key)) {
            nested.writes.lock().insert(key.clone(), written.clone());
        }
    };
    // Outside of any update, nothing waits for it.
    let _ = HELD.try_with(note);
}

/// Within which updates a turn cannot be taken: those of the same key, which would wait for ever.
#[derive(Clone, Debug)]
pub(crate) enum Nesting {
    /// Within any that the turn is taken in.
    Refused,
    /// Within these. It is the turn of an update that has or may have others: of several sessions, or
    /// of one that is read within the handler.
    Own(Option<Arc<Nested>>),
}

impl Nesting {
    /// For the turn of the update that begins here.
    pub(crate) fn own() -> Self {
        Self::Own(held())
    }

    /// Whether no further turn may be waited for, where the session has moved to another key: with one
    /// in hand already that could be a deadlock. Compare-and-swap alone then tells of others.
    pub(crate) const fn waits_for_no_more(&self) -> bool {
        matches!(self, Self::Own(_))
    }

    /// `identity` is that of the session whose turn is to be taken.
    fn refuses(&self, identity: impl Fn() -> Identity) -> bool {
        let holds = |held: &Arc<Nested>| held.all().any(|nested| nested.holds(&identity()));
        match self {
            Self::Refused => HELD.try_with(holds).unwrap_or(false),
            Self::Own(held) => held.as_ref().is_some_and(holds),
        }
    }
}

/// A lock per key: fair (first come, first served), with a bound on how many wait. A key takes room
/// only while somebody holds its lock or waits for it.
pub struct Queue {
    store: Store,
    locks: Mutex<HashMap<Key, Lock>>,
    waiting: AtomicUsize,
    most_waiting: usize,
    patience: Option<Duration>,
}

impl Queue {
    pub(crate) fn new(store: Store, most_waiting: usize, patience: Option<Duration>) -> Arc<Self> {
        let waiting = AtomicUsize::new(0);
        Arc::new(Self { store, locks: Mutex::default(), waiting, most_waiting, patience })
    }

    /// Which session is at `key`, among all.
    pub(crate) fn identity(&self, key: &Key) -> Identity {
        let storage = Arc::as_ptr(self.store.storage()).addr();
        let namespace = self.store.prefix();
        if namespace.is_empty() {
            return (storage, key.clone());
        }
        // A key that is too long for the store is never read.
        (storage, Key::new(format!("{namespace}{key}")).unwrap_or_else(|_| key.clone()))
    }

    /// Waits for its turn.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] within an update of the same key, which this is not itself;
    /// [`ErrorKind::Unavailable`] if too many wait already; [`ErrorKind::Timeout`].
    pub(crate) async fn enter(self: &Arc<Self>, key: &Key, nesting: &Nesting) -> Result<Turn> {
        if nesting.refuses(|| self.identity(key)) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "an update within an update of the same session would wait for itself; use the session that \
                 the handler was given",
            ));
        }
        // Before the lock, so that it is dropped after it: the last reference to go is the map's.
        let mut turn = Turn { queue: Arc::clone(self), key: key.clone(), guard: None };
        let lock = Arc::clone(self.locks.lock().entry(key.clone()).or_default());
        if let Ok(guard) = Arc::clone(&lock).try_lock_owned() {
            turn.guard = Some(guard);
            return Ok(turn);
        }
        let _waiting = Waiting::count(self)?;
        let wait = lock.lock_owned();
        turn.guard = Some(match self.patience {
            None => wait.await,
            Some(patience) => tokio::time::timeout(patience, wait).await.map_err(|_| {
                Error::new(
                    ErrorKind::Timeout,
                    format!(
                        "earlier updates of the session were not done within {patience:?}; if a handler awaits a \
                         task that updates the handler's own session, the two wait for each other"
                    ),
                )
            })?,
        });
        Ok(turn)
    }

    /// Runs `work`, in which [`enter`](Self::enter) refuses these keys instead of waiting without end. Says
    /// too what was written in between.
    pub(crate) async fn holding<'k, F: Future>(
        claims: impl IntoIterator<Item = &'k (Arc<Self>, Key)>,
        work: F,
    ) -> (F::Output, Arc<Nested>) {
        let claims = claims.into_iter().cloned().collect();
        let nested = Arc::new(Nested { claims, writes: Mutex::default(), outer: held() });
        (HELD.scope(Arc::clone(&nested), work).await, nested)
    }

    /// How many keys take room.
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

/// One who waits, for as long as it waits.
struct Waiting<'q>(&'q AtomicUsize);

impl<'q> Waiting<'q> {
    fn count(queue: &'q Queue) -> Result<Self> {
        let waiting = Self(&queue.waiting);
        if queue.waiting.fetch_add(1, Ordering::Relaxed) >= queue.most_waiting {
            return Err(Error::new(
                ErrorKind::Unavailable,
                format!("{} updates wait for their turn already", queue.most_waiting),
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

/// The right to update a key, until it is dropped. Also dropped when the wait for it was given up.
pub struct Turn {
    queue: Arc<Queue>,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Turn {
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("key", &self.key).finish_non_exhaustive()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // First the lock, so that the next in line goes on; under the map's lock, so that nobody
        // takes a lock that is being removed.
        let mut locks = self.queue.locks.lock();
        drop(self.guard.take());
        // The map's own reference is the last: nobody holds the lock, and nobody waits for it (a
        // waiting future has a reference too).
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

    fn queue(most_waiting: usize, patience: Option<Duration>) -> Arc<Queue> {
        Queue::new(Store::new(MemoryStorage::new()), most_waiting, patience)
    }

    fn key(text: &str) -> Key {
        Key::new(text).unwrap()
    }

    #[tokio::test]
    async fn turns_are_taken_in_the_order_of_arrival() {
        let queue = queue(100, None);
        let first = queue.enter(&key("a"), &Nesting::Refused).await.unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let waiting: Vec<_> = (0..10)
            .map(|number| {
                let (queue, order) = (Arc::clone(&queue), Arc::clone(&order));
                async move {
                    let _turn = queue.enter(&key("a"), &Nesting::Refused).await.unwrap();
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
    async fn keys_do_not_wait_for_each_other_and_take_no_room_when_idle() {
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
    async fn too_many_are_refused_and_do_not_count_on() {
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
    async fn patience_ends() {
        let queue = queue(10, Some(Duration::from_secs(5)));
        let _first = queue.enter(&key("a"), &Nesting::Refused).await.unwrap();
        assert_eq!(
            queue.enter(&key("a"), &Nesting::Refused).await.map(drop).unwrap_err().kind(),
            ErrorKind::Timeout
        );
    }

    #[tokio::test]
    async fn waiting_for_oneself_is_an_error() {
        let queue = queue(10, None);
        let _turn = queue.enter(&key("a"), &Nesting::Refused).await.unwrap();
        let held = [(Arc::clone(&queue), key("a"))];
        let inner = async { queue.enter(&key("a"), &Nesting::Refused).await.map(drop).unwrap_err().kind() };
        assert_eq!(Queue::holding(&held, inner).await.0, ErrorKind::Unsupported);
        let other = async { queue.enter(&key("b"), &Nesting::Refused).await.is_ok() };
        assert!(Queue::holding(&held, other).await.0);
    }
}

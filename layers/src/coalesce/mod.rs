//! Group commit: concurrent writes become one batch.

mod batch;
mod direct;
mod lane;
mod reply;
mod storage;
mod straggler;
mod turn;

use std::{
    collections::hash_map::RandomState,
    fmt,
    hash::BuildHasher,
    sync::{Arc, Mutex, PoisonError},
};

use larder_core::{Error, ErrorKind, Key, Operation, Storage};
use tokio::{runtime::Handle, task::AbortHandle};

use self::lane::Lane;

/// A storage whose concurrent writes share a commit: while one batch is under way the next one
/// gathers, and is then handed to the wrapped storage's
/// [`write_many`](larder_core::Storage::write_many) as a whole.
///
/// # Guarantees
///
/// - **No added delay.** On an idle storage a write runs at once, in its caller's own task. The first
///   who has to wait for it moves it to a task, so that nobody depends on a future that its caller
///   may no longer poll.
/// - **Acknowledged means stored.** A write is ready with `Ok` only once the batch that it went
///   with is.
/// - **Order.** Writes of one key happen in the order in which they were called. A `delete`,
///   `delete_many`, `clear`, `write_if`, `delete_if` or `touch` does not overtake an earlier write
///   of the same key, even one whose future has been dropped.
/// - **A bad entry fails alone.** Where the wrapped storage names the failed entries of a batch
///   ([`ErrorKind::Partial`]), the others are acknowledged. Where it fails the batch as a whole with
///   an error that is not retryable, the entries are written again one by one. An error that is
///   retryable goes to every caller in the batch.
/// - **Cancellation.** A write whose future is dropped while it is queued is taken out. Once it is
///   under way it is carried to its end, together with the others in its batch, so that nothing
///   later can be overtaken by it. The same goes for a `delete`, `delete_many`, `clear`, `write_if`,
///   `delete_if` or `touch` that is dropped while it is under way: it is carried to its end, and what
///   is called later for its keys (after a `clear`, for any) waits for it, as do `flush` and
///   `close`. Outside a tokio runtime there is nothing to carry it, and it is merely dropped.
/// - **One batch per lane.** Keys are spread over [`lanes`](Builder::lanes), each of which has one
///   batch under way at a time, so that each key has one writer. A batch names each key once (of
///   several writes of one key the last is kept, and all are acknowledged), sorted by key: two
///   processes that lock rows in the order of a batch do not deadlock.
/// - **`close`** lets writes that were called before it finish, and fails later ones. Dropping the
///   `Coalesce` aborts what is still under way (nobody can be waiting for it any more).
///
/// Reads and listings pass through; they do not see queued writes.
///
/// ```
/// # use larder_core::{async_trait, Bytes, Expiry, Key, Record, Result, Storage};
/// use larder_layers::Coalesce;
///
/// async fn wrap(storage: impl Storage + 'static) -> Result<()> {
///     let storage = Coalesce::builder(storage).lanes(2).max_batch(128).build();
///     let (ada, bob) = (Key::new("ada")?, Key::new("bob")?);
///     // These two may share a batch.
///     let (first, second) = futures_util::join!(
///         storage.write(&ada, Bytes::from_static(b"1"), Expiry::Never),
///         storage.write(&bob, Bytes::from_static(b"2"), Expiry::Never),
///     );
///     first.and(second)
/// }
/// ```
pub struct Coalesce<S: Storage + 'static> {
    shared: Arc<Shared<S>>,
}

/// Sets up a [`Coalesce`].
#[derive(Debug)]
pub struct Builder<S> {
    storage: S,
    lanes: usize,
    max_batch: usize,
    max_batch_bytes: usize,
}

impl<S: Storage + 'static> Coalesce<S> {
    /// `storage` with group commit: one lane, at most [`Builder::MAX_BATCH`] entries and about
    /// [`Builder::MAX_BATCH_BYTES`] in a batch.
    #[must_use]
    pub fn new(storage: S) -> Self {
        Self::builder(storage).build()
    }

    /// `storage` with group commit, to be set up.
    #[must_use]
    pub const fn builder(storage: S) -> Builder<S> {
        Builder {
            storage,
            lanes: 1,
            max_batch: Builder::<S>::MAX_BATCH,
            max_batch_bytes: Builder::<S>::MAX_BATCH_BYTES,
        }
    }

    /// The wrapped storage. Writing to it directly goes round the order that this layer keeps.
    #[must_use]
    pub fn inner(&self) -> &S {
        &self.shared.storage
    }
}

impl<S> Builder<S> {
    /// How many entries a batch has at most unless told otherwise.
    pub const MAX_BATCH: usize = 256;

    /// How many bytes of keys and values a batch has at most unless told otherwise: 4 MiB.
    pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

    /// How many batches may be under way at once, each with its own share of the keys; at least one.
    #[must_use]
    pub fn lanes(mut self, lanes: usize) -> Self {
        self.lanes = lanes.max(1);
        self
    }

    /// How many entries a batch has at most; at least one.
    #[must_use]
    pub fn max_batch(mut self, entries: usize) -> Self {
        self.max_batch = entries.max(1);
        self
    }

    /// How many bytes of keys and values a batch has at most. A larger entry goes alone.
    #[must_use]
    pub const fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.max_batch_bytes = bytes;
        self
    }
}

impl<S: Storage + 'static> Builder<S> {
    /// The storage with group commit.
    #[must_use]
    pub fn build(self) -> Coalesce<S> {
        let lanes = (0..self.lanes).map(|_| Lane::default()).collect();
        Coalesce {
            shared: Arc::new(Shared {
                storage: self.storage,
                lanes,
                hasher: RandomState::new(),
                max_batch: self.max_batch,
                max_batch_bytes: self.max_batch_bytes,
                tasks: Mutex::default(),
            }),
        }
    }
}

/// What the handle and its tasks have in common.
struct Shared<S> {
    storage: S,
    lanes: Box<[Lane]>,
    hasher: RandomState,
    max_batch: usize,
    max_batch_bytes: usize,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    abandoned: bool,
    running: Vec<AbortHandle>,
}

impl<S: Storage + 'static> Shared<S> {
    fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key.as_bytes())
    }

    /// The number of the lane of a key with this hash.
    fn lane_of(&self, hash: u64) -> usize {
        // The remainder is below the number of lanes, which is a usize.
        usize::try_from(hash % self.lanes.len() as u64).unwrap_or(0)
    }

    /// Runs `task` on `runtime`, until the storage is dropped at the latest.
    fn spawn(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
        // Not under the lock: a runtime that is shutting down drops the task here and now.
        let handle = runtime.spawn(task).abort_handle();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if tasks.abandoned {
            handle.abort();
            return;
        }
        tasks.running.retain(|task| !task.is_finished());
        tasks.running.push(handle);
    }

    fn lost(&self, operation: Operation) -> Error {
        Error::new(
            ErrorKind::Unavailable,
            "the task that was writing ended before it could answer; the write may or may not have happened",
        )
        .with_adapter(self.storage.name())
        .with_operation(operation)
    }
}

impl<S: Storage + 'static> Drop for Coalesce<S> {
    fn drop(&mut self) {
        let running = {
            let mut tasks = self.shared.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.abandoned = true;
            std::mem::take(&mut tasks.running)
        };
        for task in running {
            task.abort();
        }
    }
}

impl<S: Storage + 'static> fmt::Debug for Coalesce<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coalesce")
            .field("storage", &self.shared.storage)
            .field("lanes", &self.shared.lanes.len())
            .field("max_batch", &self.shared.max_batch)
            .field("max_batch_bytes", &self.shared.max_batch_bytes)
            .finish()
    }
}

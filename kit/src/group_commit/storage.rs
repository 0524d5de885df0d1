//! The storage with group commit.

use std::{fmt, sync::Arc};

use futures_util::future::try_join_all;
use larder_core::{
    Applied, Bytes, Change, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions, Location,
    ReadOptions, Record, Result, Storage, TouchOptions, WriteOptions, Written, async_trait,
};

use super::{
    batch::{ApplyCall, Barrier, Work},
    lane::{Lane, Shared, callers_runtime, lock, lost},
    runtime::{Mutex, RandomState, oneshot},
};

/// A storage whose concurrent changes share a commit. While one batch runs, the next changes gather. Then they go
/// to the wrapped storage's [`apply`](Storage::apply) as one batch, whatever their kinds and conditions are.
///
/// # Guarantees
///
/// - **No added delay.** There is no timer: an idle storage receives a change immediately.
/// - **Acknowledged means stored.** A call returns `Ok` only after its batch has finished.
/// - **Order.** Changes of one key happen in the order in which their calls were first polled, including changes
///   whose futures were dropped later. A [`clear`](Storage::clear) comes after all changes that were called before
///   it, and before all changes that are called after it.
/// - **A bad entry fails alone.** Each caller receives the wrapped storage's result for its own change.
/// - **Cancellation.** If its future is dropped while a change is queued, the change does not happen. If the change
///   has already begun, it runs to its end, and so do the others in its batch. The same holds for a `clear`.
/// - **Bounded memory.** The queues contain only changes whose callers still wait.
/// - **One batch per lane.** The keys are distributed over [`max_batches`](Builder::max_batches) lanes, and each
///   lane runs one batch at a time. Each key therefore has one writer.
/// - **Several runtimes.** If the runtime of a batch ends, its callers receive an error whose
///   [outcome](larder_core::Error::outcome) is unknown, and the runtime of another caller continues.
/// - **`flush` and `close`** wait for the changes that were called before them. Dropping the storage does not wait:
///   the running batches finish in the background.
///
/// Reads and listings go directly to the wrapped storage, and do not see queued changes. A read that
/// [touches](ReadOptions::touch) is queued like a touch, and shares its commit with others.
///
/// Changes must be called within a tokio runtime.
///
/// ```
/// use larder_core::{Result, Storage, Store};
/// use larder_kit::GroupCommit;
///
/// async fn wrap(storage: impl Storage) -> Result<()> {
///     let store = Store::from(GroupCommit::builder(storage).max_batches(2).max_batch(128).build());
///     // These two may share a batch.
///     let (first, second) = futures_util::join!(
///         async { store.write("ada", "1").await },
///         async { store.write("bob", "2").await },
///     );
///     first.and(second).map(drop)
/// }
/// ```
pub struct GroupCommit<S: Storage> {
    shared: Arc<Shared<S>>,
}

/// Configures a [`GroupCommit`].
#[derive(Debug)]
pub struct Builder<S> {
    storage: Arc<S>,
    max_batches: usize,
    max_batch: usize,
    max_batch_bytes: usize,
}

impl<S: Storage> GroupCommit<S> {
    /// Wraps `storage` with the default configuration: one batch at a time, with at most [`Builder::MAX_BATCH`]
    /// changes and [`Builder::MAX_BATCH_BYTES`] bytes.
    #[must_use]
    pub fn new(storage: impl Into<Arc<S>>) -> Self {
        Self::builder(storage).build()
    }

    /// Creates a builder that wraps `storage`.
    #[must_use]
    pub fn builder(storage: impl Into<Arc<S>>) -> Builder<S> {
        Builder {
            storage: storage.into(),
            max_batches: 1,
            max_batch: Builder::<S>::MAX_BATCH,
            max_batch_bytes: Builder::<S>::MAX_BATCH_BYTES,
        }
    }

    /// Returns the wrapped storage. Direct changes of it bypass the order of the group commit.
    #[must_use]
    pub fn inner(&self) -> &Arc<S> {
        &self.shared.storage
    }
}

impl<S> Builder<S> {
    /// The default of [`max_batch`](Builder::max_batch).
    pub const MAX_BATCH: usize = 256;

    /// The default of [`max_batch_bytes`](Builder::max_batch_bytes): 4 MiB.
    pub const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;

    /// Sets the maximum number of concurrent batches. Each has its own part of the keys. Minimum and default: 1.
    #[must_use]
    pub fn max_batches(mut self, batches: usize) -> Self {
        self.max_batches = batches.max(1);
        self
    }

    /// Sets the maximum number of changes in a batch. Minimum: 1. Default: [`MAX_BATCH`](Self::MAX_BATCH).
    #[must_use]
    pub fn max_batch(mut self, changes: usize) -> Self {
        self.max_batch = changes.max(1);
        self
    }

    /// Sets the maximum number of bytes of keys and values in a batch. A larger change is sent alone. Default:
    /// [`MAX_BATCH_BYTES`](Self::MAX_BATCH_BYTES).
    #[must_use]
    pub const fn max_batch_bytes(mut self, bytes: usize) -> Self {
        self.max_batch_bytes = bytes;
        self
    }
}

impl<S: Storage> Builder<S> {
    /// Creates the storage with group commit.
    #[must_use]
    pub fn build(self) -> GroupCommit<S> {
        let Self { storage, max_batches, max_batch, max_batch_bytes } = self;
        let lanes = (0..max_batches).map(|_| Lane::default()).collect();
        let (hasher, barriers) = (RandomState::new(), Mutex::new(()));
        let shared = Shared { storage, lanes, max_batch, max_batch_bytes, hasher, barriers };
        GroupCommit { shared: Arc::new(shared) }
    }
}

impl<S: Storage> GroupCommit<S> {
    async fn change(&self, change: Change) -> Result<Applied> {
        let lane = self.shared.lane_of(&change.key);
        let work = |reply| Work::Change(change, None, reply);
        self.shared.enqueue(lane, work)?.answer().await?
    }

    /// Waits until all earlier calls are done.
    async fn wait_for_earlier_calls(&self) -> Result<()> {
        let reached = self.barriers(|| None)?;
        try_join_all(reached).await.map(drop).map_err(|_| lost().not_applied())
    }

    /// Puts a barrier into each lane. Returns one signal per barrier, which is sent when the lane reaches it.
    fn barriers(
        &self,
        mut resume: impl FnMut() -> Option<oneshot::Receiver<()>>,
    ) -> Result<Vec<oneshot::Receiver<()>>> {
        let _one_at_a_time = lock(&self.shared.barriers);
        let lanes = 0..self.shared.lanes.len();
        let barriers = lanes.map(|lane| {
            let (reached, signal) = oneshot::channel();
            self.shared.push(lane, [Work::Barrier(Barrier { reached, resume: resume() })])?;
            Ok(signal)
        });
        barriers.collect()
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Storage> Storage for GroupCommit<S> {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        if options.touch.is_none() {
            return self.shared.storage.read(key, options).await;
        }
        let work = |reply| Work::Read(key.clone(), *options, reply);
        self.shared.enqueue(self.shared.lane_of(key), work)?.answer().await?
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let change = Change::put(key.clone(), value, options.expiry).on(options.condition.clone());
        self.change(change).await.map(Applied::written)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let change = Change::delete(key.clone()).on(options.condition.clone());
        self.change(change).await.map(|applied| applied.existed())
    }

    fn info(&self) -> Info {
        self.shared.storage.info()
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let change = Change::touch(key.clone(), expiry).on(options.condition.clone());
        self.change(change).await.map(|applied| applied.existed())
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        if options.touch.is_none() {
            return self.shared.storage.read_many(keys, options).await;
        }
        let works = keys.iter().map(|key| (key.clone(), |reply| Work::Read(key.clone(), *options, reply)));
        self.shared.enqueue_many(works).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let call = ApplyCall::Some(Arc::default());
        let works = changes.into_iter().map(|change| {
            let (key, call) = (change.key.clone(), call.clone());
            (key, |reply| Work::Change(change, call, reply))
        });
        self.shared.enqueue_many(works).await
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        Arc::clone(&self.shared.storage).list(options)
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        let runtime = callers_runtime()?;
        let mut held = Vec::with_capacity(self.shared.lanes.len());
        let reached = self.barriers(|| {
            let (hold, resume) = oneshot::channel();
            held.push(hold);
            Some(resume)
        })?;
        let (reply, answer) = oneshot::channel();
        let (storage, prefix) = (Arc::clone(&self.shared.storage), prefix.to_owned());
        // Runs in a task: the lanes must not depend on a caller that may stop polling.
        runtime.spawn(async move {
            if try_join_all(reached).await.is_ok() && !reply.is_closed() {
                let cleared = storage.clear(&prefix).await;
                drop(held);
                // The caller may have dropped its future: then the answer is dropped.
                let _ = reply.send(cleared);
            }
        });
        answer.await.map_err(|_| lost())?
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.shared.storage.purge_expired().await
    }

    async fn ping(&self) -> Result<()> {
        self.shared.storage.ping().await
    }

    async fn location(&self) -> Result<Option<Location>> {
        self.shared.storage.location().await
    }

    async fn flush(&self) -> Result<()> {
        self.wait_for_earlier_calls().await?;
        self.shared.storage.flush().await
    }

    async fn close(&self) -> Result<()> {
        self.wait_for_earlier_calls().await?;
        self.shared.storage.close().await
    }
}

impl<S: Storage> fmt::Debug for GroupCommit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupCommit")
            .field("adapter", &self.shared.storage.info().name)
            .field("max_batches", &self.shared.lanes.len())
            .field("max_batch", &self.shared.max_batch)
            .field("max_batch_bytes", &self.shared.max_batch_bytes)
            .finish()
    }
}

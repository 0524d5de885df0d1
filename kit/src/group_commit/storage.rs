//! The storage with group commit.

use std::{collections::HashSet, fmt, sync::Arc};

use larder_core::{
    Action, Applied, Bytes, Change, Condition, DeleteOptions, EntryStream, Error, ErrorKind, Expiry, Info,
    Key, ListOptions, Location, ReadOptions, Record, Result, Storage, TouchOptions, WriteOptions, Written,
    async_trait,
};
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    direct::Direct,
    guard::LaneGuard,
    in_flight::Reach,
    lane::Moving,
    pending::{Group, Outcomes, Pending, Put, Queued, Reply},
    run_to_end::RunToEnd,
    shared::{Shared, lost},
    slot::Slot,
};

/// A storage whose concurrent writes share a commit: while one batch is under way the next one gathers,
/// and then goes to the wrapped storage's [`apply`](Storage::apply) as a whole.
///
/// # Guarantees
///
/// - **No added delay.** On an idle storage a write runs at once, in its caller's own task. The first that
///   has to wait for it moves it to a task, so that no caller depends on a future that another one may
///   have stopped polling.
/// - **Acknowledged means stored.** A write is ready with `Ok` only once its batch is.
/// - **Order.** Writes of one key happen in the order in which they were called. A deletion, a touch, a
///   write on a condition, a `clear` or an `apply` of such changes does not overtake an earlier write of
///   the same key, even one whose future has been dropped.
/// - **A bad entry fails alone.** Each caller gets the result that the wrapped storage has for its change.
/// - **Cancellation.** A write whose future is dropped while it is queued is taken out. Once it is under
///   way it runs to its end, together with the others in its batch, so that it cannot overtake a later
///   one. Any other change that is dropped while it is under way also runs to its end, and later changes
///   of its keys (after a `clear`, of any key) wait for it, as do `flush` and `close`. Outside a tokio
///   runtime it is merely dropped.
/// - **One batch per lane.** Keys are spread over as many lanes as there may be
///   [batches](Builder::max_batches) under way, so that each key has one writer. A batch names each key
///   once (of several writes of one key it keeps the last, and all are acknowledged), sorted by key: two
///   processes that lock rows in the order of a batch do not deadlock.
/// - **`close`** waits for the writes that were called before it. Dropping the storage aborts those that
///   are still under way and have lost their callers.
///
/// Reads and listings pass through; they do not see queued writes. A read that
/// [touches](ReadOptions::touch) counts as a touch.
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
    /// `storage` with group commit: one batch at a time, of at most [`Builder::MAX_BATCH`] entries and
    /// about [`Builder::MAX_BATCH_BYTES`].
    #[must_use]
    pub fn new(storage: impl Into<Arc<S>>) -> Self {
        Self::builder(storage).build()
    }

    /// `storage` with group commit, to be configured.
    #[must_use]
    pub fn builder(storage: impl Into<Arc<S>>) -> Builder<S> {
        Builder {
            storage: storage.into(),
            max_batches: 1,
            max_batch: Builder::<S>::MAX_BATCH,
            max_batch_bytes: Builder::<S>::MAX_BATCH_BYTES,
        }
    }

    /// The wrapped storage. Writing to it directly bypasses the order that the group commit keeps.
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

    /// How many batches may be under way at once, each with its own share of the keys. At least one, which
    /// is the default.
    #[must_use]
    pub fn max_batches(mut self, batches: usize) -> Self {
        self.max_batches = batches.max(1);
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

impl<S: Storage> Builder<S> {
    /// The storage with group commit.
    #[must_use]
    pub fn build(self) -> GroupCommit<S> {
        let shared = Shared::new(self.storage, self.max_batches, self.max_batch, self.max_batch_bytes);
        GroupCommit { shared: Arc::new(shared) }
    }
}

/// How a write goes.
enum Route {
    Direct(Arc<Slot>),
    Queued(oneshot::Receiver<Result<Written>>, Option<Moving>),
}

/// Waits for operations in flight to be done.
async fn outlast(operations: Vec<oneshot::Receiver<()>>) {
    for operation in operations {
        // Whether it is notified or dropped: the operation is done.
        let _ = operation.await;
    }
}

impl<S: Storage> GroupCommit<S> {
    /// Waits until no earlier write of a key with this hash is queued or under way, and no operation is in
    /// flight that may change it.
    async fn settle(&self, hash: u64) -> Result<()> {
        loop {
            let (operations, writes) = {
                let mut state = self.shared.lanes[self.shared.lane_of(hash)].lock();
                let operations = state.in_flight.wait_for(Some(hash));
                let behind = operations.is_empty() && state.is_writing(hash);
                (operations, if behind { state.barrier() } else { None })
            };
            if operations.is_empty() {
                return self.pass(writes).await;
            }
            outlast(operations).await;
            // The writes that waited for them, too, are queued by now.
        }
    }

    /// Waits until everything that is queued, under way or in flight now is done.
    async fn settle_all(&self) -> Result<()> {
        for lane in &self.shared.lanes {
            let operations = lane.lock().in_flight.wait_for(None);
            outlast(operations).await;
            let waiting = lane.lock().barrier();
            self.pass(waiting).await?;
        }
        Ok(())
    }

    async fn pass(&self, waiting: Option<(oneshot::Receiver<()>, Option<Moving>)>) -> Result<()> {
        let Some((waiting, moving)) = waiting else {
            return Ok(());
        };
        self.shared.move_to_task(moving);
        // The operation that waits has not been sent.
        waiting.await.map_err(|_| lost().not_applied())
    }

    /// Settles `key`, and then runs an operation on the storage so that it comes to its end.
    async fn run<T, F>(&self, key: &Key, call: impl FnOnce(Arc<S>, Key) -> F + Send) -> Result<T>
    where
        T: 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let hash = self.shared.hash(key);
        self.settle(hash).await?;
        let call = call(Arc::clone(&self.shared.storage), key.clone());
        RunToEnd::new(&self.shared, Reach::Key(hash), call).await
    }

    /// As [`run`](Self::run), for several keys.
    async fn run_many<'a, T, F>(
        &self,
        keys: impl Iterator<Item = &'a Key> + Send,
        call: impl FnOnce(Arc<S>) -> F + Send,
    ) -> Result<T>
    where
        T: 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let hashes: Arc<[u64]> = keys.map(|key| self.shared.hash(key)).collect();
        for hash in &*hashes {
            self.settle(*hash).await?;
        }
        let call = call(Arc::clone(&self.shared.storage));
        Ok(RunToEnd::new(&self.shared, Reach::Keys(hashes), call).await)
    }

    /// Writes at once if the lane is idle, and queues otherwise.
    fn route(&self, put: Put) -> Result<Route> {
        let hash = self.shared.hash(&put.key);
        let lane = self.shared.lane_of(hash);
        let mut state = self.shared.lanes[lane].lock();
        // Not before it is needed: most writes find the lane idle.
        let pending = |put| {
            let (reply, outcome) = oneshot::channel();
            (Pending { hash, put, reply: Reply::One(reply) }, outcome)
        };
        if state.in_flight.concern(hash) {
            let runtime = Handle::try_current().map_err(|_| no_runtime())?;
            let (pending, outcome) = pending(put);
            state.in_flight.hold(pending, runtime);
            return Ok(Route::Queued(outcome, None));
        }
        if state.busy {
            if !state.remember_runtime() {
                return Err(no_runtime());
            }
            let (pending, outcome) = pending(put);
            let moving = state.push([Queued::Write(pending)]);
            return Ok(Route::Queued(outcome, moving));
        }
        let guard = LaneGuard::new(Arc::clone(&self.shared), lane);
        let slot = Slot::new(async move { put.write_to(guard.storage()).await });
        state.busy = true;
        state.running.push(hash);
        state.direct = Some(Arc::clone(&slot));
        Ok(Route::Direct(slot))
    }

    /// Applies changes that do not join the lanes, in their order, after the earlier writes of their keys.
    async fn apply_in_order(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        if changes.is_empty() {
            return Vec::new();
        }
        let keys: Vec<Key> = changes.iter().map(|change| change.key.clone()).collect();
        let call = |storage: Arc<S>| async move { storage.apply(changes).await };
        let applied = self.run_many(keys.iter(), call).await;
        applied.unwrap_or_else(|error| keys.iter().map(|_| Err(error.clone())).collect())
    }

    /// Queues `puts`, each with its place in the caller's batch, and has every lane concerned served.
    fn enqueue(&self, puts: Vec<(usize, Put)>) -> Result<Option<oneshot::Receiver<Outcomes>>> {
        if puts.is_empty() {
            return Ok(None);
        }
        let runtime = Handle::try_current().map_err(|_| no_runtime())?;
        let mut by_lane: Vec<Vec<Pending>> = self.shared.lanes.iter().map(|_| Vec::new()).collect();
        let (group, outcomes) = Group::new(puts.len());
        for (place, put) in puts {
            let hash = self.shared.hash(&put.key);
            let reply = Reply::Part { place, group: Arc::clone(&group) };
            by_lane[self.shared.lane_of(hash)].push(Pending { hash, put, reply });
        }
        for (number, pending) in by_lane.into_iter().enumerate().filter(|(_, pending)| !pending.is_empty()) {
            let moving;
            let idle = {
                let mut state = self.shared.lanes[number].lock();
                let mut free = Vec::with_capacity(pending.len());
                for pending in pending {
                    if state.in_flight.concern(pending.hash) {
                        state.in_flight.hold(pending, runtime.clone());
                    } else {
                        free.push(Queued::Write(pending));
                    }
                }
                if free.is_empty() {
                    continue;
                }
                moving = state.push(free);
                !std::mem::replace(&mut state.busy, true)
            };
            self.shared.move_to_task(moving);
            if idle {
                LaneGuard::serve(Arc::clone(&self.shared), number, &runtime);
            }
        }
        Ok(Some(outcomes))
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Storage> Storage for GroupCommit<S> {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        if options.touch.is_none() {
            return self.shared.storage.read(key, options).await;
        }
        let options = *options;
        self.run(key, |storage, key| async move { storage.read(&key, &options).await }).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        if options.condition != Condition::Any {
            let options = options.clone();
            let call = |storage: Arc<S>, key| async move { storage.write(&key, value, &options).await };
            return self.run(key, call).await;
        }
        match self.route(Put { key: key.clone(), value, expiry: options.expiry })? {
            Route::Direct(slot) => Direct::new(&self.shared, slot).await,
            Route::Queued(outcome, moving) => {
                self.shared.move_to_task(moving);
                outcome.await.unwrap_or_else(|_| Err(lost()))
            }
        }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let options = options.clone();
        self.run(key, |storage, key| async move { storage.delete(&key, &options).await }).await
    }

    fn info(&self) -> Info {
        self.shared.storage.info()
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let options = options.clone();
        self.run(key, |storage, key| async move { storage.touch(&key, expiry, &options).await }).await
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        if options.touch.is_none() {
            return self.shared.storage.read_many(keys, options).await;
        }
        let (sent, options) = (keys.to_vec(), *options);
        let call = |storage: Arc<S>| async move { storage.read_many(&sent, &options).await };
        let records = self.run_many(keys.iter(), call).await;
        records.unwrap_or_else(|error| keys.iter().map(|_| Err(error.clone())).collect())
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let is_put =
            |change: &Change| matches!(change.action, Action::Put(..)) && change.condition == Condition::Any;
        // A put joins the lanes unless the batch has another change of its key, whose order it keeps.
        let ordered: HashSet<Key> =
            changes.iter().filter(|change| !is_put(change)).map(|change| change.key.clone()).collect();
        let mut results: Vec<Option<Result<Applied>>> = changes.iter().map(|_| None).collect();
        let (mut puts, mut others, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for (place, change) in changes.into_iter().enumerate() {
            match change {
                Change { key, action: Action::Put(value, expiry), .. } if !ordered.contains(&key) => {
                    puts.push((place, Put { key, value, expiry }));
                }
                change => {
                    others.push(change);
                    places.push(place);
                }
            }
        }
        let queued = self.enqueue(puts);
        for (place, result) in places.into_iter().zip(self.apply_in_order(others).await) {
            results[place] = Some(result);
        }
        let written = match queued {
            Ok(Some(outcomes)) => outcomes.await.map_err(|_| lost()),
            Ok(None) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        // Of the puts, unless each has its own result.
        let error = written.as_ref().err().cloned();
        for (place, outcome) in written.unwrap_or_default() {
            results[place] = Some(outcome.map(Applied::Put));
        }
        let missing = || Err(error.clone().unwrap_or_else(lost));
        results.into_iter().map(|result| result.unwrap_or_else(missing)).collect()
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        Arc::clone(&self.shared.storage).list(options)
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        self.settle_all().await?;
        let (storage, prefix) = (Arc::clone(&self.shared.storage), prefix.to_owned());
        let call = async move { storage.clear(&prefix).await };
        RunToEnd::new(&self.shared, Reach::Everything, call).await
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
        self.settle_all().await?;
        self.shared.storage.flush().await
    }

    async fn close(&self) -> Result<()> {
        self.settle_all().await?;
        self.shared.storage.close().await
    }
}

fn no_runtime() -> Error {
    let message = "concurrent writes are grouped in a tokio task; call this within a tokio runtime";
    Error::new(ErrorKind::InvalidConfig, message)
}

impl<S: Storage> Drop for GroupCommit<S> {
    fn drop(&mut self) {
        self.shared.abandon();
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

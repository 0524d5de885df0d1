//! The storage that the layer is.

use std::sync::Arc;

use larder_core::{
    Bytes, Capabilities, Condition, EntryStream, Error, ErrorKind, Expiry, Key, KeyStream, Operation, Record,
    Result, Storage, Version, Write, async_trait,
};
use tokio::sync::oneshot;

use super::{
    Coalesce, Shared,
    direct::{Direct, Slot},
    lane::{Moving, Pending, Queued},
    reply::{Group, Reply},
    straggler::{Carried, Reach},
    turn::Turn,
};

/// How a write goes.
enum Route {
    Direct(Arc<Slot>),
    Queued(oneshot::Receiver<Result<()>>, Option<Moving>),
}

/// Waits for stragglers to be done.
async fn outlast(stragglers: Vec<oneshot::Receiver<()>>) {
    for straggler in stragglers {
        // Told or dropped, it is done.
        let _ = straggler.await;
    }
}

impl<S: Storage + 'static> Coalesce<S> {
    /// Waits until no earlier write of a key with this hash is queued or under way, and no straggler
    /// that may change it.
    async fn settle(&self, hash: u64, operation: Operation) -> Result<()> {
        loop {
            let (stragglers, writes) = {
                let mut state = self.shared.lanes[self.shared.lane_of(hash)].lock();
                if state.closed {
                    return Err(Error::closed().with_adapter(self.name()).with_operation(operation));
                }
                let stragglers = state.stragglers.wait_for(Some(hash));
                let behind = stragglers.is_empty() && state.is_writing(hash);
                (stragglers, if behind { state.barrier() } else { None })
            };
            if stragglers.is_empty() {
                return self.pass(writes, operation).await;
            }
            outlast(stragglers).await;
            // The writes that waited for them, too, are queued by now.
        }
    }

    /// Waits until everything that is queued or under way now is done, stragglers included.
    async fn settle_all(&self, operation: Operation, last: bool) -> Result<()> {
        for lane in &self.shared.lanes {
            lane.lock().closed |= last;
        }
        for lane in &self.shared.lanes {
            let stragglers = lane.lock().stragglers.wait_for(None);
            outlast(stragglers).await;
            let waiting = lane.lock().barrier();
            self.pass(waiting, operation).await?;
        }
        Ok(())
    }

    /// Settles `key`, and then runs what `call` makes of the storage so that it comes to its end.
    async fn run<T, F>(
        &self,
        key: &Key,
        operation: Operation,
        call: impl FnOnce(Arc<Shared<S>>, Key) -> F + Send,
    ) -> Result<T>
    where
        T: 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let hash = self.shared.hash(key);
        self.settle(hash, operation).await?;
        let call = call(Arc::clone(&self.shared), key.clone());
        Carried::new(&self.shared, Reach::Key(hash), call).await
    }

    async fn pass(
        &self,
        waiting: Option<(oneshot::Receiver<()>, Option<Moving>)>,
        operation: Operation,
    ) -> Result<()> {
        let Some((waiting, moving)) = waiting else {
            return Ok(());
        };
        self.move_to_task(moving);
        waiting.await.map_err(|_| self.shared.lost(operation))
    }

    fn move_to_task(&self, moving: Option<Moving>) {
        if let Some((slot, runtime)) = moving {
            self.shared.move_to_task(&slot, &runtime);
        }
    }

    fn refuse_if_closed(&self, operation: Operation) -> Result<()> {
        if self.shared.lanes.iter().any(|lane| lane.lock().closed) {
            return Err(Error::closed().with_adapter(self.name()).with_operation(operation));
        }
        Ok(())
    }

    fn no_runtime(&self, operation: Operation) -> Error {
        Error::new(
            ErrorKind::InvalidConfig,
            "concurrent writes are grouped in a tokio task; call this within a tokio runtime",
        )
        .with_adapter(self.name())
        .with_operation(operation)
    }

    /// Queues `writes`, and sees to it that every lane concerned is served.
    fn enqueue_many(&self, writes: &[Write]) -> Result<oneshot::Receiver<Vec<larder_core::Failure>>> {
        let runtime =
            tokio::runtime::Handle::try_current().map_err(|_| self.no_runtime(Operation::WriteMany))?;
        let mut by_lane: Vec<Vec<Pending>> = self.shared.lanes.iter().map(|_| Vec::new()).collect();
        let (group, failures) = Group::new(writes.len());
        for (index, write) in writes.iter().enumerate() {
            let hash = self.shared.hash(&write.key);
            let reply = Reply::Part { index, group: Arc::clone(&group) };
            by_lane[self.shared.lane_of(hash)].push(Pending { hash, write: write.clone(), reply });
        }
        for (number, pending) in by_lane.into_iter().enumerate().filter(|(_, pending)| !pending.is_empty()) {
            let moving;
            let idle = {
                let mut state = self.shared.lanes[number].lock();
                if state.closed {
                    return Err(Error::closed()
                        .with_adapter(self.name())
                        .with_operation(Operation::WriteMany));
                }
                let mut free = Vec::with_capacity(pending.len());
                for pending in pending {
                    if state.stragglers.concern(pending.hash) {
                        state.stragglers.hold(pending, runtime.clone());
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
            self.move_to_task(moving);
            if idle {
                Turn::serve(Arc::clone(&self.shared), number, &runtime);
            }
        }
        Ok(failures)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl<S: Storage + 'static> Storage for Coalesce<S> {
    fn name(&self) -> &'static str {
        self.shared.storage.name()
    }

    fn capabilities(&self) -> Capabilities {
        self.shared.storage.capabilities()
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.shared.storage.read(key).await
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        let hash = self.shared.hash(key);
        let lane = self.shared.lane_of(hash);
        let route = {
            let mut state = self.shared.lanes[lane].lock();
            if state.closed {
                return Err(Error::closed().with_adapter(self.name()).with_operation(Operation::Write));
            }
            if state.stragglers.concern(hash) {
                let runtime =
                    tokio::runtime::Handle::try_current().map_err(|_| self.no_runtime(Operation::Write))?;
                let (reply, outcome) = oneshot::channel();
                let write = Write::new(key.clone(), value, expiry);
                state.stragglers.hold(Pending { hash, write, reply: Reply::One(reply) }, runtime);
                Route::Queued(outcome, None)
            } else if state.busy {
                if !state.has_runtime() {
                    return Err(self.no_runtime(Operation::Write));
                }
                let (reply, outcome) = oneshot::channel();
                let write = Write::new(key.clone(), value, expiry);
                let moving = state.push([Queued::Write(Pending { hash, write, reply: Reply::One(reply) })]);
                Route::Queued(outcome, moving)
            } else {
                let turn = Turn::new(Arc::clone(&self.shared), lane);
                let key = key.clone();
                let slot = Slot::new(async move { turn.storage().write(&key, value, expiry).await });
                state.busy = true;
                state.running.push(hash);
                state.direct = Some(Arc::clone(&slot));
                Route::Direct(slot)
            }
        };
        match route {
            Route::Direct(slot) => Direct::new(&self.shared, slot).await,
            Route::Queued(outcome, moving) => {
                self.move_to_task(moving);
                outcome.await.unwrap_or_else(|_| Err(self.shared.lost(Operation::Write)))
            }
        }
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.run(key, Operation::Delete, |shared, key| async move { shared.storage.delete(&key).await }).await
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        self.run(key, Operation::WriteIf, |shared, key| async move {
            shared.storage.write_if(&key, value, expiry, condition).await
        })
        .await
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        let version = version.clone();
        self.run(key, Operation::DeleteIf, |shared, key| async move {
            shared.storage.delete_if(&key, &version).await
        })
        .await
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        self.run(key, Operation::Touch, |shared, key| async move { shared.storage.touch(&key, expiry).await })
            .await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        self.shared.storage.ttl(key).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.shared.storage.contains(key).await
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        self.shared.storage.read_many(keys).await
    }

    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        if writes.is_empty() {
            return self.refuse_if_closed(Operation::WriteMany);
        }
        let failures = self.enqueue_many(writes)?;
        let mut failures = failures.await.map_err(|_| self.shared.lost(Operation::WriteMany))?;
        // Where all failed for one reason that is nobody's own, that is the error: it says more to
        // a caller than a list of its duplicates.
        if failures.len() == writes.len()
            && let Some(kind) = failures.first().map(|failure| failure.error.kind())
            && !matches!(kind, ErrorKind::InvalidKey | ErrorKind::InvalidValue | ErrorKind::TooLarge)
            && failures.iter().all(|failure| failure.error.kind() == kind)
        {
            return Err(failures.swap_remove(0).error);
        }
        if failures.is_empty() {
            return Ok(());
        }
        Err(Error::partial(failures, writes.len())
            .with_adapter(self.name())
            .with_operation(Operation::WriteMany))
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        let hashes: Arc<[u64]> = keys.iter().map(|key| self.shared.hash(key)).collect();
        for hash in &*hashes {
            self.settle(*hash, Operation::DeleteMany).await?;
        }
        let (shared, keys) = (Arc::clone(&self.shared), keys.to_vec());
        let call = async move { shared.storage.delete_many(&keys).await };
        Carried::new(&self.shared, Reach::Keys(hashes), call).await
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        self.shared.storage.keys(prefix)
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        self.shared.storage.entries(prefix)
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        self.settle_all(Operation::Clear, false).await?;
        let (shared, prefix) = (Arc::clone(&self.shared), prefix.to_owned());
        let call = async move { shared.storage.clear(&prefix).await };
        Carried::new(&self.shared, Reach::Everything, call).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.shared.storage.purge_expired().await
    }

    async fn ping(&self) -> Result<()> {
        self.shared.storage.ping().await
    }

    async fn flush(&self) -> Result<()> {
        self.settle_all(Operation::Flush, false).await?;
        self.shared.storage.flush().await
    }

    async fn close(&self) -> Result<()> {
        self.settle_all(Operation::Close, true).await?;
        self.shared.storage.close().await
    }
}

//! One lane: its queue, and the writes that are under way.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{runtime::Handle, sync::oneshot};

use super::{
    in_flight::InFlight,
    pending::{Pending, Queued},
    slot::Slot,
};

/// A share of the keys, with one batch under way at a time.
#[derive(Default)]
pub(super) struct Lane(Mutex<State>);

/// Locked for a short time only: nothing awaits or calls the storage under the lock.
#[derive(Default)]
pub(super) struct State {
    /// There is a [`LaneGuard`](super::guard::LaneGuard), so others queue.
    pub(super) busy: bool,
    /// The hashes of the keys that are being written.
    pub(super) running: Vec<u64>,
    pub(super) queue: VecDeque<Queued>,
    /// The write that is under way, if its caller runs it.
    pub(super) direct: Option<Arc<Slot>>,
    /// The runtime of the first that queued, in case the guard is dropped outside any.
    pub(super) runtime: Option<Handle>,
    /// Operations that lost their callers, which later ones wait for.
    pub(super) in_flight: InFlight,
}

/// A write that its caller runs, and the runtime to move it to.
pub(super) type Moving = (Arc<Slot>, Handle);

/// The effects of the end of an operation in flight: the callers to notify, a write to move to a task, and
/// the runtime to serve the lane in if it was idle.
pub(super) type Aftermath = (Vec<oneshot::Sender<()>>, Option<Moving>, Option<Handle>);

impl Lane {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a write of a key with this hash is queued or under way. Two keys with one hash count as
    /// the same, at the cost of a needless wait.
    pub(super) fn is_writing(&self, hash: u64) -> bool {
        let waits =
            |queued: &Queued| matches!(queued, Queued::Write(Pending { hash: other, .. }) if *other == hash);
        self.busy
            && (self.running.contains(&hash)
                || self.queue.iter().any(|queued| waits(queued) && !queued.is_cancelled()))
    }

    /// Queues on a busy lane. The caller must move the returned write to a task: others depend on it now.
    pub(super) fn push(&mut self, queued: impl IntoIterator<Item = Queued>) -> Option<Moving> {
        self.remember_runtime();
        self.queue.extend(queued);
        self.direct.take().zip(self.runtime.clone())
    }

    /// Remembers the current runtime; returns whether there is one to serve the queue in.
    pub(super) fn remember_runtime(&mut self) -> bool {
        if self.runtime.is_none() {
            self.runtime = Handle::try_current().ok();
        }
        self.runtime.is_some()
    }

    /// Queues a wait for everything that is queued or under way; `None` if there is nothing.
    pub(super) fn barrier(&mut self) -> Option<(oneshot::Receiver<()>, Option<Moving>)> {
        if !self.busy {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let moving = self.push([Queued::Barrier(sender)]);
        Some((receiver, moving))
    }

    /// Removes an operation in flight, and queues the writes that waited for it alone.
    pub(super) fn finish(&mut self, operation: u64) -> Aftermath {
        let (waiting, released) = self.in_flight.finish(operation);
        // The runtime of the last to come is the one that most likely still runs.
        let Some(runtime) = released.last().map(|held| held.runtime.clone()) else {
            return (waiting, None, None);
        };
        self.runtime.get_or_insert_with(|| runtime.clone());
        let moving = self.push(released.into_iter().map(|held| Queued::Write(held.pending)));
        let idle = !std::mem::replace(&mut self.busy, true);
        (waiting, moving, idle.then_some(runtime))
    }
}

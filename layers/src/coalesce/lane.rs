//! One lane: what is under way on it and what waits.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use larder_core::Write;
use tokio::{runtime::Handle, sync::oneshot};

use super::{direct::Slot, reply::Reply, straggler::Stragglers};

/// A share of the keys, with one batch under way at a time.
#[derive(Default)]
pub(super) struct Lane(Mutex<State>);

/// All of it is short: nothing awaits or calls the storage under the lock.
#[derive(Default)]
pub(super) struct State {
    /// Somebody has the lane's turn (see [`Turn`](super::turn::Turn)), so others queue.
    pub(super) busy: bool,
    /// The storage is closed to new writes.
    pub(super) closed: bool,
    /// The hashes of the keys that are being written.
    pub(super) running: Vec<u64>,
    pub(super) queue: VecDeque<Queued>,
    /// The write that is under way, where its caller runs it.
    pub(super) direct: Option<Arc<Slot>>,
    /// The runtime of the first who queued, should the turn end outside any.
    pub(super) runtime: Option<Handle>,
    /// Operations that lost their callers, which later ones wait for.
    pub(super) stragglers: Stragglers,
}

/// A write that its caller runs, and where it is to run instead.
pub(super) type Moving = (Arc<Slot>, Handle);

/// What the end of a straggler sets off: those to be told, a write to be moved to a task, and the
/// runtime to serve the lane in if it was idle.
pub(super) type Aftermath = (Vec<oneshot::Sender<()>>, Option<Moving>, Option<Handle>);

/// What stands in a lane's queue.
pub(super) enum Queued {
    Write(Pending),
    /// Somebody who waits for everything queued before it.
    Barrier(oneshot::Sender<()>),
}

/// A write that waits for its batch.
pub(super) struct Pending {
    pub(super) hash: u64,
    pub(super) write: Write,
    pub(super) reply: Reply,
}

impl Lane {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether a write of a key with this hash is queued or under way. Two keys with one hash are
    /// taken for the same, at the cost of a needless wait.
    pub(super) fn is_writing(&self, hash: u64) -> bool {
        self.busy
            && (self.running.contains(&hash)
                || self.queue.iter().any(|queued| {
                    matches!(queued, Queued::Write(pending) if pending.hash == hash && !pending.reply.is_cancelled())
                }))
    }

    /// Puts something into the queue of a busy lane. What is returned must be moved to a task: from
    /// now on others depend on it.
    pub(super) fn push(&mut self, queued: impl IntoIterator<Item = Queued>) -> Option<Moving> {
        self.has_runtime();
        self.queue.extend(queued);
        self.direct.take().zip(self.runtime.clone())
    }

    /// Whether there is a runtime to serve the queue in; remembers it.
    pub(super) fn has_runtime(&mut self) -> bool {
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

    /// Strikes out a straggler, and queues the writes that only waited for it.
    pub(super) fn finish(&mut self, straggler: u64) -> Aftermath {
        let (waiting, released) = self.stragglers.finish(straggler);
        // That of the last to come is the one most likely to be still there.
        let Some(runtime) = released.last().map(|held| held.runtime.clone()) else {
            return (waiting, None, None);
        };
        self.runtime.get_or_insert_with(|| runtime.clone());
        let moving = self.push(released.into_iter().map(|held| Queued::Write(held.pending)));
        let idle = !std::mem::replace(&mut self.busy, true);
        (waiting, moving, idle.then_some(runtime))
    }
}

impl Queued {
    pub(super) fn is_cancelled(&self) -> bool {
        match self {
            Self::Write(pending) => pending.reply.is_cancelled(),
            Self::Barrier(waiting) => waiting.is_closed(),
        }
    }
}

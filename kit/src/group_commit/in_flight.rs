//! Operations whose callers went away while they were on their way to the store.
//!
//! Dropping the future of a statement does not call the statement back: it may reach the store after a
//! later one that went over another connection. So such an operation runs to its end in a task, and later
//! operations on its keys wait for it.

use std::{mem, sync::Arc};

use tokio::{runtime::Handle, sync::oneshot};

use super::pending::Pending;

/// The keys, by their hashes, that an operation may change.
#[derive(Clone)]
pub(super) enum Reach {
    Key(u64),
    Keys(Arc<[u64]>),
    Everything,
}

impl Reach {
    fn includes(&self, hash: u64) -> bool {
        match self {
            Self::Key(own) => *own == hash,
            Self::Keys(own) => own.contains(&hash),
            Self::Everything => true,
        }
    }
}

/// The operations in flight that concern one lane, and the writes that wait for them.
#[derive(Default)]
pub(super) struct InFlight {
    operations: Vec<Operation>,
    held: Vec<Held>,
    /// The number of the latest operation.
    latest: u64,
}

struct Operation {
    number: u64,
    reach: Reach,
    waiting: Vec<oneshot::Sender<()>>,
}

/// A write that joins the queue once the operations before it are done.
pub(super) struct Held {
    pub(super) pending: Pending,
    /// The caller's.
    pub(super) runtime: Handle,
    /// The number of the latest operation that it waits for.
    after: u64,
}

impl InFlight {
    pub(super) fn concern(&self, hash: u64) -> bool {
        self.operations.iter().any(|operation| operation.reach.includes(hash))
    }

    /// Keeps a write that operations in flight concern.
    pub(super) fn hold(&mut self, pending: Pending, runtime: Handle) {
        self.held.push(Held { pending, runtime, after: self.latest });
    }

    /// One receiver for each operation that concerns `hash`, or for each of all. It is notified once the
    /// operation is done and the writes that waited for it are queued.
    pub(super) fn wait_for(&mut self, hash: Option<u64>) -> Vec<oneshot::Receiver<()>> {
        self.operations
            .iter_mut()
            .filter(|operation| hash.is_none_or(|hash| operation.reach.includes(hash)))
            .map(|operation| {
                let (sender, receiver) = oneshot::channel();
                operation.waiting.push(sender);
                receiver
            })
            .collect()
    }

    /// Enters an operation; returns its number.
    pub(super) fn begin(&mut self, reach: Reach) -> u64 {
        self.latest = self.latest.wrapping_add(1);
        self.operations.push(Operation { number: self.latest, reach, waiting: Vec::new() });
        self.latest
    }

    /// Removes an operation; returns the callers that waited for it, and the writes that no longer wait
    /// for any.
    pub(super) fn finish(&mut self, number: u64) -> (Vec<oneshot::Sender<()>>, Vec<Held>) {
        let Some(place) = self.operations.iter().position(|operation| operation.number == number) else {
            return Default::default();
        };
        let waiting = self.operations.remove(place).waiting;
        let (held, released) = mem::take(&mut self.held).into_iter().partition(|held| {
            let hash = held.pending.hash;
            self.operations
                .iter()
                .any(|operation| operation.number <= held.after && operation.reach.includes(hash))
        });
        self.held = held;
        (waiting, released)
    }
}

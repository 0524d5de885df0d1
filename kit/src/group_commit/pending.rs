//! Writes that wait for their batch, and how their callers learn the outcome.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use larder_core::{Bytes, Change, Error, Expiry, Key, Result, Storage, WriteOptions, Written};
use tokio::sync::oneshot;

/// A write without a condition.
pub(super) struct Put {
    pub(super) key: Key,
    pub(super) value: Bytes,
    pub(super) expiry: Expiry,
}

impl Put {
    /// How many bytes of key and value it carries.
    pub(super) fn size(&self) -> usize {
        self.key.as_bytes().len().saturating_add(self.value.len())
    }

    pub(super) async fn write_to(self, storage: &impl Storage) -> Result<Written> {
        storage.write(&self.key, self.value, &WriteOptions::new().expiry(self.expiry)).await
    }
}

impl From<Put> for Change {
    fn from(put: Put) -> Self {
        Self::put(put.key, put.value, put.expiry)
    }
}

/// A write that waits for its batch.
pub(super) struct Pending {
    pub(super) hash: u64,
    pub(super) put: Put,
    pub(super) reply: Reply,
}

/// An element of a lane's queue.
pub(super) enum Queued {
    Write(Pending),
    /// A caller that waits for everything queued before it.
    Barrier(oneshot::Sender<()>),
}

impl Queued {
    /// Whether the caller has stopped waiting.
    pub(super) fn is_cancelled(&self) -> bool {
        match self {
            Self::Write(pending) => pending.reply.is_cancelled(),
            Self::Barrier(waiting) => waiting.is_closed(),
        }
    }
}

/// Where the outcome of one queued write goes.
pub(super) enum Reply {
    /// To the caller of a `write`.
    One(oneshot::Sender<Result<Written>>),
    /// To the caller of an `apply`, whose change at `place` this is.
    Part { place: usize, group: Arc<Group> },
}

impl Reply {
    /// Whether the caller has stopped waiting.
    pub(super) fn is_cancelled(&self) -> bool {
        match self {
            Self::One(caller) => caller.is_closed(),
            Self::Part { group, .. } => group.is_cancelled(),
        }
    }

    /// Why the write is not to be sent any more: another one of the same `apply` has found the store gone.
    pub(super) fn gone(&self) -> Option<Error> {
        match self {
            Self::One(_) => None,
            Self::Part { group, .. } => group.lock().gone.clone(),
        }
    }

    pub(super) fn send(self, outcome: Result<Written>) {
        match self {
            // The caller may have gone in the meantime.
            Self::One(caller) => drop(caller.send(outcome)),
            Self::Part { place, group } => group.settle(place, outcome),
        }
    }
}

/// The outcomes of the writes of one `apply`, with their places in it.
pub(super) type Outcomes = Vec<(usize, Result<Written>)>;

/// The writes of one `apply`, which may go with several batches.
pub(super) struct Group(Mutex<Unsettled>);

struct Unsettled {
    open: usize,
    outcomes: Outcomes,
    /// The store could not be reached.
    gone: Option<Error>,
    caller: Option<oneshot::Sender<Outcomes>>,
}

impl Group {
    /// A group of as many writes; the receiver gets their outcomes once all of them are settled.
    pub(super) fn new(writes: usize) -> (Arc<Self>, oneshot::Receiver<Outcomes>) {
        let (sender, receiver) = oneshot::channel();
        let outcomes = Vec::with_capacity(writes);
        let unsettled = Unsettled { open: writes, outcomes, gone: None, caller: Some(sender) };
        (Arc::new(Self(Mutex::new(unsettled))), receiver)
    }

    fn lock(&self) -> MutexGuard<'_, Unsettled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_cancelled(&self) -> bool {
        self.lock().caller.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn settle(&self, place: usize, outcome: Result<Written>) {
        let mut unsettled = self.lock();
        if let (None, Err(error)) = (&unsettled.gone, &outcome) {
            unsettled.gone = error.unsent();
        }
        unsettled.outcomes.push((place, outcome));
        unsettled.open = unsettled.open.saturating_sub(1);
        if unsettled.open == 0
            && let Some(caller) = unsettled.caller.take()
        {
            drop(caller.send(std::mem::take(&mut unsettled.outcomes)));
        }
    }
}

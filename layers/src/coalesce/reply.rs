//! How the callers of a batch learn its outcome.

use std::sync::{Arc, Mutex, PoisonError};

use larder_core::{Failure, Result};
use tokio::sync::oneshot;

/// Where the outcome of one queued write goes.
pub(super) enum Reply {
    /// To the caller of a `write`.
    One(oneshot::Sender<Result<()>>),
    /// To the caller of a `write_many`, of which this is one entry.
    Part { index: usize, group: Arc<Group> },
}

impl Reply {
    /// Whether the caller has stopped waiting.
    pub(super) fn is_cancelled(&self) -> bool {
        match self {
            Self::One(caller) => caller.is_closed(),
            Self::Part { group, .. } => group.is_cancelled(),
        }
    }

    pub(super) fn send(self, outcome: Result<()>) {
        match self {
            // The caller may have gone meanwhile; nobody else wants to know.
            Self::One(caller) => drop(caller.send(outcome)),
            Self::Part { index, group } => group.settle(index, outcome),
        }
    }
}

/// The entries of one `write_many`, which may go with several batches.
pub(super) struct Group(Mutex<Outcomes>);

struct Outcomes {
    open: usize,
    failures: Vec<Failure>,
    caller: Option<oneshot::Sender<Vec<Failure>>>,
}

impl Group {
    /// A group of `entries`; the receiver gets its failures once all of them are settled.
    pub(super) fn new(entries: usize) -> (Arc<Self>, oneshot::Receiver<Vec<Failure>>) {
        let (sender, receiver) = oneshot::channel();
        let outcomes = Outcomes { open: entries, failures: Vec::new(), caller: Some(sender) };
        (Arc::new(Self(Mutex::new(outcomes))), receiver)
    }

    fn is_cancelled(&self) -> bool {
        let outcomes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.caller.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn settle(&self, index: usize, outcome: Result<()>) {
        let mut outcomes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = outcome {
            outcomes.failures.push(Failure::new(index, error));
        }
        outcomes.open = outcomes.open.saturating_sub(1);
        if outcomes.open == 0
            && let Some(caller) = outcomes.caller.take()
        {
            let mut failures = std::mem::take(&mut outcomes.failures);
            failures.sort_by_key(|failure| failure.index);
            drop(caller.send(failures));
        }
    }
}

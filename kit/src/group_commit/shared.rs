//! The state that the storage and its tasks share.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{Arc, Mutex, PoisonError},
};

use larder_core::{Error, ErrorKind, Key, Result, Written};
use tokio::{runtime::Handle, sync::oneshot, task::AbortHandle};

use super::{
    lane::{Lane, Moving},
    slot::Write,
};

pub(super) struct Shared<S> {
    pub(super) storage: Arc<S>,
    pub(super) lanes: Box<[Lane]>,
    pub(super) max_batch: usize,
    pub(super) max_batch_bytes: usize,
    hasher: RandomState,
    tasks: Mutex<Tasks>,
}

#[derive(Default)]
struct Tasks {
    abandoned: bool,
    running: Vec<AbortHandle>,
}

impl<S> Shared<S> {
    pub(super) fn new(storage: Arc<S>, lanes: usize, max_batch: usize, max_batch_bytes: usize) -> Self {
        Self {
            storage,
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            max_batch,
            max_batch_bytes,
            hasher: RandomState::new(),
            tasks: Mutex::default(),
        }
    }

    pub(super) fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key.as_bytes())
    }

    /// The number of the lane of a key with this hash.
    pub(super) fn lane_of(&self, hash: u64) -> usize {
        // The remainder is below the number of lanes, which is a usize.
        usize::try_from(hash % self.lanes.len() as u64).unwrap_or(0)
    }

    /// Runs `task` on `runtime`, until the storage is dropped at the latest.
    pub(super) fn spawn(&self, runtime: &Handle, task: impl Future<Output = ()> + Send + 'static) {
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

    /// Ends all tasks, and those that are yet to come.
    pub(super) fn abandon(&self) {
        let running = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            tasks.abandoned = true;
            std::mem::take(&mut tasks.running)
        };
        for task in running {
            task.abort();
        }
    }

    /// Has a task run a write, if its caller still does.
    pub(super) fn move_to_task(&self, moving: Option<Moving>) {
        if let Some((slot, runtime)) = moving
            && let Some((write, outcome)) = slot.take(&runtime)
        {
            self.run_in_task(write, outcome, &runtime);
        }
    }

    pub(super) fn run_in_task(
        &self,
        write: Write,
        outcome: oneshot::Sender<Result<Written>>,
        runtime: &Handle,
    ) {
        self.spawn(runtime, async move {
            // The caller may have gone.
            drop(outcome.send(write.await));
        });
    }
}

/// The error of a write whose task ended with its runtime, or panicked.
pub(super) fn lost() -> Error {
    let message =
        "the task that was writing ended before it could answer; the write may or may not have happened";
    Error::new(ErrorKind::Unavailable, message)
}

//! The right to write on a lane, and how it passes from one to the next.

use std::sync::Arc;

use larder_core::{Error, Storage};
use tokio::runtime::Handle;

use super::{
    batch::Batch,
    pending::{Queued, Reply},
    shared::Shared,
};

/// How often others may run, at most, between two batches.
const GATHERING: usize = 8;

/// The right to write on one lane. There is one at a time; dropping it, for whatever reason, passes the
/// right to a task that serves the queue, or leaves the lane idle.
pub(super) struct LaneGuard<S: Storage> {
    shared: Arc<Shared<S>>,
    lane: usize,
    /// The holder has run. A task that was dropped before that shows that its runtime is gone: another
    /// one would fare no better.
    started: bool,
}

impl<S: Storage> LaneGuard<S> {
    /// The guard of a lane that the caller has just marked as busy.
    pub(super) fn new(shared: Arc<Shared<S>>, lane: usize) -> Self {
        Self { shared, lane, started: true }
    }

    pub(super) fn storage(&self) -> &S {
        &self.shared.storage
    }

    /// Serves the queue, until it is empty, in a task of its own.
    pub(super) fn serve(shared: Arc<Shared<S>>, lane: usize, runtime: &Handle) {
        let mut guard = Self { shared: Arc::clone(&shared), lane, started: false };
        shared.spawn(runtime, async move {
            guard.started = true;
            while let Some(batch) = guard.collect() {
                batch.run(guard.storage()).await;
                guard.gather().await;
            }
        });
    }

    /// Lets others run for as long as that makes the queue grow: callers that have just got their answer
    /// often write again at once, and a batch of all costs little more than one of half of them.
    async fn gather(&self) {
        let mut queued = 0;
        for _ in 0..GATHERING {
            tokio::task::yield_now().await;
            let now = self.shared.lanes[self.lane].lock().queue.len();
            if now <= queued || now >= self.shared.max_batch {
                return;
            }
            queued = now;
        }
    }

    /// Takes the next batch out of the queue.
    fn collect(&self) -> Option<Batch> {
        let (batch, forsaken) = self.take();
        for (reply, error) in forsaken {
            reply.send(Err(error));
        }
        batch
    }

    /// The next batch, and the writes before it that are not to be sent any more.
    fn take(&self) -> (Option<Batch>, Vec<(Reply, Error)>) {
        let mut state = self.shared.lanes[self.lane].lock();
        let state = &mut *state;
        state.running.clear();
        let (mut batch, mut forsaken) = (Batch::default(), Vec::new());
        while let Some(queued) = state.queue.front() {
            if queued.is_cancelled() {
                state.queue.pop_front();
                continue;
            }
            if let Queued::Write(pending) = queued
                && !batch.has_room_for(&pending.put, self.shared.max_batch, self.shared.max_batch_bytes)
            {
                break;
            }
            match state.queue.pop_front() {
                Some(Queued::Write(pending)) => match pending.reply.gone() {
                    Some(error) => forsaken.push((pending.reply, error)),
                    None => {
                        state.running.push(pending.hash);
                        batch.push(pending);
                    }
                },
                Some(Queued::Barrier(waiting)) => batch.push_barrier(waiting),
                None => break,
            }
        }
        ((!batch.is_empty()).then_some(batch), forsaken)
    }
}

impl<S: Storage> Drop for LaneGuard<S> {
    fn drop(&mut self) {
        let (runtime, forsaken) = {
            let mut state = self.shared.lanes[self.lane].lock();
            state.running.clear();
            state.direct = None;
            while state.queue.front().is_some_and(Queued::is_cancelled) {
                state.queue.pop_front();
            }
            let runtime = if state.queue.is_empty() || !self.started {
                None
            } else {
                Handle::try_current().ok().or_else(|| state.runtime.clone())
            };
            let forsaken = if runtime.is_none() {
                state.busy = false;
                state.runtime = None;
                std::mem::take(&mut state.queue)
            } else {
                Default::default()
            };
            (runtime, forsaken)
        };
        // Empty unless the runtime is gone: callers that still wait learn it by the dropped sender.
        drop(forsaken);
        if let Some(runtime) = runtime {
            Self::serve(Arc::clone(&self.shared), self.lane, &runtime);
        }
    }
}

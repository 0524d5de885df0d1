//! The lanes: their queues, and the tasks that serve them.

use std::{
    collections::BTreeMap,
    hash::BuildHasher,
    mem,
    sync::{Arc, PoisonError},
};

use larder_core::{Error, ErrorKind, Key, Result, Storage};

use super::{
    batch::{Batch, Job, Work},
    runtime::{Handle, Id, Mutex, MutexGuard, RandomState, oneshot, yield_now},
};

/// How often a task yields, at most, between two batches.
const GATHERING: usize = 8;

/// The storage and its lanes, shared by the callers and the tasks that serve the lanes.
pub(super) struct Shared<S> {
    pub(super) storage: Arc<S>,
    pub(super) lanes: Box<[Lane]>,
    pub(super) max_batch: usize,
    pub(super) max_batch_bytes: usize,
    pub(super) hasher: RandomState,
    /// Locked while a barrier is put into all lanes. Two barriers in different orders would wait for each other.
    pub(super) barriers: Mutex<()>,
}

#[derive(Default)]
pub(super) struct Lane(Mutex<LaneState>);

#[derive(Default)]
struct LaneState {
    /// The jobs that are not in a batch yet, by number. A caller whose future is dropped removes its job.
    queue: BTreeMap<u64, Job>,
    /// The number of the next job.
    next: u64,
    /// Whether a task serves the queue, or will start to.
    served: bool,
    /// The number of jobs of the last batch.
    last_batch: usize,
    /// The signal to continue after a barrier, if the runtime of the task that waited for it has ended.
    paused: Option<oneshot::Receiver<()>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A caller's place in a queue. Dropping it removes the job from the queue, unless the job is in a batch.
pub(super) struct Ticket<'a, S, T> {
    shared: &'a Shared<S>,
    lane: usize,
    number: u64,
    answer: oneshot::Receiver<T>,
    answered: bool,
}

impl<S, T> Ticket<'_, S, T> {
    /// Waits for the answer.
    pub(super) async fn answer(mut self) -> Result<T> {
        let answer = (&mut self.answer).await;
        self.answered = true;
        answer.map_err(|_| lost())
    }
}

impl<S, T> Drop for Ticket<'_, S, T> {
    fn drop(&mut self) {
        if !self.answered {
            let job = lock(&self.shared.lanes[self.lane].0).queue.remove(&self.number);
            // The lock is released before the drop.
            drop(job);
        }
    }
}

impl<S: Storage> Shared<S> {
    /// Returns the number of the key's lane.
    pub(super) fn lane_of(&self, key: &Key) -> usize {
        match self.lanes.len() {
            1 => 0,
            // The remainder fits into a usize, because it is below the number of lanes.
            lanes => (self.hasher.hash_one(key.as_bytes()) % lanes as u64) as usize,
        }
    }

    /// Queues one job. `work` receives the sender for its answer.
    pub(super) fn enqueue<T>(
        self: &Arc<Self>,
        lane: usize,
        work: impl FnOnce(oneshot::Sender<T>) -> Work,
    ) -> Result<Ticket<'_, S, T>> {
        let (reply, answer) = oneshot::channel();
        let number = self.push(lane, [work(reply)])?;
        Ok(Ticket { shared: self, lane, number, answer, answered: false })
    }

    /// Queues one job per key, and waits for the results.
    pub(super) async fn enqueue_many<T, W>(
        self: &Arc<Self>,
        works: impl Iterator<Item = (Key, W)>,
    ) -> Vec<Result<T>>
    where
        W: FnOnce(oneshot::Sender<Result<T>>) -> Work,
    {
        let mut lanes: Vec<_> = self.lanes.iter().map(|_| (Vec::new(), Vec::new())).collect();
        let mut tickets = Vec::new();
        for (place, (key, work)) in works.enumerate() {
            let (reply, answer) = oneshot::channel();
            let (works, answers) = &mut lanes[self.lane_of(&key)];
            works.push(work(reply));
            answers.push((place, answer));
            tickets.push(None);
        }
        for (lane, (works, answers)) in lanes.into_iter().enumerate() {
            let first = match self.push(lane, works) {
                Ok(first) => first,
                Err(error) => return tickets.iter().map(|_| Err(error.clone())).collect(),
            };
            for (number, (place, answer)) in (first..).zip(answers) {
                tickets[place] = Some(Ticket { shared: self, lane, number, answer, answered: false });
            }
        }
        let mut results = Vec::with_capacity(tickets.len());
        for ticket in tickets.into_iter().flatten() {
            results.push(ticket.answer().await.flatten());
        }
        results
    }

    /// Puts jobs into the queue of a lane, all at once, and starts a task if the lane is idle. Returns the number of
    /// the first job.
    pub(super) fn push(self: &Arc<Self>, lane: usize, works: impl IntoIterator<Item = Work>) -> Result<u64> {
        let runtime = callers_runtime()?;
        let mut state = lock(&self.lanes[lane].0);
        let first = state.next;
        for work in works {
            let number = state.next;
            state.next += 1;
            state.queue.insert(number, Job { work, runtime: runtime.clone() });
        }
        let idle = !state.queue.is_empty() && !mem::replace(&mut state.served, true);
        drop(state);
        if idle {
            Server::start(Arc::clone(self), lane, &runtime);
        }
        Ok(first)
    }
}

/// The task that serves a lane. If it ends before the queue is empty (its runtime has ended, or the storage has
/// panicked), another task continues.
struct Server<S: Storage> {
    shared: Arc<Shared<S>>,
    lane: usize,
    runtime: Id,
    /// Whether the task has run. If it is dropped before, its runtime has ended.
    started: bool,
    finished: bool,
    /// After a barrier, the signal to continue.
    paused: Option<oneshot::Receiver<()>>,
}

impl<S: Storage> Server<S> {
    fn start(shared: Arc<Shared<S>>, lane: usize, runtime: &Handle) {
        let mut server =
            Self { shared, lane, runtime: runtime.id(), started: false, finished: false, paused: None };
        runtime.spawn(async move {
            server.started = true;
            server.serve().await;
        });
    }

    async fn serve(&mut self) {
        let paused = lock(self.lane()).paused.take();
        self.paused = paused;
        loop {
            if let Some(paused) = &mut self.paused {
                // Continues in both cases: the sender has notified, or is dropped.
                let _ = paused.await;
                self.paused = None;
            }
            self.gather().await;
            let Some(batch) = self.take() else { return };
            self.paused = batch.run(&*self.shared.storage).await;
        }
    }

    fn lane(&self) -> &Mutex<LaneState> {
        &self.shared.lanes[self.lane].0
    }

    /// Takes the next batch out of the queue. If the queue is empty, returns `None`, and the lane is idle.
    fn take(&mut self) -> Option<Batch> {
        let (mut batch, mut bytes) = (None::<Batch>, 0);
        let mut unsent = Vec::new();
        let mut state = lock(&self.shared.lanes[self.lane].0);
        while let Some((number, Job { work, runtime })) = state.queue.pop_first() {
            if let Some(error) = work.unsent() {
                unsent.push((work, error));
                continue;
            }
            bytes += work.size();
            let left = match &mut batch {
                None => {
                    batch = Some(work.into());
                    continue;
                }
                Some(batch)
                    if batch.len() < self.shared.max_batch && bytes <= self.shared.max_batch_bytes =>
                {
                    batch.push(work)
                }
                Some(_) => Some(work),
            };
            if let Some(work) = left {
                state.queue.insert(number, Job { work, runtime });
                break;
            }
        }
        match &batch {
            Some(batch) => state.last_batch = batch.len(),
            None => {
                state.served = false;
                self.finished = true;
            }
        }
        drop(state);
        for (work, error) in unsent {
            work.fail(error);
        }
        batch
    }

    /// Yields to other tasks for as long as the queue grows. Callers that have just received their answer often
    /// call again immediately, and a batch of all these calls takes little more time than a batch of half of them.
    /// A single caller does not wait. An empty queue does not wait either: the lane then becomes idle, even if this
    /// runtime never runs again.
    async fn gather(&self) {
        let mut before = 0;
        for _ in 0..GATHERING {
            let queued = {
                let state = lock(self.lane());
                if state.last_batch == 1 { 0 } else { state.queue.len() }
            };
            if queued <= before || queued >= self.shared.max_batch {
                return;
            }
            before = queued;
            yield_now().await;
        }
    }
}

impl<S: Storage> Drop for Server<S> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        let paused = self.paused.take();
        let mut state = lock(self.lane());
        // Other runtimes may end at the same time. Then this code runs once for each of them.
        let dead = |_: &u64, job: &mut Job| !self.started && job.runtime.id() == self.runtime;
        let unserved: Vec<Job> = state.queue.extract_if(.., dead).map(|(_, job)| job).collect();
        state.paused = paused.or(state.paused.take());
        let next = state.queue.first_key_value().map(|(_, job)| job.runtime.clone());
        state.served = next.is_some();
        drop(state);
        for job in unserved {
            job.work.fail(lost().not_applied());
        }
        if let Some(runtime) = next {
            Self::start(Arc::clone(&self.shared), self.lane, &runtime);
        }
    }
}

pub(super) fn callers_runtime() -> Result<Handle> {
    let message = "this storage needs a tokio runtime for changes; call it within one";
    Handle::try_current().map_err(|_| Error::new(ErrorKind::InvalidConfig, message).not_applied())
}

/// Returns the error of a call whose task has ended with its runtime, or has panicked.
pub(super) fn lost() -> Error {
    let message =
        "the task for this call ended without an answer, because its runtime shut down or it panicked";
    Error::new(ErrorKind::Unavailable, message)
}

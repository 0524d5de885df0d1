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

/// How often others may run, at most, between two batches.
const GATHERING: usize = 8;

/// The storage and its lanes, which the callers share with the tasks that serve the lanes.
pub(super) struct Shared<S> {
    pub(super) storage: Arc<S>,
    pub(super) lanes: Box<[Lane]>,
    pub(super) max_batch: usize,
    pub(super) max_batch_bytes: usize,
    pub(super) hasher: RandomState,
    /// Held while a barrier goes into all lanes. Two that stood in different orders would wait for each other.
    pub(super) barriers: Mutex<()>,
}

#[derive(Default)]
pub(super) struct Lane(Mutex<State>);

#[derive(Default)]
struct State {
    /// The jobs that no batch has taken, by number, so that a caller that goes away can take its own out.
    queue: BTreeMap<u64, Job>,
    /// The number of the next job.
    next: u64,
    /// Whether a task serves the queue, or is about to.
    served: bool,
    /// How many jobs the last batch had.
    last_batch: usize,
    /// The signal to go on that a task waited for whose runtime has ended.
    paused: Option<oneshot::Receiver<()>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A caller's place in a queue. Dropping it takes the job out, unless a batch has it.
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
            // Not under the lock.
            drop(job);
        }
    }
}

impl<S: Storage> Shared<S> {
    /// The number of the key's lane.
    pub(super) fn lane_of(&self, key: &Key) -> usize {
        match self.lanes.len() {
            1 => 0,
            // The remainder is below the number of lanes, which is a usize.
            lanes => (self.hasher.hash_one(key.as_bytes()) % lanes as u64) as usize,
        }
    }

    /// Queues one job; `work` is given the sender of its answer.
    pub(super) fn enqueue<T>(
        self: &Arc<Self>,
        lane: usize,
        work: impl FnOnce(oneshot::Sender<T>) -> Work,
    ) -> Result<Ticket<'_, S, T>> {
        let (reply, answer) = oneshot::channel();
        let number = self.push(lane, [work(reply)])?;
        Ok(Ticket { shared: self, lane, number, answer, answered: false })
    }

    /// Queues a job for each key, and waits for their results.
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

    /// Puts work into the queue of a lane, all of it at once, and has it served. Returns the number of the first.
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
/// panicked), another one goes on.
struct Server<S: Storage> {
    shared: Arc<Shared<S>>,
    lane: usize,
    runtime: Id,
    /// Whether the task has run. One that is dropped before has met the end of its runtime.
    started: bool,
    finished: bool,
    /// After a barrier, the signal to go on.
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
                // Whether it is notified or dropped.
                let _ = paused.await;
                self.paused = None;
            }
            self.gather().await;
            let Some(batch) = self.take() else { return };
            self.paused = batch.run(&*self.shared.storage).await;
        }
    }

    fn lane(&self) -> &Mutex<State> {
        &self.shared.lanes[self.lane].0
    }

    /// Takes the next batch out of the queue. If there is none, the lane is idle.
    fn take(&mut self) -> Option<Batch> {
        let (mut batch, mut bytes) = (None::<Batch>, 0);
        let mut forsaken = Vec::new();
        let mut state = lock(&self.shared.lanes[self.lane].0);
        while let Some((number, Job { work, runtime })) = state.queue.pop_first() {
            if let Some(error) = work.unsent() {
                forsaken.push((work, error));
                continue;
            }
            bytes += work.size();
            let refused = match &mut batch {
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
            if let Some(work) = refused {
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
        for (work, error) in forsaken {
            work.fail(error);
        }
        batch
    }

    /// Lets others run for as long as that makes the queue grow: callers that have just got their answer often
    /// call again at once, and a batch of all costs little more than one of half of them. A lone caller does not
    /// wait. Neither does an empty queue: the lane is idle then, whenever this runtime goes on.
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
        // Another runtime may end at the same time, so that this happens again, once per runtime.
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
    let message = "changes are grouped in a tokio task; call this within a tokio runtime";
    Handle::try_current().map_err(|_| Error::new(ErrorKind::InvalidConfig, message).not_applied())
}

/// The error of a call whose task ended with its runtime, or panicked.
pub(super) fn lost() -> Error {
    let message =
        "the task that was writing ended before it could answer; the change may or may not have happened";
    Error::new(ErrorKind::Unavailable, message)
}

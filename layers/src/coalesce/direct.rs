//! A single write on a lane that was idle, run by its caller.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use larder_core::{Operation, Result, Storage};
use tokio::{runtime::Handle, sync::oneshot};

use super::Shared;

type Write = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// The write, shared by its caller, who runs it, and its lane, which can take it from him.
///
/// Its caller may stop polling the future without dropping it (after a `select!`, say), and then
/// wait for something that queues behind it. So the first who queues has the write moved to a task.
/// It is moved to one, too, if its caller goes away: were it merely dropped, what is already on its
/// way to the store might arrive after a later write of the same key.
pub(super) struct Slot(Mutex<State>);

enum State {
    /// The caller runs it. The waker is the caller's, once he has polled it.
    Mine(Write, Option<Waker>),
    /// The caller is polling it right now; `wanted` is the runtime to move it to afterwards.
    Polling {
        wanted: Option<Handle>,
    },
    /// A task runs it.
    Moved(oneshot::Receiver<Result<()>>),
    Done,
}

impl Slot {
    pub(super) fn new(write: impl Future<Output = Result<()>> + Send + 'static) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Mine(Box::pin(write), None))))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the write out to be moved to a task, unless that has been done or is not needed.
    fn take(&self, runtime: &Handle) -> Option<(Write, oneshot::Sender<Result<()>>)> {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Done) {
            State::Mine(write, caller) => {
                let (sender, outcome) = oneshot::channel();
                *state = State::Moved(outcome);
                drop(state);
                // He waits for the write to wake him; from now on the outcome does.
                if let Some(caller) = caller {
                    caller.wake();
                }
                Some((write, sender))
            }
            State::Polling { .. } => {
                *state = State::Polling { wanted: Some(runtime.clone()) };
                None
            }
            other => {
                *state = other;
                None
            }
        }
    }
}

impl<S: Storage + 'static> Shared<S> {
    /// Has a task run the write in `slot`, if its caller still does.
    pub(super) fn move_to_task(&self, slot: &Slot, runtime: &Handle) {
        if let Some((write, outcome)) = slot.take(runtime) {
            self.run_in_task(write, outcome, runtime);
        }
    }

    fn run_in_task(&self, write: Write, outcome: oneshot::Sender<Result<()>>, runtime: &Handle) {
        self.spawn(runtime, async move {
            // Nobody may be there to hear it.
            drop(outcome.send(write.await));
        });
    }
}

/// The caller's side of a [`Slot`].
pub(super) struct Direct<'a, S: Storage + 'static> {
    shared: &'a Shared<S>,
    slot: Arc<Slot>,
    /// Taken at the start: the future may be dropped outside the runtime that it ran in.
    runtime: Option<Handle>,
}

impl<'a, S: Storage + 'static> Direct<'a, S> {
    pub(super) fn new(shared: &'a Shared<S>, slot: Arc<Slot>) -> Self {
        Self { shared, slot, runtime: Handle::try_current().ok() }
    }
}

impl<S: Storage + 'static> Future for Direct<'_, S> {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.lock();
        let mut write = match mem::replace(&mut *state, State::Polling { wanted: None }) {
            State::Mine(write, _) => write,
            State::Moved(mut outcome) => {
                let poll = Pin::new(&mut outcome).poll(context);
                *state = if poll.is_ready() { State::Done } else { State::Moved(outcome) };
                return poll.map(|told| told.unwrap_or_else(|_| Err(self.shared.lost(Operation::Write))));
            }
            other => {
                *state = other;
                return Poll::Pending;
            }
        };
        drop(state);
        // Outside the lock: with the end of the write its turn ends, and that takes the lane's lock.
        if let Poll::Ready(outcome) = write.as_mut().poll(context) {
            *self.slot.lock() = State::Done;
            return Poll::Ready(outcome);
        }
        let mut state = self.slot.lock();
        if let State::Polling { wanted: Some(runtime) } = &*state {
            let runtime = runtime.clone();
            let (sender, mut outcome) = oneshot::channel();
            let poll = Pin::new(&mut outcome).poll(context);
            debug_assert!(poll.is_pending(), "nobody has sent anything");
            *state = State::Moved(outcome);
            drop(state);
            self.shared.run_in_task(write, sender, &runtime);
        } else {
            *state = State::Mine(write, Some(context.waker().clone()));
        }
        Poll::Pending
    }
}

impl<S: Storage + 'static> Drop for Direct<'_, S> {
    fn drop(&mut self) {
        // After a panic in the storage the write is gone already, and its turn with it.
        match &self.runtime {
            Some(runtime) => self.shared.move_to_task(&self.slot, runtime),
            None => {
                let unfinished = mem::replace(&mut *self.slot.lock(), State::Done);
                drop(unfinished);
            }
        }
    }
}

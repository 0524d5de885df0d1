//! A write on a lane that was idle, which its caller runs.

use std::{
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use larder_core::{Result, Written};
use tokio::{runtime::Handle, sync::oneshot};

pub(super) type Write = Pin<Box<dyn Future<Output = Result<Written>> + Send>>;

/// The write, shared by its caller, who runs it, and its lane, which can take it over.
///
/// The caller may stop polling the future without dropping it (after a `select!`, say), and then wait for
/// something that queues behind it. So the first that queues has the write moved to a task. It is moved to
/// one, too, if its caller goes away: were it merely dropped, the part of it that is already on its way to
/// the store might arrive after a later write of the same key.
pub(super) struct Slot(Mutex<State>);

pub(super) enum State {
    /// The caller runs it. The waker is the caller's, once it has polled the write.
    Mine(Write, Option<Waker>),
    /// The caller is polling it right now; `wanted` is the runtime to move it to afterwards.
    Polling {
        wanted: Option<Handle>,
    },
    /// A task runs it.
    Moved(oneshot::Receiver<Result<Written>>),
    Done,
}

impl Slot {
    pub(super) fn new(write: impl Future<Output = Result<Written>> + Send + 'static) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State::Mine(Box::pin(write), None))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the write out to be moved to a task, unless that has been done or is not needed.
    pub(super) fn take(&self, runtime: &Handle) -> Option<(Write, oneshot::Sender<Result<Written>>)> {
        let mut state = self.lock();
        match mem::replace(&mut *state, State::Done) {
            State::Mine(write, caller) => {
                let (sender, outcome) = oneshot::channel();
                *state = State::Moved(outcome);
                drop(state);
                // The caller waits for the write to wake it; from now on the outcome does.
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

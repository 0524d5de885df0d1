//! The caller's side of a write that it runs itself.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use larder_core::{Result, Written};
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    shared::{Shared, lost},
    slot::{Slot, State},
};

/// Runs the write in a [`Slot`].
pub(super) struct Direct<'a, S> {
    shared: &'a Shared<S>,
    slot: Arc<Slot>,
    /// Taken at the start: the future may be dropped outside the runtime that it ran in.
    runtime: Option<Handle>,
}

impl<'a, S> Direct<'a, S> {
    pub(super) fn new(shared: &'a Shared<S>, slot: Arc<Slot>) -> Self {
        Self { shared, slot, runtime: Handle::try_current().ok() }
    }
}

impl<S> Future for Direct<'_, S> {
    type Output = Result<Written>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.lock();
        let mut write = match mem::replace(&mut *state, State::Polling { wanted: None }) {
            State::Mine(write, _) => write,
            State::Moved(mut outcome) => {
                let poll = Pin::new(&mut outcome).poll(context);
                *state = if poll.is_ready() { State::Done } else { State::Moved(outcome) };
                return poll.map(|received| received.unwrap_or_else(|_| Err(lost())));
            }
            other => {
                *state = other;
                return Poll::Pending;
            }
        };
        drop(state);
        // Outside the lock: the write drops its guard at its end, and that takes the lane's lock.
        if let Poll::Ready(outcome) = write.as_mut().poll(context) {
            *self.slot.lock() = State::Done;
            return Poll::Ready(outcome);
        }
        let mut state = self.slot.lock();
        if let State::Polling { wanted: Some(runtime) } = &*state {
            let runtime = runtime.clone();
            let (sender, mut outcome) = oneshot::channel();
            let poll = Pin::new(&mut outcome).poll(context);
            debug_assert!(poll.is_pending(), "nothing has been sent");
            *state = State::Moved(outcome);
            drop(state);
            self.shared.run_in_task(write, sender, &runtime);
        } else {
            *state = State::Mine(write, Some(context.waker().clone()));
        }
        Poll::Pending
    }
}

impl<S> Drop for Direct<'_, S> {
    fn drop(&mut self) {
        // After a panic in the storage the write is gone already, and its guard with it.
        match &self.runtime {
            Some(runtime) => self.shared.move_to_task(Some((Arc::clone(&self.slot), runtime.clone()))),
            None => {
                let unfinished = mem::replace(&mut *self.slot.lock(), State::Done);
                drop(unfinished);
            }
        }
    }
}

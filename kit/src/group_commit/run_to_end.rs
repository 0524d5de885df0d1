//! Operations that run to their end if their callers drop them midway.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use larder_core::Storage;
use tokio::runtime::Handle;

use super::{guard::LaneGuard, in_flight::Reach, shared::Shared};

/// An operation that its caller runs, and that goes on in a task if the caller drops it midway.
pub(super) struct RunToEnd<S: Storage, T: 'static> {
    shared: Arc<Shared<S>>,
    reach: Reach,
    operation: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    /// It has been polled, so that some of it may be on its way to the store.
    begun: bool,
    /// Taken at the start: the future may be dropped outside the runtime that it ran in.
    runtime: Option<Handle>,
}

impl<S: Storage, T: 'static> RunToEnd<S, T> {
    pub(super) fn new(
        shared: &Arc<Shared<S>>,
        reach: Reach,
        operation: impl Future<Output = T> + Send + 'static,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            reach,
            operation: Some(Box::pin(operation)),
            begun: false,
            runtime: Handle::try_current().ok(),
        }
    }
}

impl<S: Storage, T: 'static> Future for RunToEnd<S, T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        // Taken out, so that one that panics or is ready is not polled again.
        let Some(mut operation) = this.operation.take() else {
            return Poll::Pending;
        };
        let poll = operation.as_mut().poll(context);
        if poll.is_pending() {
            this.operation = Some(operation);
            this.begun = true;
        }
        poll
    }
}

impl<S: Storage, T: 'static> Drop for RunToEnd<S, T> {
    fn drop(&mut self) {
        if !self.begun {
            return;
        }
        if let (Some(operation), Some(runtime)) = (self.operation.take(), &self.runtime) {
            let registration = Registration::new(Arc::clone(&self.shared), &self.reach);
            self.shared.spawn(runtime, async move {
                let _registration = registration;
                drop(operation.await);
            });
        }
    }
}

/// An operation's entry in the lanes; dropping it, for whatever reason, lets those behind it go on.
struct Registration<S: Storage> {
    shared: Arc<Shared<S>>,
    /// Lanes, and its number in each.
    places: Vec<(usize, u64)>,
}

impl<S: Storage> Registration<S> {
    fn new(shared: Arc<Shared<S>>, reach: &Reach) -> Self {
        let lanes = match *reach {
            Reach::Key(hash) => {
                let lane = shared.lane_of(hash);
                lane..lane + 1
            }
            Reach::Keys(_) | Reach::Everything => 0..shared.lanes.len(),
        };
        let places =
            lanes.map(|lane| (lane, shared.lanes[lane].lock().in_flight.begin(reach.clone()))).collect();
        Self { shared, places }
    }
}

impl<S: Storage> Drop for Registration<S> {
    fn drop(&mut self) {
        for &(lane, number) in &self.places {
            let (waiting, moving, idle) = self.shared.lanes[lane].lock().finish(number);
            self.shared.move_to_task(moving);
            if let Some(runtime) = idle {
                LaneGuard::serve(Arc::clone(&self.shared), lane, &runtime);
            }
            for waiting in waiting {
                // The caller may have gone in the meantime.
                let _ = waiting.send(());
            }
        }
    }
}

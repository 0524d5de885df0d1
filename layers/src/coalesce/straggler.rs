//! Operations whose callers went away while they were on their way to the store.
//!
//! Dropping the future of a statement does not call the statement back: it may reach the store after
//! a later one that went over another connection. So such an operation is carried to its end in a
//! task, and what comes later for its keys waits for it.

use std::{
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use larder_core::{Result, Storage};
use tokio::{runtime::Handle, sync::oneshot};

use super::{Shared, lane::Pending, turn::Turn};

/// Which keys, by their hashes, an operation may change.
#[derive(Clone)]
pub(super) enum Reach {
    Key(u64),
    Keys(Arc<[u64]>),
    Everything,
}

impl Reach {
    fn includes(&self, hash: u64) -> bool {
        match self {
            Self::Key(own) => *own == hash,
            Self::Keys(own) => own.contains(&hash),
            Self::Everything => true,
        }
    }
}

/// The stragglers that concern one lane, and the writes that wait for them.
#[derive(Default)]
pub(super) struct Stragglers {
    under_way: Vec<Straggler>,
    held: Vec<Held>,
    /// The number of the latest straggler.
    latest: u64,
}

struct Straggler {
    number: u64,
    reach: Reach,
    waiting: Vec<oneshot::Sender<()>>,
}

/// A write that joins the queue once the stragglers before it are done.
pub(super) struct Held {
    pub(super) pending: Pending,
    /// The caller's.
    pub(super) runtime: Handle,
    /// The number of the latest straggler that it waits for.
    after: u64,
}

impl Stragglers {
    pub(super) fn concern(&self, hash: u64) -> bool {
        self.under_way.iter().any(|straggler| straggler.reach.includes(hash))
    }

    /// Keeps a write that stragglers concern.
    pub(super) fn hold(&mut self, pending: Pending, runtime: Handle) {
        self.held.push(Held { pending, runtime, after: self.latest });
    }

    /// One receiver for each straggler that concerns `hash`, or for each at all; it is told once the
    /// straggler is done and the writes that waited for it are queued.
    pub(super) fn wait_for(&mut self, hash: Option<u64>) -> Vec<oneshot::Receiver<()>> {
        self.under_way
            .iter_mut()
            .filter(|straggler| hash.is_none_or(|hash| straggler.reach.includes(hash)))
            .map(|straggler| {
                let (sender, receiver) = oneshot::channel();
                straggler.waiting.push(sender);
                receiver
            })
            .collect()
    }

    fn begin(&mut self, reach: Reach) -> u64 {
        self.latest = self.latest.wrapping_add(1);
        self.under_way.push(Straggler { number: self.latest, reach, waiting: Vec::new() });
        self.latest
    }

    /// Those who waited for the straggler, and the writes that no longer wait for any.
    pub(super) fn finish(&mut self, number: u64) -> (Vec<oneshot::Sender<()>>, Vec<Held>) {
        let Some(place) = self.under_way.iter().position(|straggler| straggler.number == number) else {
            return Default::default();
        };
        let waiting = self.under_way.remove(place).waiting;
        let (held, released) = mem::take(&mut self.held).into_iter().partition(|held| {
            let hash = held.pending.hash;
            self.under_way
                .iter()
                .any(|straggler| straggler.number <= held.after && straggler.reach.includes(hash))
        });
        self.held = held;
        (waiting, released)
    }
}

/// A straggler's entry in the lanes; dropping it, for whatever reason, lets those behind it go on.
struct Registration<S: Storage + 'static> {
    shared: Arc<Shared<S>>,
    /// Lanes, and its number in each.
    places: Vec<(usize, u64)>,
}

impl<S: Storage + 'static> Registration<S> {
    fn new(shared: Arc<Shared<S>>, reach: &Reach) -> Self {
        let lanes = match *reach {
            Reach::Key(hash) => {
                let lane = shared.lane_of(hash);
                lane..lane + 1
            }
            Reach::Keys(_) | Reach::Everything => 0..shared.lanes.len(),
        };
        let places =
            lanes.map(|lane| (lane, shared.lanes[lane].lock().stragglers.begin(reach.clone()))).collect();
        Self { shared, places }
    }
}

impl<S: Storage + 'static> Drop for Registration<S> {
    fn drop(&mut self) {
        for &(lane, number) in &self.places {
            let (waiting, moving, idle) = self.shared.lanes[lane].lock().finish(number);
            if let Some((slot, runtime)) = moving {
                self.shared.move_to_task(&slot, &runtime);
            }
            if let Some(runtime) = idle {
                Turn::serve(Arc::clone(&self.shared), lane, &runtime);
            }
            for waiting in waiting {
                // He may have gone meanwhile.
                let _ = waiting.send(());
            }
        }
    }
}

/// An operation that its caller runs, and that becomes a straggler if he drops it midway.
pub(super) struct Carried<S: Storage + 'static, T: 'static> {
    shared: Arc<Shared<S>>,
    reach: Reach,
    operation: Option<Pin<Box<dyn Future<Output = Result<T>> + Send>>>,
    /// It has been polled, so that some of it may be on its way to the store.
    begun: bool,
    /// Taken at the start: the future may be dropped outside the runtime that it ran in.
    runtime: Option<Handle>,
}

impl<S: Storage + 'static, T: 'static> Carried<S, T> {
    pub(super) fn new(
        shared: &Arc<Shared<S>>,
        reach: Reach,
        operation: impl Future<Output = Result<T>> + Send + 'static,
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

impl<S: Storage + 'static, T: 'static> Future for Carried<S, T> {
    type Output = Result<T>;

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

impl<S: Storage + 'static, T: 'static> Drop for Carried<S, T> {
    fn drop(&mut self) {
        if !self.begun {
            return;
        }
        if let (Some(operation), Some(runtime)) = (self.operation.take(), &self.runtime) {
            let registration = Registration::new(Arc::clone(&self.shared), &self.reach);
            self.shared.spawn(runtime, async move {
                let _registration = registration;
                // Nobody is there to hear how it went.
                drop(operation.await);
            });
        }
    }
}

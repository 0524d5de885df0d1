//! The primitives of the group commit: tokio, with a list of the tasks.
//!
//! When a tokio runtime ends, it drops its tasks in an order that depends on the number of earlier tasks in the
//! process. Here the seed decides the order.

pub(crate) use std::sync::{Mutex, MutexGuard};
use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher, DefaultHasher},
    pin::Pin,
    sync::{
        Arc, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use fastrand::Rng;
use tokio::runtime::{self, Builder, TryCurrentError};
pub(crate) use tokio::{runtime::Id, sync::oneshot, task::yield_now};

thread_local! {
    /// The runtimes of this thread.
    static TASKS: RefCell<HashMap<Id, Arc<Tasks>>> = RefCell::default();
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;
/// A task; `None` once it has ended. Locked while the task is polled.
type Slot = Mutex<Option<Task>>;

/// The tasks of a runtime.
#[derive(Default)]
struct Tasks {
    ended: AtomicBool,
    slots: Mutex<Vec<Weak<Slot>>>,
}

/// A tokio runtime on this thread, with paused time.
pub(crate) struct Runtime {
    inner: runtime::Runtime,
    tasks: Arc<Tasks>,
    /// It does not run before this moment.
    pub(crate) rests_until: u64,
}

impl Runtime {
    pub(crate) fn new() -> Self {
        let inner = match Builder::new_current_thread().enable_time().start_paused(true).build() {
            Ok(runtime) => runtime,
            Err(error) => unreachable!("a runtime without a driver for I/O: {error}"),
        };
        let tasks = Arc::<Tasks>::default();
        TASKS.with_borrow_mut(|runtimes| runtimes.insert(inner.handle().id(), Arc::clone(&tasks)));
        Self { inner, tasks, rests_until: 0 }
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.handle().spawn(task);
    }

    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.inner.block_on(future)
    }

    /// The context that a call can be polled within.
    pub(crate) fn context(&self) -> runtime::Handle {
        self.inner.handle().clone()
    }

    fn handle(&self) -> Handle {
        Handle { inner: self.inner.handle().clone(), tasks: Arc::clone(&self.tasks) }
    }

    /// Ends the runtime as tokio does: drops the tasks one by one within the runtime. A task that is spawned in the
    /// meantime is dropped at once.
    pub(crate) fn end(self, rng: &mut Rng) {
        self.tasks.ended.store(true, Ordering::Relaxed);
        let mut slots = std::mem::take(&mut *lock(&self.tasks.slots));
        rng.shuffle(&mut slots);
        let within = self.inner.enter();
        for slot in slots {
            let task = slot.upgrade().and_then(|slot| lock(&slot).take());
            drop(task);
        }
        drop(within);
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        TASKS.with_borrow_mut(|runtimes| runtimes.remove(&self.inner.handle().id()));
    }
}

#[derive(Clone)]
pub(crate) struct Handle {
    inner: runtime::Handle,
    tasks: Arc<Tasks>,
}

impl Handle {
    pub(crate) fn try_current() -> Result<Self, TryCurrentError> {
        let inner = runtime::Handle::try_current()?;
        let tasks = TASKS.with_borrow(|runtimes| runtimes.get(&inner.id()).cloned());
        Ok(Self { inner, tasks: tasks.unwrap_or_default() })
    }

    pub(crate) fn id(&self) -> Id {
        self.inner.id()
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        if self.tasks.ended.load(Ordering::Relaxed) {
            let _within = self.inner.enter();
            drop(task);
            return;
        }
        let slot: Arc<Slot> = Arc::new(Mutex::new(Some(Box::pin(task))));
        {
            let mut slots = lock(&self.tasks.slots);
            slots.retain(|slot| slot.strong_count() > 0);
            slots.push(Arc::downgrade(&slot));
        }
        drop(self.inner.spawn(Polled(slot)));
    }
}

struct Polled(Arc<Slot>);

impl Future for Polled {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut slot = lock(&self.0);
        let Some(task) = &mut *slot else { return Poll::Ready(()) };
        let poll = task.as_mut().poll(context);
        // Dropped after the lock is released.
        let ended = if poll.is_ready() { slot.take() } else { None };
        drop(slot);
        drop(ended);
        poll
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Hashes a key to the same number in every run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RandomState;

impl RandomState {
    pub(crate) const fn new() -> Self {
        Self
    }
}

impl BuildHasher for RandomState {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        DefaultHasher::new()
    }
}

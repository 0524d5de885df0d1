//! A task that removes expired entries every so often.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use larder_core::{ErrorKind, Storage};
use tokio::{runtime::Handle, task::AbortHandle};

/// How many times longer than asked for the sweeper waits, at most, while sweeping fails.
const MAX_BACK_OFF: u32 = 16;

/// Calls [`purge_expired`](Storage::purge_expired) on a storage every so often, in a tokio task.
///
/// An error does not end it: it waits twice as long after each failure in a row, up to 16 times the
/// interval, and says so with `tracing::warn!`. It ends when the storage says that it is closed (or
/// cannot purge at all), when the storage is dropped, and when the `Sweeper` is dropped.
///
/// The task holds the storage weakly, so that a storage can own its sweeper:
///
/// ```
/// # use larder_core::Storage;
/// use std::{sync::Arc, time::Duration};
/// use larder_layers::Sweeper;
///
/// struct Shared<S> { storage: Arc<S>, sweeper: Sweeper }
///
/// fn share<S: Storage + 'static>(storage: S) -> Shared<S> {
///     let storage = Arc::new(storage);
///     let sweeper = Sweeper::start(Arc::downgrade(&storage), Duration::from_secs(60));
///     Shared { storage, sweeper }
/// }
/// ```
///
/// # Without a runtime
///
/// Nothing panics outside a tokio runtime: the task is then started by the first
/// [`ensure_running`](Sweeper::ensure_running) within one. A storage that can be made anywhere calls
/// it in its writes; while the task is running that is one atomic load. It also starts the task
/// again on the current runtime, should the one that it ran on have shut down.
pub struct Sweeper {
    spawn: Box<Spawn>,
    state: Arc<AtomicU8>,
    task: Mutex<Option<AbortHandle>>,
    every: Duration,
}

/// Starts the task on a runtime.
type Spawn = dyn Fn(&Handle, Alive) -> AbortHandle + Send + Sync;

const IDLE: u8 = 0;
const RUNNING: u8 = 1;
const ENDED: u8 = 2;

/// Held by the task: when it goes with its runtime, the sweeper is idle again.
struct Alive(Arc<AtomicU8>);

impl Alive {
    fn end(&self) {
        self.0.store(ENDED, Ordering::Release);
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // What panics once (on a runtime without timers, say) would do so again.
        let next = if std::thread::panicking() { ENDED } else { IDLE };
        // Unless it has ended for good, in which case there is nothing to change.
        let _ = self.0.compare_exchange(RUNNING, next, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Sweeper {
    /// Sweeps `storage` every `every` (at least a millisecond), the first time after that long. The
    /// runtime needs its timers enabled.
    #[must_use]
    pub fn start<S: Storage + ?Sized + 'static>(storage: Weak<S>, every: Duration) -> Self {
        let every = every.max(Duration::from_millis(1));
        let spawn = move |runtime: &Handle, alive: Alive| {
            let storage = storage.clone();
            runtime
                .spawn(async move {
                    sweep(storage, every).await;
                    alive.end();
                })
                .abort_handle()
        };
        let sweeper = Self { spawn: Box::new(spawn), state: Arc::default(), task: Mutex::default(), every };
        sweeper.ensure_running();
        sweeper
    }

    /// Starts the task if it is not running and there is a tokio runtime here. Cheap.
    pub fn ensure_running(&self) {
        if self.state.load(Ordering::Acquire) != IDLE {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        // Under the lock, so that a stop at the same time finds the task.
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state.compare_exchange(IDLE, RUNNING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            *task = Some((self.spawn)(&runtime, Alive(Arc::clone(&self.state))));
        }
    }

    /// Ends the task, for good. Dropping the sweeper does the same.
    pub fn stop(&self) {
        self.state.store(ENDED, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

async fn sweep<S: Storage + ?Sized>(storage: Weak<S>, every: Duration) {
    let mut factor = 1;
    loop {
        tokio::time::sleep(every.saturating_mul(factor)).await;
        let Some(storage) = storage.upgrade() else {
            return;
        };
        match storage.purge_expired().await {
            Ok(removed) => {
                factor = 1;
                if removed > 0 {
                    tracing::debug!(adapter = storage.name(), removed, "removed expired entries");
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Unsupported) => return,
            Err(error) => {
                factor = (factor * 2).min(MAX_BACK_OFF);
                tracing::warn!(
                    adapter = storage.name(),
                    kind = %error.kind(),
                    %error,
                    retry_after = ?every.saturating_mul(factor),
                    "could not remove expired entries"
                );
            }
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Sweeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sweeper")
            .field("every", &self.every)
            .field("running", &(self.state.load(Ordering::Relaxed) == RUNNING))
            .finish_non_exhaustive()
    }
}

//! A task that removes expired entries at regular intervals.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use larder_core::{ErrorKind, Result};
use tokio::{runtime::Handle, task::AbortHandle};

/// The maximum factor by which failures lengthen the interval.
const MAX_BACK_OFF: u32 = 16;

/// Removes expired entries at regular intervals, in a tokio task.
///
/// An error does not end the task. It logs a warning, and doubles the wait after each consecutive failure, up to
/// 16 times the interval. The task ends when the store is closed, when the target is dropped, or when the
/// `Sweeper` is dropped.
///
/// The task holds a weak reference to its target, so a storage can own its sweeper:
///
/// ```
/// use std::{sync::Arc, time::Duration};
/// use larder_core::Result;
/// use larder_kit::Sweeper;
///
/// struct Table;
///
/// impl Table {
///     async fn purge(&self) -> Result<u64> {
///         Ok(0)
///     }
/// }
///
/// struct Storage { table: Arc<Table>, sweeper: Sweeper }
///
/// fn open() -> Storage {
///     let table = Arc::new(Table);
///     let purge = |table: Arc<Table>| async move { table.purge().await };
///     let sweeper = Sweeper::start("example", Arc::downgrade(&table), Duration::from_secs(60), purge);
///     Storage { table, sweeper }
/// }
/// ```
///
/// # Without a runtime
///
/// A sweeper can be created outside a tokio runtime. The first call of
/// [`ensure_running`](Sweeper::ensure_running) within a runtime then starts the task. A storage that can be
/// opened outside a runtime calls it in each write; while the task is running, it costs one atomic load. If the
/// task's runtime has shut down, it starts the task again on the current runtime.
pub struct Sweeper {
    spawn: Box<Spawn>,
    state: Arc<AtomicU8>,
    task: Mutex<Option<AbortHandle>>,
    every: Option<Duration>,
}

/// Starts the task on a runtime.
type Spawn = dyn Fn(&Handle, Alive) -> AbortHandle + Send + Sync;

const IDLE: u8 = 0;
const RUNNING: u8 = 1;
const ENDED: u8 = 2;

/// Owned by the task. If the runtime drops the task, the sweeper becomes idle again.
struct Alive(Arc<AtomicU8>);

impl Drop for Alive {
    fn drop(&mut self) {
        // A task that panics, for example on a runtime without timers, would panic again.
        let next = if std::thread::panicking() { ENDED } else { IDLE };
        // Fails if the sweeper has ended, which is final.
        let _ = self.0.compare_exchange(RUNNING, next, Ordering::AcqRel, Ordering::Acquire);
    }
}

impl Sweeper {
    /// Starts a task that calls `purge` with the target at the interval `every` (at least 1 ms). The first call
    /// comes after one interval. With `None`, there are no calls. The log contains the name `adapter`. The
    /// runtime's timers must be enabled.
    #[must_use]
    pub fn start<T, F>(
        adapter: &'static str,
        target: Weak<T>,
        every: impl Into<Option<Duration>>,
        purge: impl Fn(Arc<T>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        T: Send + Sync + 'static,
        F: Future<Output = Result<u64>> + Send + 'static,
    {
        let every = every.into();
        let interval = every.unwrap_or_default().max(Duration::from_millis(1));
        let spawn = move |runtime: &Handle, alive: Alive| {
            let (target, purge) = (target.clone(), purge.clone());
            let sweep = async move {
                sweep(adapter, target, interval, purge).await;
                alive.0.store(ENDED, Ordering::Release);
            };
            runtime.spawn(sweep).abort_handle()
        };
        let state = Arc::new(AtomicU8::new(if every.is_some() { IDLE } else { ENDED }));
        let sweeper = Self { spawn: Box::new(spawn), state, task: Mutex::default(), every };
        sweeper.ensure_running();
        sweeper
    }

    /// Starts the task if it is not running and the caller is within a tokio runtime. Cheap.
    pub fn ensure_running(&self) {
        if self.state.load(Ordering::Acquire) != IDLE {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        // Changes the state under the lock: a concurrent `stop` must find the task.
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if self.state.compare_exchange(IDLE, RUNNING, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            *task = Some((self.spawn)(&runtime, Alive(Arc::clone(&self.state))));
        }
    }

    /// Ends the task permanently. Dropping the sweeper does the same.
    pub fn stop(&self) {
        self.state.store(ENDED, Ordering::Release);
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

async fn sweep<T, F: Future<Output = Result<u64>>>(
    adapter: &'static str,
    target: Weak<T>,
    every: Duration,
    purge: impl Fn(Arc<T>) -> F,
) {
    let mut factor = 1;
    loop {
        tokio::time::sleep(every.saturating_mul(factor)).await;
        let Some(target) = target.upgrade() else {
            return;
        };
        match purge(target).await {
            Ok(removed) => {
                factor = 1;
                if removed > 0 {
                    tracing::debug!(adapter, removed, "removed expired entries");
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::Unsupported) => return,
            Err(error) => {
                factor = (factor * 2).min(MAX_BACK_OFF);
                tracing::warn!(
                    adapter,
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

//! Load on a store whose server is killed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_core::{Key, Store};
use tokio::task::JoinHandle;

use crate::{Must, until};

/// The limit of each wait. The server may be starting.
const LIMIT: Duration = Duration::from_secs(60);

/// Tasks that write 1, 2, 3 ... while the server is killed and restarted.
///
/// Each task writes under a key of its own and remembers the last acknowledged number. Every error must be
/// [retryable](larder_core::Error::is_retryable).
///
/// ```no_run
/// # use larder_core::Store;
/// # use larder_testkit::Writers;
/// # struct Server;
/// # impl Server { async fn kill(&self) {} async fn start(&self) {} }
/// # async fn test(store: Store, server: Server) {
/// let kill = || async { server.kill().await };
/// let start = || async { server.start().await };
/// Writers::start(store, 16).kill_and_restart(3, 20, kill, start).await;
/// # }
/// ```
#[derive(Debug)]
pub struct Writers {
    store: Store,
    progress: Vec<Arc<Progress>>,
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

/// The progress of one task.
#[derive(Debug, Default)]
struct Progress {
    /// The last number whose write began.
    begun: AtomicU64,
    /// The last number whose write was acknowledged.
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl Writers {
    /// Starts `count` tasks on `store`.
    #[must_use]
    pub fn start(store: Store, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let progress: Vec<_> = (0..count).map(|_| Arc::new(Progress::default())).collect();
        let tasks = progress
            .iter()
            .enumerate()
            .map(|(number, progress)| {
                tokio::spawn(write_on(store.clone(), number, Arc::clone(progress), Arc::clone(&stop)))
            })
            .collect();
        Self { store, progress, tasks, stop }
    }

    /// Kills and starts the server `rounds` times, each time after every task has made `writes` writes, and waits
    /// until some write fails and then all tasks write again, on the same store. Kills it once more, and checks after
    /// the last start that no acknowledged write is lost.
    ///
    /// # Panics
    ///
    /// If an error is not retryable, if an acknowledged write is lost, or if one of these steps takes longer than a
    /// minute.
    pub async fn kill_and_restart<K, S>(
        mut self,
        rounds: usize,
        writes: u64,
        kill: impl Fn() -> K,
        start: impl Fn() -> S,
    ) where
        K: Future<Output = ()>,
        S: Future<Output = ()>,
    {
        for _ in 0..rounds {
            self.progress(writes).await;
            let failures = self.failures();
            kill().await;
            until("a write fails", LIMIT, || async { self.failures() > failures }).await;
            start().await;
            self.progress(writes).await;
        }
        kill().await;
        self.stop().await;
        start().await;
        self.verify().await;
    }

    /// Waits until each task has had `more` writes acknowledged.
    async fn progress(&self, more: u64) {
        let before = self.acknowledged();
        until("every writer makes progress", LIMIT, || async {
            self.acknowledged().iter().zip(&before).all(|(now, before)| *now >= before + more)
        })
        .await;
    }

    fn failures(&self) -> u64 {
        self.progress.iter().map(|progress| progress.failed.load(Ordering::Relaxed)).sum()
    }

    async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await.must("stop a writer");
        }
    }

    /// Waits until the store answers again, and checks that each entry holds the last acknowledged number, or
    /// one whose write had begun after it.
    async fn verify(&self) {
        for (number, progress) in self.progress.iter().enumerate() {
            let key = key_of(number);
            until("the store answers again", LIMIT, || async { self.store.read(&key).await.is_ok() }).await;
            let record = self.store.read(&key).await.must("read").must("find the entry");
            let stored: u64 =
                str::from_utf8(&record.value).must("read a number").parse().must("read a number");
            let acknowledged = progress.acknowledged.load(Ordering::Relaxed);
            let begun = progress.begun.load(Ordering::Relaxed);
            assert!((acknowledged..=begun).contains(&stored), "{acknowledged} <= {stored} <= {begun}");
        }
    }

    fn acknowledged(&self) -> Vec<u64> {
        self.progress.iter().map(|progress| progress.acknowledged.load(Ordering::Relaxed)).collect()
    }
}

fn key_of(number: usize) -> Key {
    Key::new(format!("writer-{number}")).must("make a key")
}

async fn write_on(store: Store, number: usize, progress: Arc<Progress>, stop: Arc<AtomicBool>) {
    let key = key_of(number);
    for count in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        progress.begun.store(count, Ordering::Relaxed);
        match store.write(&key, count.to_string()).await {
            Ok(_) => progress.acknowledged.store(count, Ordering::Relaxed),
            Err(error) => {
                assert!(error.is_retryable(), "not retryable: {error:?}");
                progress.failed.fetch_add(1, Ordering::Relaxed);
            }
        }
        // A store that never waits would keep the other tasks of the thread from running.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use larder_memory::MemoryStorage;

    use super::*;

    #[tokio::test]
    async fn a_lost_write_is_found() {
        let store = Store::from(MemoryStorage::new());
        let mut writers = Writers::start(store.clone(), 2);
        writers.progress(2).await;
        writers.stop().await;
        writers.verify().await;
        store.write(key_of(1), "1").await.unwrap();
        tokio::spawn(async move { writers.verify().await }).await.unwrap_err();
    }
}

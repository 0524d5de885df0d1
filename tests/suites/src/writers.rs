//! Load on a storage whose server is killed meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use larder_core::{Key, Store};
use larder_testkit::{Must, until};
use tokio::task::JoinHandle;

/// A writer gets this long to get on, on a server that may be starting.
const PATIENCE: Duration = Duration::from_secs(60);

/// Tasks that write 1, 2, 3 ..., each under a key of its own, and remember what was acknowledged.
/// Every error that they meet has to be retryable.
#[derive(Debug)]
pub struct Writers {
    storage: Store,
    progress: Vec<Arc<Progress>>,
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
}

/// What one writer knows of its key.
#[derive(Debug, Default)]
struct Progress {
    /// The last number whose write was begun.
    begun: AtomicU64,
    /// The last number whose write was acknowledged.
    acknowledged: AtomicU64,
    failed: AtomicU64,
}

impl Writers {
    /// Starts `count` writers.
    pub fn start(storage: Store, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let progress: Vec<_> = (0..count).map(|_| Arc::new(Progress::default())).collect();
        let tasks = progress
            .iter()
            .enumerate()
            .map(|(number, progress)| {
                tokio::spawn(write_on(storage.clone(), number, Arc::clone(progress), Arc::clone(&stop)))
            })
            .collect();
        Self { storage, progress, tasks, stop }
    }

    /// Waits until every writer has had `more` writes acknowledged.
    pub async fn get_on(&self, more: u64) {
        let before = self.acknowledged();
        until("every writer gets on", PATIENCE, || async {
            self.acknowledged().iter().zip(&before).all(|(now, before)| *now >= before + more)
        })
        .await;
    }

    /// How many writes have failed so far.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.progress.iter().map(|progress| progress.failed.load(Ordering::Relaxed)).sum()
    }

    /// Waits until a write has failed that was not among the first `before`.
    pub async fn notice(&self, before: u64) {
        until("the writers notice", PATIENCE, || async { self.failed() > before }).await;
    }

    /// Ends the writers. What they know stays.
    ///
    /// # Panics
    ///
    /// If a writer met an error that is not retryable.
    pub async fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks.drain(..) {
            task.await.must("end a writer");
        }
    }

    /// Waits until the storage works again, and makes sure that nothing acknowledged is missing and
    /// nothing is there that nobody wrote.
    ///
    /// # Panics
    ///
    /// If something is.
    pub async fn check(&self) {
        for (number, progress) in self.progress.iter().enumerate() {
            let key = key_of(number);
            until("the storage works again", PATIENCE, || async { self.storage.read(&key).await.is_ok() })
                .await;
            let record = self.storage.read(&key).await.must("read").must("find the entry");
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

async fn write_on(storage: Store, number: usize, progress: Arc<Progress>, stop: Arc<AtomicBool>) {
    let key = key_of(number);
    for count in 1.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        progress.begun.store(count, Ordering::Relaxed);
        match storage.write(&key, count.to_string()).await {
            Ok(_) => progress.acknowledged.store(count, Ordering::Relaxed),
            Err(error) => {
                assert!(error.is_retryable(), "not retryable: {error:?}");
                progress.failed.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    }
}

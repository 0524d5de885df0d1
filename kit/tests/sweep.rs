//! The guarantees of `Sweeper`, one test per law.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Clippy does not treat test helpers as tests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder_core::{Error, ErrorKind, Result};
use larder_kit::Sweeper;
use tokio::{sync::watch, time::Instant};

const EVERY: Duration = Duration::from_secs(60);

/// Counts the sweeps. The first `failures` sweeps fail.
#[derive(Debug)]
struct Swept {
    sweeps: watch::Sender<usize>,
    failures: AtomicUsize,
    kind: ErrorKind,
}

impl Swept {
    fn new(failures: usize, kind: ErrorKind) -> Arc<Self> {
        Arc::new(Self { sweeps: watch::channel(0).0, failures: failures.into(), kind })
    }

    async fn swept(&self, times: usize) {
        self.sweeps.subscribe().wait_for(|count| *count >= times).await.unwrap();
    }
}

impl Swept {
    async fn purge_expired(&self) -> Result<u64> {
        self.sweeps.send_modify(|count| *count += 1);
        let fails = self
            .failures
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok();
        if fails { Err(Error::new(self.kind, "no")) } else { Ok(1) }
    }
}

fn sweeper(storage: &Arc<Swept>, every: Duration) -> Sweeper {
    let purge = |storage: Arc<Swept>| async move { storage.purge_expired().await };
    Sweeper::start("swept", Arc::downgrade(storage), every, purge)
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn no_task_is_left() {
    while tasks() > 0 {
        // Only this moves the clock of these tests.
        tokio::time::advance(EVERY).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_sweeper_sweeps_at_every_interval() {
    let storage = Swept::new(0, ErrorKind::Other);
    let start = Instant::now();
    let _sweeper = sweeper(&storage, EVERY);
    storage.swept(3).await;
    assert_eq!(start.elapsed().as_secs(), 180);
}

#[tokio::test(start_paused = true)]
async fn errors_lengthen_the_interval_and_do_not_stop_the_sweeper() {
    let storage = Swept::new(6, ErrorKind::Unavailable);
    let start = Instant::now();
    let _sweeper = sweeper(&storage, EVERY);
    storage.swept(6).await;
    assert_eq!(start.elapsed().as_secs(), 60 * (1 + 2 + 4 + 8 + 16 + 16));
    storage.swept(7).await;
    let recovered = Instant::now();
    storage.swept(8).await;
    assert_eq!(recovered.elapsed().as_secs(), 60, "the interval is not restored after a success");
}

#[tokio::test(start_paused = true)]
async fn a_sweeper_stops_when_the_storage_is_closed() {
    let storage = Swept::new(1, ErrorKind::Closed);
    let running = sweeper(&storage, EVERY);
    storage.swept(1).await;
    no_task_is_left().await;
    running.ensure_running();
    assert_eq!(tasks(), 0, "a closed storage is swept again");
}

#[tokio::test(start_paused = true)]
async fn a_sweeper_stops_when_it_or_the_storage_is_dropped() {
    let storage = Swept::new(0, ErrorKind::Other);
    let running = sweeper(&storage, EVERY);
    assert_eq!(tasks(), 1);
    drop(running);
    no_task_is_left().await;

    let running = sweeper(&storage, EVERY);
    drop(storage);
    no_task_is_left().await;
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a_sweeper_without_an_interval_never_runs() {
    let storage = Swept::new(0, ErrorKind::Other);
    let purge = |storage: Arc<Swept>| async move { storage.purge_expired().await };
    let off = Sweeper::start("swept", Arc::downgrade(&storage), None, purge);
    off.ensure_running();
    assert_eq!(tasks(), 0);
    off.stop();
}

#[test]
fn a_sweeper_starts_within_a_runtime_and_moves_to_another_one() {
    let storage = Swept::new(0, ErrorKind::Other);
    let running = sweeper(&storage, Duration::from_millis(1));
    running.ensure_running();
    for round in 1..=2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            running.ensure_running();
            assert_eq!(tasks(), 1);
            storage.swept(round * 3).await;
        });
    }
}

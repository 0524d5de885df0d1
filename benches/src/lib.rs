//! What the benchmarks share: keys, a value, and one way to measure them all.
//!
//! Each group of measurements is one operation at one number of tasks; in it stand ours, the raw
//! driver and the peers, so that their ratios come from one run.

pub mod peers;

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use criterion::{Criterion, Throughput};
use larder_core::{Expiry, Key, ReadOptions, Store, WriteOptions};
use tokio::runtime::Runtime;

/// How many different keys are written and read.
pub const KEYS: u64 = 10_000;

/// What each entry holds: 512 bytes, a middling session.
pub static VALUE: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![b'x'; 512]));

/// The time to live of every write.
pub const TTL: Duration = Duration::from_secs(24 * 60 * 60);

/// A number that no row holds yet: a write that changes nothing would be cheaper than a real one.
pub fn fresh() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

/// The key of that number.
pub fn key(number: u64) -> Key {
    Key::new(format!("chat:{}", number % KEYS)).unwrap()
}

/// The runtime that everything runs on.
pub static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());

/// One group: `operation` on `store`, by `tasks` tasks at a time.
pub struct Group<'c> {
    group: criterion::BenchmarkGroup<'c, criterion::measurement::WallTime>,
    tasks: u64,
}

impl<'c> Group<'c> {
    /// A group with no measurements.
    pub fn new(criterion: &'c mut Criterion, store: &str, operation: &str, tasks: u64) -> Self {
        let mut group = criterion.benchmark_group(format!("{store} {operation} {tasks}"));
        group.throughput(Throughput::Elements(1));
        group.sample_size(15);
        group.warm_up_time(Duration::from_millis(500));
        group.measurement_time(Duration::from_secs(2));
        Self { group, tasks }
    }

    /// Measures `operation`, which is given numbers of keys. `each` says how many operations one
    /// call does.
    pub fn measure_batches<O, F>(&mut self, name: &str, each: u64, operation: O)
    where
        O: Fn(u64) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        let tasks = self.tasks;
        self.group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let calls = iterations.div_ceil(each * tasks).max(1);
                let took = RUNTIME.block_on(run(tasks, calls, operation.clone()));
                // The time of as many operations as were asked for.
                took.mul_f64(iterations as f64 / (calls * tasks * each) as f64)
            });
        });
    }

    /// Measures `operation`, which is given numbers of keys.
    pub fn measure<O, F>(&mut self, name: &str, operation: O)
    where
        O: Fn(u64) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send,
    {
        self.measure_batches(name, 1, operation);
    }

    /// Measures the writes of a Larder store.
    pub fn write(&mut self, name: &str, store: &Store) {
        let (store, options) = (store.clone(), WriteOptions::new().expiry(Expiry::After(TTL)));
        self.measure(name, move |number| {
            let (store, options) = (store.clone(), options.clone());
            async move { drop(store.write_with(&key(number), VALUE.clone(), &options).await.unwrap()) }
        });
    }

    /// Measures the reads of a Larder store.
    pub fn read(&mut self, name: &str, store: &Store) {
        let store = store.clone();
        self.measure(name, move |number| {
            let store = store.clone();
            async move {
                let record = store.read_with(&key(number), &ReadOptions::new()).await.unwrap().unwrap();
                assert_eq!(record.value.len(), VALUE.len());
            }
        });
    }
}

/// How long `tasks` tasks take for `calls` calls each.
async fn run<O, F>(tasks: u64, calls: u64, operation: O) -> Duration
where
    O: Fn(u64) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let started = Instant::now();
    let running: Vec<_> = (0..tasks)
        .map(|task| {
            let operation = operation.clone();
            tokio::spawn(async move {
                for call in 0..calls {
                    // Scattered over the keys, and different from task to task.
                    operation((task * calls + call).wrapping_mul(7919)).await;
                }
            })
        })
        .collect();
    for task in running {
        task.await.unwrap();
    }
    started.elapsed()
}

/// Writes all keys, so that every read finds one.
pub async fn fill(store: &Store) {
    for number in 0..KEYS {
        store.write(&key(number), VALUE.clone()).expires_in(TTL).await.unwrap();
    }
}

/// The numbers of tasks that are measured.
pub const TASKS: [u64; 2] = [1, 64];

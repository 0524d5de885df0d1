//! Measures the contenders for one operation in turns, so that each ratio compares the same moment.

use std::{
    any::Any,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::timeout};

use crate::{allocations, data::Data, results::Measured};

/// The role of a contender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Hand-written code on the driver.
    Raw,
    /// Hand-written code with 64 changes per transaction or message: the upper limit for Larder's batches.
    Batches,
    Larder,
    /// An earlier build of Larder.
    Before,
    /// Another library for the same purpose.
    Peer,
}

/// The number of changes in a hand-written batch.
pub const BATCH: u64 = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    Read,
    Write,
    Update,
    /// Updates of one key.
    Hot,
}

impl Operation {
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Update, Self::Hot];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "reads",
            Self::Write => "writes",
            Self::Update => "sessions",
            Self::Hot => "hot",
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Update => "session update",
            Self::Hot => "update of one session by all tasks",
        }
    }
}

/// A number of tasks that run the operation on random keys for a time.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub tasks: u64,
    pub keys: u64,
    pub time: Duration,
}

/// The work of a contender in its time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub operations: u64,
    pub took: Duration,
}

impl Sample {
    pub fn rate(self) -> f64 {
        self.operations as f64 / self.took.as_secs_f64()
    }
}

/// One way to do an operation.
pub struct Contender {
    pub kind: Kind,
    pub name: String,
    run: Box<dyn Fn(Load) -> BoxFuture<'static, Result<Sample, String>> + Send + Sync>,
}

impl Contender {
    /// `operation` takes a handle on `state` and the number of a key.
    pub fn new<S, O, F>(kind: Kind, name: &str, state: &S, operation: O) -> Self
    where
        S: Clone + Send + Sync + 'static,
        O: Fn(Arc<S>, u64) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let state = state.clone();
        Self::of(kind, name, move |load| run(load, state.clone(), operation.clone()).boxed())
    }

    /// As [`new`](Self::new), for an operation that makes [`BATCH`] changes, run by at most `tasks` tasks.
    pub fn batches<S, O, F>(name: &str, tasks: u64, state: &S, operation: O) -> Self
    where
        S: Clone + Send + Sync + 'static,
        O: Fn(Arc<S>, u64) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let state = state.clone();
        Self::of(Kind::Batches, name, move |load| {
            let load = Load { tasks: tasks.min(load.tasks), ..load };
            let sample = run(load, state.clone(), operation.clone());
            sample.map_ok(|sample| Sample { operations: sample.operations * BATCH, ..sample }).boxed()
        })
    }

    pub fn of(
        kind: Kind,
        name: &str,
        run: impl Fn(Load) -> BoxFuture<'static, Result<Sample, String>> + Send + Sync + 'static,
    ) -> Self {
        Self { kind, name: name.to_owned(), run: Box::new(run) }
    }

    /// Runs the operation. If it fails, returns the message.
    pub async fn run(&self, load: Load) -> Result<Sample, String> {
        (self.run)(load).await
    }
}

/// The time after the end of a round in which its tasks must finish. Otherwise the contender has failed.
const GRACE: Duration = Duration::from_secs(60);

/// The number of operations after which a task yields. Operations that never wait would otherwise run in only one
/// task per processor.
const TURN: u64 = 64;

async fn run<S, O, F>(load: Load, state: S, operation: O) -> Result<Sample, String>
where
    S: Clone + Send + Sync + 'static,
    O: Fn(Arc<S>, u64) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    static SEED: AtomicU64 = AtomicU64::new(0);
    let stop = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..load.tasks {
        let (stop, operation) = (Arc::clone(&stop), operation.clone());
        // A reference count per task, because contention on a shared one would be measured too.
        let state = Arc::new(state.clone());
        let mut random = Rng::with_seed(SEED.fetch_add(1, Ordering::Relaxed));
        tasks.spawn(async move {
            let mut done: u64 = 0;
            loop {
                operation(Arc::clone(&state), random.u64(..load.keys)).await;
                done += 1;
                if stop.load(Ordering::Relaxed) {
                    return done;
                }
                if done.is_multiple_of(TURN) {
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    // A thread, because timers are late in a runtime whose tasks never wait.
    let alarm = Arc::clone(&stop);
    thread::spawn(move || {
        thread::sleep(load.time);
        alarm.store(true, Ordering::Relaxed);
    });
    let all = async {
        let mut done = 0;
        while let Some(task) = tasks.join_next().await {
            match task {
                Ok(count) => done += count,
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(match error.try_into_panic() {
                        Ok(panic) => message(&*panic),
                        Err(error) => error.to_string(),
                    });
                }
            }
        }
        Ok(done)
    };
    let operations = timeout(load.time + GRACE, all).await.map_err(|_| "takes more than a minute")??;
    Ok(Sample { operations, took: started.elapsed() })
}

/// The first line of a panic's message.
pub fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("panicked").lines().next().unwrap_or_default().chars().take(160).collect()
}

/// The length and number of rounds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Effort {
    pub rounds: usize,
    pub time: Duration,
    pub warm_up: Duration,
}

/// Measures the contenders, each once per round, in an order that rotates from round to round.
pub async fn measure(
    contenders: &[Contender],
    operation: Operation,
    data: Data,
    tasks: u64,
    effort: Effort,
) -> Vec<Measured> {
    // Batches are the upper limit for many tasks, so with fewer tasks they do not take part.
    let contenders: Vec<_> =
        contenders.iter().filter(|contender| contender.kind != Kind::Batches || tasks >= BATCH).collect();
    let keys = if operation == Operation::Hot { 1 } else { data.keys };
    let load = Load { tasks, keys, time: effort.time };
    let warm_up = Load { time: effort.warm_up, ..load };
    let mut measured = Vec::new();
    for contender in &contenders {
        let warmed = contender.run(warm_up).await;
        let mut allocations = None;
        if warmed.is_ok() {
            let (sample, count) = allocations::count(contender.run(warm_up)).await;
            allocations = sample.ok().map(|sample| count as f64 / sample.operations as f64);
        }
        measured.push(Measured {
            kind: contender.kind,
            name: contender.name.clone(),
            rounds: Vec::new(),
            allocations,
            failure: warmed.err(),
        });
    }
    for round in 0..effort.rounds {
        for turn in 0..contenders.len() {
            let at = (round + turn) % contenders.len();
            if measured[at].failure.is_none() {
                match contenders[at].run(load).await {
                    Ok(sample) => measured[at].rounds.push(sample.rate()),
                    Err(failure) => measured[at].failure = Some(failure),
                }
            }
        }
    }
    measured
}

//! The same callers on threads. At each use of a primitive, a scheduler decides which thread continues.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
};

use fastrand::Rng;
use futures_util::future::join_all;
use larder_core::Storage;
use shuttle::{
    Config, MaxSteps, Runner,
    rand::RngCore as _,
    scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler},
};

use crate::group_commit::{
    caller::{Abandoned, Caller, last_put},
    log::Event,
    model::{Model, State, World},
    options::{Counts, Fault, Options},
    run::{Build, Report},
};

/// The way in which threads take turns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Schedules {
    /// A random thread continues.
    Random,
    /// The thread with the highest priority continues, and priorities change a few times (probabilistic concurrency
    /// testing).
    Pct,
    /// Replays a schedule that failed.
    Replay(String),
}

/// The number of priority changes in a schedule.
const DEPTH: usize = 3;

/// The outcome of a series of schedules.
#[derive(Debug)]
pub struct Explored {
    /// How often each fault has happened.
    pub counts: Counts,
    /// The first failure: a report with the broken promises, or a panic.
    pub failure: Option<String>,
}

/// The schedule under way, for the report if it does not finish.
type Current = Option<(u64, Arc<World>)>;

/// Runs `count` schedules of a group commit, chosen by `seed`.
pub(crate) fn explore(schedules: &Schedules, seed: u64, count: usize, build: Build) -> Explored {
    let counts = Arc::new(Mutex::new(Counts::default()));
    let failure: Arc<Mutex<Option<String>>> = Arc::default();
    let current: Arc<Mutex<Current>> = Arc::default();
    let program = {
        let (counts, failure, current) = (Arc::clone(&counts), Arc::clone(&failure), Arc::clone(&current));
        move || {
            // Part of the schedule, so that a replay draws the same seed.
            let seed = shuttle::rand::thread_rng().next_u64();
            let report = program(seed, build, |world| {
                *current.lock().unwrap_or_else(PoisonError::into_inner) = Some((seed, Arc::clone(world)));
            });
            counts.lock().unwrap_or_else(PoisonError::into_inner).add(&report.counts);
            if !report.violations.is_empty() {
                *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.to_string());
                // The scheduler prints the schedule of a panic.
                std::panic::resume_unwind(Box::new("a promise was broken"));
            }
        }
    };
    let run = || match schedules {
        Schedules::Random => start(RandomScheduler::new_from_seed(seed, count), program),
        Schedules::Pct => start(PctScheduler::new_from_seed(seed, DEPTH, count), program),
        Schedules::Replay(schedule) => start(ReplayScheduler::new_from_encoded(schedule), program),
    };
    let panicked = catch_unwind(AssertUnwindSafe(run)).err().map(|payload| {
        let text = payload.downcast_ref::<String>().cloned();
        text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
    });
    let counts = counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let found = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    // A panic, or a deadlock.
    let stuck = |panicked| match current.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some((seed, world)) => format!("{}{panicked}", Report::new(seed, &world)),
        None => panicked,
    };
    Explored { counts, failure: panicked.map(|panicked| found.unwrap_or_else(|| stuck(panicked))) }
}

fn start(scheduler: impl Scheduler + 'static, program: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 18;
    config.max_steps = MaxSteps::FailAfter(100_000);
    config.silence_warnings = true;
    Runner::new(scheduler, config).run(program);
}

/// One schedule: a few threads with a caller each. Time does not pass, so faults that wait for a time are left out.
fn program(seed: u64, build: Build, begins: impl FnOnce(&Arc<World>)) -> Report {
    let mut rng = Rng::with_seed(seed);
    let mut options = Options::draw(&mut rng);
    options.lanes = options.lanes.min(2);
    options.keys = options.keys.min(2);
    options.callers = rng.usize(2..=3);
    options.calls = options.calls.min(3);
    options.turns = options.turns.min(1);
    options.latency = 0;
    options
        .failures
        .retain(|fault| !matches!(fault, Fault::ReplyLost | Fault::RequestLost | Fault::Panicked));
    (options.store_closes, options.handle_drops, options.runtime_ends) = (None, None, Vec::new());
    let world = World::new(options.clone(), rng.fork());
    begins(&world);
    let commit: Arc<dyn Storage> = build(Model::new(&world), &options);
    let abandoned = Abandoned::default();
    let threads: Vec<_> = (0..options.callers)
        .map(|number| {
            let caller = Caller {
                world: Arc::clone(&world),
                commit: Arc::clone(&commit),
                rng: rng.fork(),
                abandoned: Arc::clone(&abandoned),
                closes: options.closing && number == 0,
                elsewhere: None,
            };
            shuttle::thread::spawn(move || shuttle::future::block_on(caller.run()))
        })
        .collect();
    for thread in threads {
        if let Err(payload) = thread.join() {
            std::panic::resume_unwind(payload);
        }
    }
    let calls = std::mem::take(&mut *abandoned.lock().unwrap_or_else(PoisonError::into_inner));
    drop(calls);
    {
        let mut state = world.lock();
        state.calm = true;
        state.log.push(Event::Calm);
    }
    let puts: Vec<_> = (0..State::KEYS).map(|number| last_put(&world, &commit, number)).collect();
    let answers = shuttle::future::block_on(join_all(puts));
    world.lock().check_last(&answers);
    Report::new(seed, &world)
}

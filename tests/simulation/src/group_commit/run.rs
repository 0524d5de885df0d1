//! One run: callers on tokio's current-thread runtimes with paused time. The runtimes take turns on one thread.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use futures_util::future::join_all;
use larder_core::Storage;

use crate::{
    group_commit::{
        caller::{Abandoned, Caller, last_put},
        check::check,
        log::{Event, Log},
        model::{Model, State, World},
        on_tokio::runtime::Runtime,
        options::{Counts, Fault, Options},
    },
    living::Living,
    panics,
    seeds::Outcome,
    turns::step_aside,
};

/// The time by which all callers must have their answers, in milliseconds.
const LONGEST: u64 = 1_000;

/// Builds a group commit on the model.
pub(crate) type Build = fn(Model, &Options) -> Arc<dyn Storage>;

/// The outcome of a run.
#[derive(Clone)]
pub struct Report {
    /// The seed that decided everything.
    pub seed: u64,
    /// The broken promises.
    pub violations: Vec<String>,
    /// How often each fault has happened.
    pub counts: Counts,
    options: Options,
    log: Arc<Log>,
}

impl Report {
    pub(crate) fn new(seed: u64, world: &World) -> Self {
        let mut state = world.lock();
        let state = &mut *state;
        let mut violations = check(&state.log, &state.options, &mut state.counts);
        violations.sort();
        violations.dedup();
        Self {
            seed,
            violations,
            counts: state.counts.clone(),
            options: state.options.clone(),
            log: Arc::new(std::mem::take(&mut state.log)),
        }
    }
}

impl Outcome for Report {
    type Fault = Fault;

    fn violations(&self) -> &[String] {
        &self.violations
    }

    fn counts(&self) -> &Counts {
        &self.counts
    }
}

/// Prints seed, options, trace and broken promises.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "{:#?}", self.options)?;
        write!(f, "{}", self.log)?;
        for violation in &self.violations {
            writeln!(f, "VIOLATION: {violation}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

struct Run {
    world: Arc<World>,
    /// `None` once the handles are dropped.
    commit: Option<Arc<dyn Storage>>,
    build: Build,
    runtimes: Vec<Option<Runtime>>,
    abandoned: Abandoned,
    living: Arc<AtomicUsize>,
    rng: Rng,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, build: Build) -> Report {
    panics::watch();
    let mut rng = Rng::with_seed(seed);
    let options = Options::draw(&mut rng);
    let world = World::new(options.clone(), rng.fork());
    let commit = build(Model::new(&world), &options);
    let handles = Arc::downgrade(&commit);
    let commit = Some(commit);
    let (abandoned, living) = (Abandoned::default(), Arc::default());
    let mut run = Run { world, commit, build, runtimes: Vec::new(), abandoned, living, rng };
    for _ in 0..options.runtimes {
        run.runtimes.push(Some(Runtime::new()));
    }
    for number in 0..options.callers {
        run.spawn(options.closing && number == 0);
    }
    let mut held = true;
    let mut ends = options.runtime_ends.clone();
    while run.living.load(Ordering::Relaxed) > 0 && run.world.clock.now() < LONGEST {
        run.tick();
        let now = run.world.clock.now();
        if options.store_closes == Some(now) {
            let mut state = run.world.lock();
            state.counts.count(Fault::StoreClosed);
            state.closed = true;
        }
        if options.handle_drops == Some(now) {
            run.world.lock().closing = true;
            run.commit = None;
        }
        if handles.strong_count() == 0 && std::mem::replace(&mut held, false) {
            let mut state = run.world.lock();
            if state.is_serving() {
                state.counts.count(Fault::HandleDropped);
            }
        }
        while let Some(place) = ends.iter().position(|end| *end <= now) {
            ends.remove(place);
            run.end_runtime(&options);
        }
    }
    run.finish(&options);
    {
        let mut state = run.world.lock();
        (state.over, state.ending) = (true, true);
    }
    for runtime in run.runtimes.drain(..).flatten() {
        runtime.end(&mut run.rng);
    }
    if panics::panicked() {
        run.broken("a task has panicked");
    }
    Report::new(seed, &run.world)
}

impl Run {
    /// Starts a caller on one of the runtimes.
    fn spawn(&mut self, closes: bool) {
        let Some(commit) = self.commit.clone() else { return };
        let living: Vec<&Runtime> = self.runtimes.iter().flatten().collect();
        let runtime = living[self.rng.usize(0..living.len())];
        let elsewhere = self.world.lock().options.elsewhere && self.rng.bool();
        let elsewhere = elsewhere.then(|| living[self.rng.usize(0..living.len())].context());
        let caller = Caller {
            world: Arc::clone(&self.world),
            commit,
            rng: self.rng.fork(),
            abandoned: Arc::clone(&self.abandoned),
            closes,
            elsewhere,
        };
        let living = Living::new(&self.living);
        runtime.spawn(async move {
            let _living = living;
            caller.run().await;
        });
    }

    /// Lets every runtime run for a while, and advances the time by a millisecond.
    fn tick(&mut self) {
        for _ in 0..self.rng.usize(1..=3) {
            self.turn();
        }
        self.world.clock.tick();
        self.rest();
        for runtime in self.awake() {
            runtime.block_on(tokio::time::advance(Duration::from_millis(1)));
        }
        self.turn();
        self.world.lock().check_values();
    }

    /// The runtimes that do not rest.
    fn awake(&self) -> impl Iterator<Item = &Runtime> {
        let (now, calm) = (self.world.clock.now(), self.world.lock().calm);
        self.runtimes.iter().flatten().filter(move |runtime| calm || runtime.rests_until <= now)
    }

    /// Sometimes lets a runtime rest.
    fn rest(&mut self) {
        let mut state = self.world.lock();
        if !state.options.resting || state.calm || self.rng.u32(0..8) > 0 {
            return;
        }
        let place = self.rng.usize(0..self.runtimes.len());
        if let Some(runtime) = &mut self.runtimes[place] {
            runtime.rests_until = self.world.clock.now() + self.rng.u64(1..8);
            state.counts.count(Fault::RuntimeRested);
        }
    }

    fn turn(&mut self) {
        self.rng.shuffle(&mut self.runtimes);
        let mut rng = self.rng.fork();
        for runtime in self.awake() {
            runtime.block_on(step_aside(rng.usize(1..=4)));
        }
        // Dropped outside every runtime.
        let abandoned = std::mem::take(&mut *self.abandoned.lock().unwrap_or_else(PoisonError::into_inner));
        drop(abandoned);
    }

    /// Ends a runtime with all of its tasks. The others continue, or a new one starts.
    fn end_runtime(&mut self, options: &Options) {
        let place = self.rng.usize(0..self.runtimes.len());
        let ended = self.runtimes[place].take();
        if self.runtimes.iter().all(Option::is_none) || self.rng.bool() {
            self.runtimes[place] = Some(Runtime::new());
        } else {
            self.runtimes.remove(place);
        }
        {
            let mut state = self.world.lock();
            state.counts.count(Fault::RuntimeEnded);
            if state.is_serving() {
                state.counts.count(Fault::RuntimeEndedInBatch);
            }
            state.log.push(Event::RuntimeEnded);
            state.ending = true;
        }
        if let Some(ended) = ended {
            ended.end(&mut self.rng);
        }
        self.world.lock().ending = false;
        for _ in 0..self.rng.usize(1..=options.callers) {
            self.spawn(false);
        }
    }

    /// Checks that after the last handle is dropped, all tasks end and release the store.
    fn release(&mut self) {
        for _ in 0..LONGEST {
            if !self.world.is_held() {
                return;
            }
            self.tick();
        }
        self.broken("a task keeps the store after the storage was dropped");
    }

    fn broken(&self, violation: &str) {
        self.world.lock().log.push(Event::Broken(violation.to_owned()));
    }

    /// Checks that after the faults a put of every key succeeds. If the storage has been dropped, uses a new one.
    fn finish(&mut self, options: &Options) {
        {
            let mut state = self.world.lock();
            state.calm = true;
            state.log.push(Event::Calm);
        }
        self.runtimes.push(Some(Runtime::new()));
        let commit = self.commit.take().unwrap_or_else(|| {
            self.release();
            (self.build)(Model::new(&self.world), options)
        });
        let puts: Vec<_> = (0..State::KEYS).map(|number| last_put(&self.world, &commit, number)).collect();
        drop(commit);
        let Some(last) = self.runtimes.last().and_then(Option::as_ref) else { return };
        let answers = Arc::<Mutex<Option<_>>>::default();
        let answered = Arc::clone(&answers);
        last.spawn(async move {
            let all = join_all(puts).await;
            *answered.lock().unwrap_or_else(PoisonError::into_inner) = Some(all);
        });
        let answers = (0..LONGEST).find_map(|_| {
            self.tick();
            answers.lock().unwrap_or_else(PoisonError::into_inner).take()
        });
        self.world.lock().check_last(&answers.unwrap_or_default());
        self.release();
    }
}

//! One run: processes on tokio's current-thread runtimes with paused time, which take turns on one thread.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use futures_util::future::BoxFuture;
use larder_core::simulation::Simulated;
use tokio::runtime::{Builder, Runtime};

use super::{
    Bug,
    options::{Fault, Life, Options, Theme},
    planted,
    world::{ProcessId, State, World},
};
use crate::{Counts, Outcome, living::Living, panics, turns::step_aside};

/// The number of turns by which all callers must have their answers.
const LONGEST: usize = 60_000;

/// The most processes that are started in place of killed ones.
const RESTARTS: usize = 4;

/// Checks a lease. Returns whether the lease still exists.
pub(crate) type Probe = Box<dyn FnMut() -> bool + Send>;
pub(crate) type Probes = Arc<Mutex<Vec<Probe>>>;

/// A caller of a process.
pub(crate) type Task = BoxFuture<'static, ()>;

/// What a process does.
#[derive(Clone, Copy)]
pub(crate) struct Program {
    pub(crate) callers: fn(&Arc<World>, ProcessId, &Probes, &mut Rng) -> Vec<Task>,
    pub(crate) finish: fn(&Arc<World>, ProcessId, &Probes) -> Task,
}

/// The outcome of a run.
#[derive(Clone)]
pub struct Report {
    /// The seed that decided everything.
    pub seed: u64,
    /// The broken promises.
    pub violations: Vec<String>,
    /// How often each fault has happened.
    pub counts: Counts<Fault>,
    /// The hash of every call, effect and answer, with its time.
    pub hash: u64,
    options: Options,
    trace: Vec<String>,
}

impl Outcome for Report {
    type Fault = Fault;

    fn violations(&self) -> &[String] {
        &self.violations
    }

    fn counts(&self) -> &Counts<Fault> {
        &self.counts
    }
}

/// Prints seed, options, trace and broken promises.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, trace {:016x}", self.seed, self.hash)?;
        writeln!(f, "{:#?}", self.options)?;
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
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

struct Process {
    id: ProcessId,
    runtime: Runtime,
    simulated: Simulated,
    /// The milliseconds by which its clock is ahead.
    ahead: i64,
    /// The time that its runtime has reached.
    reached: u64,
    /// It does not run before this moment.
    paused_until: u64,
    probes: Probes,
    /// The callers that have not ended.
    living: Arc<AtomicUsize>,
}

impl Process {
    fn new(world: &World, rng: &mut Rng) -> Self {
        let runtime = match Builder::new_current_thread().enable_time().start_paused(true).build() {
            Ok(runtime) => runtime,
            Err(error) => unreachable!("a runtime without a driver for I/O: {error}"),
        };
        let mut state = world.lock();
        let skew = state.options.skew;
        Self {
            id: state.new_process(),
            runtime,
            simulated: Simulated { unix_millis: 0, ids: rng.u64(..) },
            ahead: rng.i64(-skew..=skew),
            reached: state.now,
            paused_until: 0,
            probes: Probes::default(),
            living: Arc::default(),
        }
    }

    fn spawn(&self, caller: BoxFuture<'static, ()>) {
        let living = Living::new(&self.living);
        self.runtime.spawn(async move {
            let _living = living;
            caller.await;
        });
    }

    fn is_idle(&self) -> bool {
        self.living.load(Ordering::Relaxed) == 0
    }

    /// Runs work within the runtime, with the clock and the ids of the process.
    fn within<R>(&mut self, world: &World, work: impl FnOnce(&Runtime) -> R) -> R {
        self.simulated.unix_millis = State::wall(world.lock().millis()) + self.ahead;
        let runtime = &self.runtime;
        self.simulated.run(|| work(runtime))
    }

    /// Lets the tasks of the process run, after the time that has passed since the last turn.
    fn turn(&mut self, world: &World, turns: usize) {
        let now = world.lock().now;
        let passed = now - std::mem::replace(&mut self.reached, now);
        let probes = Arc::clone(&self.probes);
        self.within(world, |runtime| {
            runtime.block_on(async {
                if passed > 0 {
                    tokio::time::advance(Duration::from_micros(passed)).await;
                }
                step_aside(turns).await;
                let mut probes = probes.lock().unwrap_or_else(PoisonError::into_inner);
                probes.retain_mut(|probe| probe());
            });
        });
    }

    /// Ends the runtime with all of its tasks. Their destructors run, but nothing that they do has an effect.
    fn end(mut self, world: &World) {
        self.simulated.unix_millis = State::wall(world.lock().millis());
        let runtime = self.runtime;
        self.simulated.run(|| drop(runtime));
    }
}

struct Run {
    world: Arc<World>,
    program: Program,
    processes: Vec<Process>,
    restarts: usize,
    rng: Rng,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, program: Program, bug: Option<Bug>, keeps_trace: bool) -> Report {
    panics::watch();
    planted::plant(bug);
    // The jitter of delays.
    fastrand::seed(seed);
    let mut rng = Rng::with_seed(seed);
    let options = Options::draw(&mut rng, Theme::of(seed));
    let world = World::new(options.clone(), rng.fork(), keeps_trace);
    if options.content_versions {
        world.lock().count(Fault::ContentVersions);
    }
    let mut run = Run { world, program, processes: Vec::new(), restarts: 0, rng };
    for _ in 0..options.processes {
        run.start();
    }
    if run.processes.iter().any(|process| process.ahead != run.processes[0].ahead) {
        run.world.lock().count(Fault::ClocksDiffered);
    }
    run.go(|run| run.processes.iter().all(Process::is_idle));
    run.finish();
    for process in run.processes.drain(..) {
        run.world.lock().kill(process.id);
        process.end(&run.world);
    }
    run.check_panics();
    planted::plant(None);
    let mut state = run.world.lock();
    let state = &mut *state;
    let (hash, trace) = std::mem::replace(&mut state.log, super::log::Log::new(false)).finish();
    Report {
        seed,
        violations: std::mem::take(&mut state.violations),
        counts: std::mem::take(&mut state.counts),
        hash,
        options,
        trace,
    }
}

impl Run {
    fn start(&mut self) {
        let mut process = Process::new(&self.world, &mut self.rng);
        let (world, callers) = (Arc::clone(&self.world), self.program.callers);
        let (id, probes) = (process.id, Arc::clone(&process.probes));
        let mut rng = self.rng.fork();
        let callers = process.within(&world, |_| callers(&world, id, &probes, &mut rng));
        callers.into_iter().for_each(|caller| process.spawn(caller));
        self.processes.push(process);
    }

    fn is_broken(&self) -> bool {
        !self.world.lock().violations.is_empty()
    }

    /// Also those of the tasks that the library has spawned.
    fn check_panics(&self) {
        if panics::panicked() {
            self.world.lock().broken("a task has panicked".to_owned());
        }
    }

    /// Takes turns until `done`, or until a promise is broken.
    fn go(&mut self, done: impl Fn(&Self) -> bool) {
        for _ in 0..LONGEST {
            if self.is_broken() || done(self) {
                return;
            }
            self.tick();
            self.check_panics();
        }
        self.world.lock().broken("a call has no answer".to_owned());
    }

    /// Advances the time, and lets every process run that is not paused.
    fn tick(&mut self) {
        let mut state = self.world.lock();
        let now = state.now;
        let waits = !state.is_busy() && !state.has_leases();
        let next = state.next_due().filter(|next| waits && *next > now);
        let unit = state.options.units(1);
        let until = next.unwrap_or_else(|| now + self.rng.u64(unit / 20..=unit * 3 / 2));
        state.advance(until);
        let calm = state.calm;
        let options = state.options.clone();
        drop(state);
        if !calm {
            self.disturb(&options);
        }
        self.rng.shuffle(&mut self.processes);
        for process in &mut self.processes {
            let turns = self.rng.usize(1..=6);
            if process.paused_until <= until {
                process.turn(&self.world, turns);
            }
        }
    }

    /// Kills or pauses a process, or changes a clock.
    fn disturb(&mut self, options: &Options) {
        let place = self.rng.usize(0..self.processes.len());
        let mut chance = |of_1000: u32| self.rng.u32(0..1_000) < of_1000;
        let (kills, pauses, jumps, drifts) = (
            chance(options.killing),
            chance(options.pausing),
            chance(options.jumping),
            chance(options.jumping * 20),
        );
        let process = &mut self.processes[place];
        let mut state = self.world.lock();
        if jumps && options.skew > 0 {
            process.ahead = self.rng.i64(-options.skew..=options.skew);
            state.count(Fault::ClockJumped);
        }
        if drifts && options.skew > 0 {
            let step = options.skew / 20 + 1;
            process.ahead = (process.ahead + self.rng.i64(-step..=step)).clamp(-options.skew, options.skew);
            state.count(Fault::ClockDrifted);
        }
        if pauses {
            let pause = options.units(self.rng.u64(1..=Options::LONGEST_PAUSE));
            process.paused_until = state.now + pause;
            state.event(&format!("process {} does not run", process.id));
            state.count(Fault::Paused);
            if state.has_lease(process.id) && pause > 1_000 * options.ttl {
                state.count(Fault::PausedBeyondLease);
            }
        }
        let kills = kills && self.restarts < RESTARTS && !process.is_idle();
        if !kills {
            return;
        }
        let id = process.id;
        state.event(&format!("process {id} is killed"));
        state.count(Fault::Killed);
        if state.has_lease(id) {
            state.count(Fault::KilledWithLease);
        }
        if state.is_moving(id) {
            state.count(Fault::KilledDuringMove);
        }
        state.kill(id);
        drop(state);
        self.processes.swap_remove(place).end(&self.world);
        self.restarts += 1;
        self.start();
    }

    /// Ends the faults, and checks the state that remains.
    fn finish(&mut self) {
        if self.is_broken() {
            return;
        }
        let mut state = self.world.lock();
        state.event("no faults from here");
        state.calm = true;
        drop(state);
        for process in &mut self.processes {
            process.paused_until = 0;
        }
        // Late requests and the last tasks.
        let options = self.world.lock().options.clone();
        let until = self.world.lock().now + 3 * options.timeout();
        self.go(|run| run.world.lock().now >= until);
        let process = Process::new(&self.world, &mut self.rng);
        process.spawn((self.program.finish)(&self.world, process.id, &process.probes));
        let id = process.id;
        self.processes.push(process);
        self.go(|run| run.processes.iter().any(|process| process.id == id && process.is_idle()));
        let until = self.world.lock().now + 3 * options.timeout();
        self.go(|run| run.world.lock().now >= until);
        if self.is_broken() {
            return;
        }
        let life = match options.life {
            Life::Forever => 0,
            Life::AfterWrite(life) | Life::Sliding(life) | Life::Both(life, _) => options.units(life),
        };
        // The index names a session for up to four steps longer, which are at least a minute each.
        let hour = 3_600 * 1_000_000;
        let mut state = self.world.lock();
        let until = state.now + 3 * life + hour;
        state.advance(until);
        state.check_leaks();
    }
}

//! Runs many seeds.

use std::{num::NonZero, ops::Range, panic::resume_unwind, thread};

use crate::faults::{Counts, Faults};

/// The outcome of a run.
pub trait Outcome: Send {
    /// The faults of the simulation.
    type Fault: Faults;

    /// The broken promises.
    fn violations(&self) -> &[String];

    /// How often each fault has happened.
    fn counts(&self) -> &Counts<Self::Fault>;
}

/// Runs seeds on one thread per processor. Returns how often each fault has happened.
///
/// # Errors
///
/// A run that broke a promise: the first one of its thread.
pub(crate) fn run_all<O: Outcome>(
    seeds: Range<u64>,
    simulate: impl Fn(u64) -> O + Sync,
) -> Result<Counts<O::Fault>, Box<O>> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let share = (seeds.end - seeds.start).div_ceil(threads);
    let run = |number: u64| {
        let first = seeds.start + number * share;
        let mut counts = Counts::default();
        for seed in first..(first + share).min(seeds.end) {
            let outcome = simulate(seed);
            if !outcome.violations().is_empty() {
                return Err(Box::new(outcome));
            }
            counts.add(outcome.counts());
        }
        Ok(counts)
    };
    let run = &run;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|number| scope.spawn(move || run(number))).collect();
        let mut all = Counts::default();
        for thread in threads {
            all.add(&thread.join().unwrap_or_else(|payload| resume_unwind(payload))?);
        }
        Ok(all)
    })
}

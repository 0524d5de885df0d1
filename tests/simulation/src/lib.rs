//! Simulates the kit's group commit.
//!
//! See the README for what is simulated, and for how to replay a failure.

// The group commit is compiled once for each runtime.
#![allow(clippy::duplicate_mod)]

use std::{num::NonZero, ops::Range, panic::resume_unwind, thread};

/// Declares how to build a group commit of one module over the model.
macro_rules! builds {
    ($module:ident) => {
        pub(crate) fn build(
            model: $crate::model::Model,
            options: &$crate::options::Options,
        ) -> std::sync::Arc<dyn larder_core::Storage> {
            let commit = $module::GroupCommit::<$crate::model::Model>::builder(model)
                .max_batches(options.lanes)
                .max_batch(options.max_batch)
                .max_batch_bytes(options.max_batch_bytes);
            std::sync::Arc::new(commit.build())
        }
    };
}
pub(crate) use builds;

mod bugs;
mod caller;
mod check;
mod clock;
mod log;
mod model;
mod on_shuttle;
mod on_tokio;
mod options;
mod run;
mod threads;

use crate::run::Build;
pub use crate::{
    options::Counts,
    run::Report,
    threads::{Explored, Schedules},
};

/// Runs seeds on as many threads as there are processors. Returns how often each fault has happened, or a run
/// that broke a promise.
///
/// # Errors
///
/// The first such run of its thread.
pub fn simulate_all(seeds: Range<u64>) -> Result<Counts, Box<Report>> {
    let threads = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    let share = (seeds.end - seeds.start).div_ceil(threads);
    let run = |number: u64| {
        let first = seeds.start + number * share;
        let mut counts = Counts::default();
        for seed in first..(first + share).min(seeds.end) {
            let report = simulate(seed);
            if !report.violations.is_empty() {
                return Err(Box::new(report));
            }
            counts.add(&report.counts);
        }
        Ok(counts)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|number| scope.spawn(move || run(number))).collect();
        let mut all = Counts::default();
        for thread in threads {
            all.add(&thread.join().unwrap_or_else(|payload| resume_unwind(payload))?);
        }
        Ok(all)
    })
}

/// Runs one seed.
#[must_use]
pub fn simulate(seed: u64) -> Report {
    run::run(seed, on_tokio::build)
}

/// Runs `count` schedules of threads, which `seed` draws.
#[must_use]
pub fn explore(schedules: &Schedules, seed: u64, count: usize) -> Explored {
    threads::explore(schedules, seed, count, on_shuttle::build)
}

/// A bug that is planted in the group commit, and that the checker has to find.
#[derive(Clone, Copy, Debug)]
pub enum Bug {
    /// A caller is told that its change is applied, and then it is.
    ReplyBeforeCommit,
    /// If a batch fails, its callers are told that it is applied.
    FailedBatchAnsweredAsApplied,
    /// A change that may have been applied is said not to have been.
    UnknownAnsweredAsNotApplied,
    /// A change that was not sent is queued again, behind later ones.
    RetryOutOfOrder,
    /// A batch that may have been applied is sent again.
    UnknownBatchRetried,
    /// A lane waits for a caller that is gone.
    AbandonedCallerStopsItsLane,
    /// A caller that waits for room in the queue is overtaken by another.
    WaitingSenderOvertaken,
    /// Two threads find a lane idle, and both serve it.
    IdleFlagLoadedAndThenStored,
}

impl Bug {
    const fn build(self) -> Build {
        match self {
            Self::ReplyBeforeCommit => bugs::reply_before_commit::build,
            Self::FailedBatchAnsweredAsApplied => bugs::failed_batch_answered_as_applied::build,
            Self::UnknownAnsweredAsNotApplied => bugs::unknown_answered_as_not_applied::build,
            Self::RetryOutOfOrder => bugs::retry_out_of_order::build,
            Self::UnknownBatchRetried => bugs::unknown_batch_retried::build,
            Self::AbandonedCallerStopsItsLane => bugs::abandoned_caller_stops_its_lane::build,
            Self::WaitingSenderOvertaken => bugs::waiting_sender_overtaken::build,
            Self::IdleFlagLoadedAndThenStored => bugs::idle_flag_loaded_and_then_stored::build,
        }
    }

    /// Runs one seed on the group commit with the bug.
    #[must_use]
    pub fn simulate(self, seed: u64) -> Report {
        run::run(seed, self.build())
    }

    /// Runs schedules on the group commit with the bug.
    #[must_use]
    pub fn explore(self, schedules: &Schedules, seed: u64, count: usize) -> Explored {
        threads::explore(schedules, seed, count, self.build())
    }
}

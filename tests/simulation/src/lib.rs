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

/// Declares the bugs, and the module that each is in.
macro_rules! bugs {
    ($($(#[$about:meta])* $bug:ident = $module:ident,)+) => {
        /// A bug that is planted in the group commit, and that the checker has to find.
        #[derive(Clone, Copy, Debug)]
        pub enum Bug {
            $($(#[$about])* $bug,)+
        }

        impl Bug {
            const fn build(self) -> Build {
                match self {
                    $(Self::$bug => bugs::$module::build,)+
                }
            }
        }
    };
}

bugs! {
    /// A caller is told that its change is applied, and then it is.
    ReplyBeforeCommit = reply_before_commit,
    /// If a batch fails, its callers are told that it is applied.
    FailedBatchAnsweredAsApplied = failed_batch_answered_as_applied,
    /// A change that may have been applied is said not to have been.
    UnknownAnsweredAsNotApplied = unknown_answered_as_not_applied,
    /// A change that was not sent is queued again, behind later ones.
    RetryOutOfOrder = retry_out_of_order,
    /// A batch that may have been applied is sent again.
    UnknownBatchRetried = unknown_batch_retried,
    /// A lane waits for a caller that is gone.
    AbandonedCallerStopsItsLane = abandoned_caller_stops_its_lane,
    /// A caller that waits for room in the queue is overtaken by another.
    WaitingSenderOvertaken = waiting_sender_overtaken,
    /// Two threads find a lane idle, and both serve it.
    IdleFlagLoadedAndThenStored = idle_flag_loaded_and_then_stored,
    /// The callers of a batch get one another's answers.
    AnswersMixedUp = answers_mixed_up,
    /// Reads that touch get one another's records.
    ReadsMixedUp = reads_mixed_up,
    /// A caller whose change failed is never answered.
    CallerWithoutAnAnswer = caller_without_an_answer,
    /// Changes are made whatever their conditions.
    ConditionLeftOut = condition_left_out,
    /// A batch is dropped once its first caller is gone.
    BatchDroppedWithItsCaller = batch_dropped_with_its_caller,
    /// Callers whose batch ended with its runtime are told that their changes are not applied.
    LostAnsweredAsNotApplied = lost_answered_as_not_applied,
    /// A caller whose change was surely not sent is told that it may have been applied.
    UnsentAnsweredAsUnknown = unsent_answered_as_unknown,
    /// A call panics if its batch ended with its runtime.
    LostAnswerPanics = lost_answer_panics,
    /// Each call begins to serve its lane.
    SeveralServeOneLane = several_serve_one_lane,
    /// A batch takes all that is queued.
    BatchesWithoutLimits = batches_without_limits,
    /// A change stays in the queue when its caller has gone.
    AbandonedChangeStaysQueued = abandoned_change_stays_queued,
    /// The task of a lane does not end.
    TaskKeepsTheStorage = task_keeps_the_storage,
    /// A flush or close does not wait for what was called before.
    FlushWithoutWaiting = flush_without_waiting,
    /// A flush does not come to the store.
    FlushLeftOut = flush_left_out,
    /// What is called after a clear does not wait for it.
    ClearHoldsNothingBack = clear_holds_nothing_back,
    /// A clear happens although its caller was gone before.
    AbandonedClearHappens = abandoned_clear_happens,
    /// Two barriers stand in different orders in two lanes.
    BarriersInDifferentOrders = barriers_in_different_orders,
}

impl Bug {
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

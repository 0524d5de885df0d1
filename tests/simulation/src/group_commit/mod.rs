//! The kit's group commit.

// The group commit is compiled once for each runtime.
#![allow(clippy::duplicate_mod)]

use std::ops::Range;

/// Defines a function that builds the group commit of a module on the model.
macro_rules! builds {
    ($module:ident) => {
        pub(crate) fn build(
            model: $crate::group_commit::model::Model,
            options: &$crate::group_commit::options::Options,
        ) -> std::sync::Arc<dyn larder_core::Storage> {
            let commit = $module::GroupCommit::<$crate::group_commit::model::Model>::builder(model)
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

use crate::group_commit::run::Build;
pub use crate::group_commit::{
    options::{Counts, Fault},
    run::Report,
    threads::{Explored, Schedules},
};

/// Runs seeds on one thread per processor. Returns how often each fault has happened.
///
/// # Errors
///
/// The report of a run that broke a promise: the first one of its thread.
pub fn simulate_all(seeds: Range<u64>) -> Result<Counts, Box<Report>> {
    crate::seeds::run_all(seeds, simulate)
}

/// Runs one seed.
#[must_use]
pub fn simulate(seed: u64) -> Report {
    run::run(seed, on_tokio::build)
}

/// Runs `count` schedules of threads, chosen by `seed`.
#[must_use]
pub fn explore(schedules: &Schedules, seed: u64, count: usize) -> Explored {
    threads::explore(schedules, seed, count, on_shuttle::build)
}

/// Declares the bugs and their modules.
macro_rules! bugs {
    ($($(#[$about:meta])* $bug:ident = $module:ident,)+) => {
        /// A bug planted in the group commit, which the checker must find.
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
    /// A caller gets the answer that its change is applied before it is applied.
    ReplyBeforeCommit = reply_before_commit,
    /// The callers of a failed batch get the answer that it is applied.
    FailedBatchAnsweredAsApplied = failed_batch_answered_as_applied,
    /// A change that may have been applied is answered as not applied.
    UnknownAnsweredAsNotApplied = unknown_answered_as_not_applied,
    /// A change that was not sent is queued again, after later changes.
    RetryOutOfOrder = retry_out_of_order,
    /// A batch that may have been applied is sent again.
    UnknownBatchRetried = unknown_batch_retried,
    /// A lane waits for a caller that is gone.
    AbandonedCallerStopsItsLane = abandoned_caller_stops_its_lane,
    /// A later caller overtakes one that waits for room in the queue.
    WaitingSenderOvertaken = waiting_sender_overtaken,
    /// Two threads find a lane idle, and both serve it.
    IdleFlagLoadedAndThenStored = idle_flag_loaded_and_then_stored,
    /// The callers of a batch get each other's answers.
    AnswersMixedUp = answers_mixed_up,
    /// Reads that touch get each other's records.
    ReadsMixedUp = reads_mixed_up,
    /// A caller whose change failed is never answered.
    CallerWithoutAnAnswer = caller_without_an_answer,
    /// Changes are made even if their conditions do not hold.
    ConditionLeftOut = condition_left_out,
    /// A batch is dropped once its first caller is gone.
    BatchDroppedWithItsCaller = batch_dropped_with_its_caller,
    /// Changes whose batch ended with its runtime are answered as not applied.
    LostAnsweredAsNotApplied = lost_answered_as_not_applied,
    /// A change that was never sent is answered as unknown.
    UnsentAnsweredAsUnknown = unsent_answered_as_unknown,
    /// A call panics if its batch ended with its runtime.
    LostAnswerPanics = lost_answer_panics,
    /// Each call starts a task that serves its lane.
    SeveralServeOneLane = several_serve_one_lane,
    /// A batch takes everything in the queue.
    BatchesWithoutLimits = batches_without_limits,
    /// A change stays in the queue after its caller has gone.
    AbandonedChangeStaysQueued = abandoned_change_stays_queued,
    /// The task of a lane does not end.
    TaskKeepsTheStorage = task_keeps_the_storage,
    /// A flush or close does not wait for earlier calls.
    FlushWithoutWaiting = flush_without_waiting,
    /// A flush does not reach the store.
    FlushLeftOut = flush_left_out,
    /// Calls after a clear do not wait for it.
    ClearHoldsNothingBack = clear_holds_nothing_back,
    /// A clear happens although its caller had already gone.
    AbandonedClearHappens = abandoned_clear_happens,
    /// Two lanes have the same two barriers in different orders.
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

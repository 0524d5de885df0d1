//! The checker finds each bug that is planted in the group commit, by the promise that the bug breaks.

use larder_simulation::group_commit::{Bug, Report, Schedules};

/// Checks that one of the first seeds breaks the promise.
#[track_caller]
fn found(bug: Bug, promise: &str) {
    const SEEDS: u64 = 1_000;
    let breaks = |report: &Report| report.violations.iter().any(|violation| violation.contains(promise));
    match (0..SEEDS).map(|seed| bug.simulate(seed)).find(breaks) {
        Some(report) => println!("{bug:?}: seed {}: {:#?}", report.seed, report.violations),
        None => panic!("{SEEDS} seeds do not find {bug:?}"),
    }
}

#[test]
fn reply_before_commit() {
    found(Bug::ReplyBeforeCommit, "it was applied after the answer");
}

#[test]
fn failed_batch_answered_as_applied() {
    found(Bug::FailedBatchAnsweredAsApplied, "the store said Failed");
}

#[test]
fn unknown_answered_as_not_applied() {
    found(Bug::UnknownAnsweredAsNotApplied, "the store said Failed");
}

#[test]
fn retry_out_of_order() {
    found(Bug::RetryOutOfOrder, "took effect before change");
}

#[test]
fn unknown_batch_retried() {
    found(Bug::UnknownBatchRetried, "was sent again");
    found(Bug::UnknownBatchRetried, "was applied twice");
}

#[test]
fn abandoned_caller_stops_its_lane() {
    found(Bug::AbandonedCallerStopsItsLane, "the puts have wrong answers");
}

#[test]
fn waiting_sender_overtaken() {
    found(Bug::WaitingSenderOvertaken, "took effect before change");
}

#[test]
fn answers_mixed_up() {
    found(Bug::AnswersMixedUp, "the store did Put");
    found(Bug::AnswersMixedUp, "answered Failed(Conflict");
}

#[test]
fn reads_mixed_up() {
    found(Bug::ReadsMixedUp, "the store did Read");
}

#[test]
fn caller_without_an_answer() {
    found(Bug::CallerWithoutAnAnswer, "has no answer");
}

#[test]
fn condition_left_out() {
    found(Bug::ConditionLeftOut, "on replay");
    found(Bug::ConditionLeftOut, "differs from the request");
}

#[test]
fn batch_dropped_with_its_caller() {
    found(Bug::BatchDroppedWithItsCaller, "was dropped although its runtime continues");
}

#[test]
fn lost_answered_as_not_applied() {
    found(Bug::LostAnsweredAsNotApplied, "it was applied");
}

#[test]
fn unsent_answered_as_unknown() {
    found(Bug::UnsentAnsweredAsUnknown, "it was never sent");
}

#[test]
fn lost_answer_panics() {
    found(Bug::LostAnswerPanics, "a task has panicked");
}

#[test]
fn several_serve_one_lane() {
    found(Bug::SeveralServeOneLane, "of one lane overlap");
    found(Bug::SeveralServeOneLane, "are under way at once");
}

#[test]
fn batches_without_limits() {
    found(Bug::BatchesWithoutLimits, "changes, ");
}

#[test]
fn abandoned_change_stays_queued() {
    found(Bug::AbandonedChangeStaysQueued, "was kept");
}

#[test]
fn task_keeps_the_storage() {
    found(Bug::TaskKeepsTheStorage, "a task keeps the store");
}

#[test]
fn flush_without_waiting() {
    found(Bug::FlushWithoutWaiting, "was called before Flush");
    found(Bug::FlushWithoutWaiting, "was called before Close");
}

#[test]
fn flush_left_out() {
    found(Bug::FlushLeftOut, "never reached the store");
}

#[test]
fn clear_holds_nothing_back() {
    found(Bug::ClearHoldsNothingBack, "overtook the clear");
    found(Bug::ClearHoldsNothingBack, "during the clear");
    found(Bug::ClearHoldsNothingBack, "began during a batch");
}

#[test]
fn abandoned_clear_happens() {
    found(Bug::AbandonedClearHappens, "although no caller waits for it");
}

/// A deadlock of threads is found too, with a report of the events before it.
#[test]
fn barriers_in_different_orders() {
    let failure = Bug::BarriersInDifferentOrders.explore(&Schedules::Random, 0, 10_000).failure;
    let failure = failure.expect("find a schedule with a deadlock");
    for part in ["deadlock", "seed ", "Options {", "Clear("] {
        assert!(failure.contains(part), "{failure}");
    }
}

#[test]
fn idle_flag_loaded_and_then_stored() {
    for schedules in [Schedules::Random, Schedules::Pct] {
        let explored = Bug::IdleFlagLoadedAndThenStored.explore(&schedules, 0, 10_000);
        let failure = explored.failure.unwrap_or_else(|| panic!("{schedules:?} does not find it"));
        // Two tasks that serve one lane can break any of these promises first.
        let broken = ["of one lane overlap", "began during a batch", "overtook the clear", "before change"];
        assert!(broken.iter().any(|promise| failure.contains(promise)), "{failure}");
    }
}

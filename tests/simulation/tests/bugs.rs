//! The checker finds each bug that is planted in the group commit, and by the promise that the bug breaks.

#![allow(clippy::panic)] // Helpers of tests are not tests to clippy.

use larder_simulation::{Bug, Report, Schedules};

/// A run of one of the first seeds breaks the promise.
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
}

#[test]
fn abandoned_caller_stops_its_lane() {
    found(Bug::AbandonedCallerStopsItsLane, "do not serve again");
}

#[test]
fn waiting_sender_overtaken() {
    found(Bug::WaitingSenderOvertaken, "took effect before change");
}

#[test]
fn idle_flag_loaded_and_then_stored() {
    for schedules in [Schedules::Random, Schedules::Pct] {
        let explored = Bug::IdleFlagLoadedAndThenStored.explore(&schedules, 0, 10_000);
        let failure = explored.failure.unwrap_or_else(|| panic!("{schedules:?} does not find it"));
        // What two tasks that serve one lane do, whichever comes first.
        let broken = ["of one lane overlap", "began during a batch", "overtook the clear", "before change"];
        assert!(broken.iter().any(|promise| failure.contains(promise)), "{failure}");
    }
}

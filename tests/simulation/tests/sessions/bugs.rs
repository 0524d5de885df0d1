//! The checks find each bug that is planted in the sessions, by the promise that the bug breaks.

use larder_simulation::sessions::{Bug, Report, Theme};

const SEEDS: u64 = 10_000;

/// The promise that each bug breaks, and the theme of the runs that do.
const PROMISES: &[(Bug, Theme, &str)] = &[
    (Bug::SaveWithoutCondition, Theme::Updates, "a write lost or changed updates of others"),
    (Bug::SaveRepeatedAfterLostReply, Theme::Updates, "was written twice"),
    (Bug::LostReplyAcknowledged, Theme::Updates, "was acknowledged before it was written"),
    (Bug::ConflictAcknowledged, Theme::Updates, "was acknowledged before it was written"),
    (Bug::LostReplyRefused, Theme::Updates, "was refused, but was written"),
    (Bug::KeysCutShort, Theme::Updates, "a session was seen by another key"),
    (Bug::SessionEndsEarly, Theme::Updates, "expired before its lifetime"),
    (Bug::IndexAfterSession, Theme::Owners, "the index does not name a session"),
    (Bug::IndexAfterTouch, Theme::Owners, "the index does not name a session"),
    (Bug::NotedOnceOnly, Theme::Owners, "the index does not name a session"),
    (Bug::LeaseCountedFromReply, Theme::Leases, "which has ended in the store"),
    (Bug::LeaseWithoutMargin, Theme::Leases, "which has ended in the store"),
    (Bug::LeaseEntryEndsEarly, Theme::Leases, "which has ended in the store"),
    (Bug::TokenWithoutSwap, Theme::Leases, "was handed out after"),
    (Bug::TokenUnconfirmed, Theme::Leases, "was handed out after"),
    (Bug::ReleaseOfAnyHolder, Theme::Leases, "which has ended in the store"),
    (Bug::LateRenewalCounts, Theme::Leases, "is held again"),
    (Bug::RenewalPanics, Theme::Leases, "a task has panicked"),
    (Bug::MoveEndsAfterFirstStep, Theme::Moves, "a move cannot be completed"),
    (Bug::DepartureWithoutCondition, Theme::Moves, "a write lost or changed updates of others"),
    (Bug::RedirectBeforeArrival, Theme::Moves, "a session was lost"),
    (Bug::UnwrappedBeforeRedirect, Theme::Moves, "a write lost or changed updates of others"),
    (Bug::RestoredAfterArrival, Theme::Moves, "a session is at two keys"),
    (Bug::MarkerExpires, Theme::Moves, "the marker of a move expired"),
    (Bug::MarkerNotRemoved, Theme::Moves, "after the faults, a call failed"),
    (Bug::MovedWithoutLifetime, Theme::Moves, "a session has the wrong deadline"),
    (Bug::TouchOfAnyVersion, Theme::Moves, "the marker of a move expired"),
    (Bug::UndoneWithoutSession, Theme::Moves, "a session was lost"),
    (Bug::IndexEndsEarly, Theme::Owners, "the index does not name a session"),
    (Bug::BucketWithoutCondition, Theme::Owners, "the index does not name a session"),
    (Bug::BucketNeverExpires, Theme::Owners, "an entry never expires"),
    (Bug::RevocationSkipsConflicts, Theme::Owners, "was acknowledged, but left session"),
    (Bug::RevocationWithoutVersion, Theme::Owners, "a session was lost"),
    (Bug::ListingEndsAtMissing, Theme::Owners, "misses a session"),
    (Bug::ListingOfAnyOwner, Theme::Owners, "has a session that was not of"),
    (Bug::LimitOffByOne, Theme::Owners, "after a sign-in, more than"),
];

#[test]
fn every_bug_has_a_promise() {
    let named = |bug: Bug| PROMISES.iter().any(|(planted, ..)| *planted == bug);
    assert_eq!(Bug::ALL.iter().find(|bug| !named(**bug)), None);
}

#[test]
fn bugs_of_updates_are_found() {
    found(Theme::Updates);
}

#[test]
fn bugs_of_leases_are_found() {
    found(Theme::Leases);
}

#[test]
fn bugs_of_moves_are_found() {
    found(Theme::Moves);
}

#[test]
fn bugs_of_owners_are_found() {
    found(Theme::Owners);
}

/// Checks that one of the runs with this theme breaks the promise of each of its bugs.
#[track_caller]
fn found(theme: Theme) {
    let mut missed = Vec::new();
    for (bug, _, promise) in PROMISES.iter().filter(|(_, of, _)| *of == theme) {
        let breaks = |report: &Report| report.violations.iter().any(|violation| violation.contains(promise));
        let seeds = (0..SEEDS).filter(|seed| Theme::of(*seed) == theme);
        match seeds.map(|seed| bug.simulate(seed)).find(breaks) {
            Some(report) => println!("{bug:?}: seed {}: {:?}", report.seed, report.violations),
            None => missed.push(format!("{SEEDS} seeds do not find {bug:?} by {promise:?}")),
        }
    }
    assert_eq!(missed, [""; 0]);
}

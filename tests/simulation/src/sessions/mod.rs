//! Sessions, leases, moves and owners.

// The callers are compiled for the sessions of production, and for those with planted bugs.
#![allow(clippy::duplicate_mod)]

use std::ops::Range;

mod check;
mod log;
mod on_planted;
mod on_production;
mod options;
mod planted;
mod run;
mod stored;
mod world;

pub use self::{
    options::{Fault, Theme},
    run::Report,
};
use crate::Counts;

/// Runs seeds on one thread per processor. Returns how often each fault has happened.
///
/// # Errors
///
/// The report of a run that broke a promise: the first one of its thread.
pub fn simulate_all(seeds: Range<u64>) -> Result<Counts<Fault>, Box<Report>> {
    crate::seeds::run_all(seeds, simulate)
}

/// Runs one seed. The report of a run that broke a promise has a trace.
#[must_use]
pub fn simulate(seed: u64) -> Report {
    let report = run::run(seed, on_production::client::PROGRAM, None, false);
    if report.violations.is_empty() { report } else { trace(seed) }
}

/// Runs one seed, and keeps its trace.
#[must_use]
pub fn trace(seed: u64) -> Report {
    run::run(seed, on_production::client::PROGRAM, None, true)
}

/// Declares the bugs.
macro_rules! bugs {
    ($($(#[$about:meta])* $bug:ident,)+) => {
        /// A bug planted in the sessions or the index of owners, which the checks must find.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[$about])* $bug,)+
        }

        impl Bug {
            /// Every bug.
            pub const ALL: &[Self] = &[$(Self::$bug,)+];
        }
    };
}

bugs! {
    /// A session is written even if it has changed since it was read.
    SaveWithoutCondition,
    /// An update whose answer was lost runs again.
    SaveRepeatedAfterLostReply,
    /// An update whose answer was lost is acknowledged.
    LostReplyAcknowledged,
    /// An update that conflicted is acknowledged.
    ConflictAcknowledged,
    /// The error of an update whose answer was lost says that nothing was changed.
    LostReplyRefused,
    /// Keys that begin alike share a session.
    KeysCutShort,
    /// A session ends after half of its lifetime.
    SessionEndsEarly,
    /// A session is written before its owner is noted.
    IndexAfterSession,
    /// A session is extended before its entry in the index.
    IndexAfterTouch,
    /// After a conflict, an unconditional write does not note its owner again.
    NotedOnceOnly,
    /// A holder counts the time to live from the answer of the store.
    LeaseCountedFromReply,
    /// A lease ends for its holder when it ends in the store, whose clock has whole milliseconds.
    LeaseWithoutMargin,
    /// The entry of a lease ends before its holder believes.
    LeaseEntryEndsEarly,
    /// Tokens are not drawn by compare-and-swap.
    TokenWithoutSwap,
    /// A token is handed out although the lease may have ended in the meantime.
    TokenUnconfirmed,
    /// A holder deletes whatever entry the lease has.
    ReleaseOfAnyHolder,
    /// A renewal whose answer came after the deadline counts.
    LateRenewalCounts,
    /// The task that renews a lease panics after an error.
    RenewalPanics,
    /// A move is acknowledged after its first step.
    MoveEndsAfterFirstStep,
    /// A session departs even if it has changed since it was read.
    DepartureWithoutCondition,
    /// The old key leads to the new one before the session is there.
    RedirectBeforeArrival,
    /// The marker at the new key is removed before the old key leads there.
    UnwrappedBeforeRedirect,
    /// A session that has arrived is also restored at the old key.
    RestoredAfterArrival,
    /// The marker of a move expires.
    MarkerExpires,
    /// The marker of a move is not removed.
    MarkerNotRemoved,
    /// A session that has moved never expires.
    MovedWithoutLifetime,
    /// A use extends whatever entry the session has.
    TouchOfAnyVersion,
    /// A move that is undone does not restore the session at the new key.
    UndoneWithoutSession,
    /// The entry in the index ends before the session.
    IndexEndsEarly,
    /// A bucket of the index is written even if it has changed since it was read.
    BucketWithoutCondition,
    /// A bucket of the index never expires.
    BucketNeverExpires,
    /// A revocation ignores sessions that change in the meantime.
    RevocationSkipsConflicts,
    /// A revocation deletes sessions that have changed since they were read.
    RevocationWithoutVersion,
    /// A listing ends at an entry without a session.
    ListingEndsAtMissing,
    /// A listing has the sessions of other owners that are still noted.
    ListingOfAnyOwner,
    /// The limit of sessions counts one too few.
    LimitOffByOne,
}

impl Bug {
    /// Runs one seed on the sessions with the bug.
    #[must_use]
    pub fn simulate(self, seed: u64) -> Report {
        run::run(seed, on_planted::client::PROGRAM, Some(self), false)
    }

    /// Runs one seed on the sessions with the bug, and keeps its trace.
    #[must_use]
    pub fn trace(self, seed: u64) -> Report {
        run::run(seed, on_planted::client::PROGRAM, Some(self), true)
    }
}

//! The options that a seed decides before a run, and the faults.

use std::time::Duration;

use fastrand::Rng;

use crate::faults::faults;

faults! {
    /// The store failed before the effect, with an unknown outcome.
    FailedBefore,
    /// The request was not sent, and the error says so.
    NotSent,
    /// The store failed after the effect, with an unknown outcome.
    FailedAfter,
    /// The store made the changes, but its answer was lost: a timeout.
    ReplyLost,
    /// The request was lost: a timeout.
    RequestLost,
    /// The request arrived after its timeout.
    RequestLate,
    /// The store made only some changes of a batch.
    PartlyApplied,
    /// The store answered late, so that the request timed out.
    SlowReply,
    /// A condition did not hold.
    Conflicted,
    /// A session has expired.
    SessionExpired,
    /// A session expired between the arrival of two requests of one call.
    ExpiredDuringCall,
    /// A lease expired in the store.
    LeaseExpired,
    /// The timer of a move expired while the session moved.
    TimerExpired,
    /// A clock jumped.
    ClockJumped,
    /// A clock went slower or faster for a while.
    ClockDrifted,
    /// Two processes had clocks that differed.
    ClocksDiffered,
    /// A process was killed.
    Killed,
    /// A process was killed while the store had a request of it.
    KilledDuringRequest,
    /// A request arrived after its process was killed.
    RequestOfKilled,
    /// A process did not run for a while.
    Paused,
    /// A process did not run for longer than the time to live of a lease that it held.
    PausedBeyondLease,
    /// A caller dropped a call at a given time.
    DroppedAtTime,
    /// A caller dropped a call after a number of polls.
    DroppedAfterPolls,
    /// A caller dropped a call while the store had a request of it.
    DroppedDuringRequest,
    /// An update was written although its caller got no answer, or an unknown one.
    WrittenUnknown,
    /// The handler of an update ran again after a conflict.
    RanAgain,
    /// An update conflicted, and its caller was told.
    ConflictAnswered,
    /// A session moved to another key.
    Moved,
    /// A move was undone.
    MoveUndone,
    /// Two sessions were merged.
    Merged,
    /// A session was updated during a move.
    UpdatedDuringMove,
    /// A process was killed during a move.
    KilledDuringMove,
    /// Two moves were under way at once.
    MovesSideBySide,
    /// A lease was acquired.
    Leased,
    /// A lease was acquired after the one before it had expired.
    LeasedAfterExpiry,
    /// A holder found that it had lost its lease.
    LeaseLost,
    /// A holder was killed.
    KilledWithLease,
    /// A lease was renewed.
    Renewed,
    /// An owner was revoked while sessions of the owner existed.
    Revoked,
    /// A session was saved during the revocation of its owner.
    SavedDuringRevocation,
    /// A session changed its owner.
    OwnerChanged,
    /// A limit deleted a session.
    Limited,
    /// A use extended a session.
    Touched,
    /// The store compared contents instead of version numbers.
    ContentVersions,
}

/// The unit of time: the time scale of a run. Leases and moves race in milliseconds, and owners in minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scale {
    Millis,
    /// A unit is 200 ms.
    Minutes,
}

/// What most calls of a run do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    /// Updates of sessions.
    Updates,
    /// Acquisitions of leases.
    Leases,
    /// Moves of sessions.
    Moves,
    /// Sign-ins and revocations.
    Owners,
}

impl Theme {
    /// The theme of the run with a seed.
    #[must_use]
    pub const fn of(seed: u64) -> Self {
        match seed % 4 {
            0 => Self::Updates,
            1 => Self::Leases,
            2 => Self::Moves,
            _ => Self::Owners,
        }
    }
}

/// The lifetime of sessions, in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Life {
    Forever,
    AfterWrite(u64),
    Sliding(u64),
    /// The second number is the longest time since the creation.
    Both(u64, u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) scale: Scale,
    pub(crate) life: Life,
    pub(crate) keys: usize,
    pub(crate) processes: usize,
    /// The callers of each process.
    pub(crate) callers: usize,
    /// The calls of each caller.
    pub(crate) calls: usize,
    /// The longest pause of a caller between two calls, in units.
    pub(crate) think: u64,
    /// The longest time that a request or reply takes, in thousandths of a unit.
    pub(crate) latency: u64,
    /// The percentage of requests that fail, in one of the ways of [`failures`](Self::failures).
    pub(crate) failing: u32,
    pub(crate) failures: Vec<Fault>,
    /// The percentage of calls that are dropped.
    pub(crate) dropping: u32,
    /// How many thousandths of the turns kill or pause a process, or change its clock.
    pub(crate) killing: u32,
    pub(crate) pausing: u32,
    pub(crate) jumping: u32,
    /// The most milliseconds by which a clock differs from the true time.
    pub(crate) skew: i64,
    pub(crate) content_versions: bool,
    pub(crate) merge: bool,
    pub(crate) owners: bool,
    pub(crate) most: Option<usize>,
    /// Weights of the calls.
    pub(crate) updates: u32,
    pub(crate) sets: u32,
    pub(crate) moves: u32,
    pub(crate) leases: u32,
    pub(crate) deletes: u32,
    pub(crate) revokes: u32,
    /// The time to live of leases, in milliseconds.
    pub(crate) ttl: u64,
}

impl Options {
    /// The longest pause of a process, in units. With the timeouts, it must be less than a minute at the scale of
    /// minutes, the shortest step of the index of owners.
    pub(crate) const LONGEST_PAUSE: u64 = 100;

    pub(crate) fn draw(rng: &mut Rng, theme: Theme) -> Self {
        let failures = [
            Fault::FailedBefore,
            Fault::NotSent,
            Fault::FailedAfter,
            Fault::ReplyLost,
            Fault::RequestLost,
            Fault::RequestLate,
            Fault::PartlyApplied,
        ];
        let some = |rng: &mut Rng, values: &[u32]| values[rng.usize(0..values.len())];
        let owners = theme == Theme::Owners;
        let scale = if owners { Scale::Minutes } else { Scale::Millis };
        // Beyond the steps of the index, or a few calls.
        let lives: &[u64] = if owners { &[2_500, 9_000, 40_000] } else { &[20, 60, 300] };
        let life = lives[rng.usize(0..lives.len())];
        let lives = [
            Life::Forever,
            Life::AfterWrite(life),
            Life::Sliding(life),
            Life::Both(life, life * rng.u64(1..3)),
        ];
        let others = |rng: &mut Rng| some(rng, &[0, 10]);
        Self {
            scale,
            life: lives[rng.usize(0..lives.len())],
            keys: if theme == Theme::Moves { rng.usize(2..=4) } else { rng.usize(1..=4) },
            processes: rng.usize(1..=3),
            callers: rng.usize(1..=3),
            calls: rng.usize(2..=8),
            think: if owners { [0, 0, 60, 3_000][rng.usize(0..4)] } else { [0, 3, 30][rng.usize(0..3)] },
            latency: [200, 1_000, 3_000][rng.usize(0..3)],
            failing: some(rng, &[0, 5, 20]),
            failures: failures.into_iter().filter(|_| rng.bool()).collect(),
            dropping: some(rng, &[0, 10, 40]),
            killing: some(rng, &[0, 0, 5, 20]),
            pausing: some(rng, &[0, 0, 10]),
            jumping: some(rng, &[0, 10]),
            skew: if owners { [0, 5_000][rng.usize(0..2)] } else { [0, 20, 400][rng.usize(0..3)] },
            content_versions: rng.u32(0..4) == 0,
            merge: rng.bool(),
            owners,
            most: (owners && rng.u32(0..3) == 0).then(|| rng.usize(1..=2)),
            updates: if theme == Theme::Leases { 10 } else { 60 },
            sets: if owners { some(rng, &[10, 60]) } else { 10 },
            moves: if theme == Theme::Moves { some(rng, &[20, 60]) } else { others(rng) },
            leases: match theme {
                Theme::Leases => 90,
                Theme::Owners => 0,
                Theme::Updates | Theme::Moves => others(rng),
            },
            deletes: some(rng, &[0, 5, 20]),
            revokes: if owners { some(rng, &[8, 40]) } else { 0 },
            ttl: [12, 40, 90][rng.usize(0..3)],
        }
    }

    /// A number of units as microseconds.
    pub(crate) const fn units(&self, units: u64) -> u64 {
        units
            * match self.scale {
                Scale::Millis => 1_000,
                Scale::Minutes => 200_000,
            }
    }

    pub(crate) fn duration(&self, units: u64) -> Duration {
        Duration::from_micros(self.units(units))
    }

    /// The longest time from a read to the effect of the next request.
    pub(crate) const fn longest_request(&self) -> u64 {
        self.units(Self::LONGEST_PAUSE) + 2 * self.timeout()
    }

    /// The time after which a request times out.
    pub(crate) const fn timeout(&self) -> u64 {
        self.units(12)
    }
}

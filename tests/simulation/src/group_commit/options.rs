//! The options that a seed decides before a run, and the faults.

use fastrand::Rng;

use crate::faults::faults;

faults! {
    /// The store failed before it had made any change of a batch, with an unknown outcome.
    FailedBefore,
    /// The request was not sent, and the error says so.
    NotSent,
    /// The store failed after it had made every change of a batch.
    FailedAfter,
    /// The store made the changes, but its answer was lost: a timeout.
    ReplyLost,
    /// The request was lost: a timeout.
    RequestLost,
    /// The store made only some changes of a batch.
    PartlyApplied,
    /// The store refused one change of a batch.
    Refused,
    /// The store panicked before it made any change.
    Panicked,
    /// The store answered late.
    Latency,
    /// The future of a batch was dropped, but the store made the rest of the changes.
    DroppedInStore,
    /// The store closed while the group commit used it.
    StoreClosed,
    /// A batch reached a closed store.
    FoundClosed,
    /// The last handle of the storage was dropped while the store was making changes.
    HandleDropped,
    /// A caller never polled its call.
    DroppedUnpolled,
    /// A caller dropped its call after a number of polls.
    DroppedAfterPolls,
    /// A caller dropped its call at a given time.
    DroppedAtTime,
    /// A caller dropped its call outside every runtime.
    DroppedOutside,
    /// A call was polled without being woken.
    SpuriousPoll,
    /// A call was polled within another runtime than its caller's, which may have ended.
    PolledElsewhere,
    /// A runtime ended.
    RuntimeEnded,
    /// A runtime did not run for a while, as between two calls of `block_on`.
    RuntimeRested,
    /// A runtime ended with the future of a batch in it.
    RuntimeEndedInBatch,
    /// A caller was dropped while its change waited, so the change was never sent.
    LeftTheQueue,
    /// A caller was dropped while the store was making its change.
    DroppedInBatch,
    /// A batch had several changes.
    Grouped,
    /// A batch had several changes of one key.
    SameKeyInBatch,
    /// A batch had reads that touch from several calls.
    ReadsGrouped,
    /// One call read several entries, and touched them.
    ReadMany,
    /// A caller was dropped after one of its changes was made; another was never sent.
    DroppedAmidChanges,
    /// A condition did not hold.
    Conflicted,
    /// A clear was abandoned before it began.
    ClearAbandoned,
    /// A clear was abandoned after it had begun.
    ClearAbandonedInStore,
    /// A flush was abandoned.
    FlushAbandoned,
    /// A clear removed entries while changes waited behind it.
    ClearWithWaiting,
    /// A close came while other calls were under way.
    ClosedInUse,
    /// Several batches ran at once.
    LanesSideBySide,
}

/// How often each fault has happened.
pub type Counts = crate::faults::Counts<Fault>;

/// The options of a run. Each seed has only some of the faults, because a run with all of them would seldom get far
/// enough for a rare fault.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) lanes: usize,
    pub(crate) max_batch: usize,
    pub(crate) max_batch_bytes: usize,
    pub(crate) keys: usize,
    pub(crate) runtimes: usize,
    pub(crate) callers: usize,
    /// The most calls of one caller.
    pub(crate) calls: usize,
    /// The most milliseconds that the store takes before and after it makes the changes.
    pub(crate) latency: u64,
    /// The most turns that other tasks get in that time.
    pub(crate) turns: usize,
    /// The percentage of batches that fail, in one of the ways of [`failures`](Self::failures).
    pub(crate) failing: u32,
    pub(crate) failures: Vec<Fault>,
    /// The percentage of calls that are dropped.
    pub(crate) dropping: u32,
    /// The percentage of changes with a condition.
    pub(crate) conditional: u32,
    /// The percentage of changes other than puts.
    pub(crate) others: u32,
    /// The percentage of calls with several changes.
    pub(crate) several: u32,
    /// The percentage of calls that are a clear or a flush.
    pub(crate) barriers: u32,
    /// Whether a caller closes the storage.
    pub(crate) closing: bool,
    /// The time at which the store closes by itself.
    pub(crate) store_closes: Option<u64>,
    /// The time at which the handles of the storage are dropped: no new calls begin, and some callers go at once.
    pub(crate) handle_drops: Option<u64>,
    /// The times at which runtimes end.
    pub(crate) runtime_ends: Vec<u64>,
    /// Whether callers poll their calls within other runtimes, which may have ended.
    pub(crate) elsewhere: bool,
    /// Whether runtimes rest.
    pub(crate) resting: bool,
    /// Whether calls are polled without being woken.
    pub(crate) spurious: bool,
}

impl Options {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let failures = [
            Fault::FailedBefore,
            Fault::NotSent,
            Fault::FailedAfter,
            Fault::ReplyLost,
            Fault::RequestLost,
            Fault::PartlyApplied,
            Fault::Refused,
            Fault::Panicked,
        ];
        let chance = |rng: &mut Rng, of_100: u32| rng.u32(0..100) < of_100;
        let some = |rng: &mut Rng, values: &[u32]| values[rng.usize(0..values.len())];
        let ends = if chance(rng, 25) { rng.usize(1..=2) } else { 0 };
        Self {
            lanes: rng.usize(1..=3),
            max_batch: [1, 2, 3, 8, 256][rng.usize(0..5)],
            max_batch_bytes: [12, 40, 1 << 20][rng.usize(0..3)],
            keys: rng.usize(1..=4),
            runtimes: rng.usize(1..=2),
            callers: rng.usize(2..=6),
            calls: rng.usize(1..=5),
            latency: [0, 1, 3][rng.usize(0..3)],
            turns: rng.usize(0..=3),
            failing: some(rng, &[0, 10, 30]),
            failures: failures.into_iter().filter(|_| rng.bool()).collect(),
            dropping: some(rng, &[0, 20, 60]),
            conditional: some(rng, &[0, 30, 60]),
            others: some(rng, &[0, 30, 60]),
            several: some(rng, &[0, 30]),
            barriers: some(rng, &[0, 0, 10]),
            closing: chance(rng, 8),
            store_closes: chance(rng, 4).then(|| rng.u64(1..12)),
            handle_drops: chance(rng, 10).then(|| rng.u64(1..12)),
            runtime_ends: (0..ends).map(|_| rng.u64(1..15)).collect(),
            elsewhere: chance(rng, 25),
            resting: chance(rng, 25),
            spurious: rng.bool(),
        }
    }
}

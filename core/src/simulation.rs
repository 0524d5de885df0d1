//! A clock and ids that a test decides, for the simulation of sessions.
//!
//! Not part of the public API. Without [`Simulated::run`], clock and ids are the real ones.

use std::cell::Cell;

thread_local! {
    static SIMULATED: Cell<Option<Simulated>> = const { Cell::new(None) };
}

/// The clock and the ids of a simulated process.
#[derive(Clone, Copy, Debug)]
pub struct Simulated {
    /// The time that [`unix_millis`](crate::clock::unix_millis) returns.
    pub unix_millis: i64,
    /// The state of the generator of ids. Every id changes it.
    pub ids: u64,
}

impl Simulated {
    /// Runs `work` with this clock and these ids, on this thread.
    pub fn run<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let _within = Within { outer: SIMULATED.replace(Some(*self)), here: self };
        work()
    }
}

/// Restores the clock and the ids that were valid before.
struct Within<'a> {
    outer: Option<Simulated>,
    here: &'a mut Simulated,
}

impl Drop for Within<'_> {
    fn drop(&mut self) {
        if let Some(simulated) = SIMULATED.replace(self.outer) {
            *self.here = simulated;
        }
    }
}

pub(crate) fn unix_millis() -> Option<i64> {
    SIMULATED.get().map(|simulated| simulated.unix_millis)
}

/// Returns the next id: SplitMix64, which repeats none before it has returned all.
pub(crate) fn id64() -> Option<u64> {
    let mut simulated = SIMULATED.get()?;
    simulated.ids = simulated.ids.wrapping_add(0x9e37_79b9_7f4a_7c15);
    SIMULATED.set(Some(simulated));
    let mut id = simulated.ids;
    id = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    id = (id ^ (id >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Some(id ^ (id >> 31))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock, unique};

    #[test]
    fn clock_and_ids_are_simulated_only_within_a_run() {
        let mut process = Simulated { unix_millis: 7, ids: 1 };
        let mut again = process;
        let draw = || (clock::unix_millis(), unique::id64s(3), unique::id128());
        let first = process.run(draw);
        assert_eq!(first.0, 7);
        assert_eq!(again.run(draw), first);
        assert_ne!(process.run(draw).1, first.1, "the ids continue");
        assert!(clock::unix_millis() > 7);
        assert_ne!(unique::id64s(3), first.1);
    }
}

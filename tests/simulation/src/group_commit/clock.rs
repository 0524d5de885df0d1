//! The simulated clock.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

/// Time in milliseconds, which only [`tick`](Self::tick) advances. Unlike the paused clock of a tokio runtime, it
/// outlives the runtimes.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    now: AtomicU64,
    sleepers: Mutex<BTreeMap<(u64, u64), Waker>>,
    drawn: AtomicU64,
}

impl Clock {
    pub(crate) fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed)
    }

    /// Advances the time by a millisecond, and wakes the sleepers that are due.
    pub(crate) fn tick(&self) {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        let due = {
            let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
            let later = sleepers.split_off(&(now + 1, 0));
            std::mem::replace(&mut *sleepers, later)
        };
        for waker in due.into_values() {
            waker.wake();
        }
    }

    /// Wakes `waker` at a moment. A later waker with the same moment and number replaces an earlier one.
    pub(crate) fn wake_at(&self, moment: u64, number: u64, waker: &Waker) {
        let mut sleepers = self.sleepers.lock().unwrap_or_else(PoisonError::into_inner);
        sleepers.insert((moment, number), waker.clone());
    }

    pub(crate) fn sleep(&self, millis: u64) -> Sleep<'_> {
        // Greater than all numbers of calls.
        let number = (1 << 32) + self.drawn.fetch_add(1, Ordering::Relaxed);
        Sleep { clock: self, entry: (self.now() + millis, number) }
    }
}

/// Ready once the clock has reached a moment.
pub(crate) struct Sleep<'a> {
    clock: &'a Clock,
    /// The moment, and the number of the sleeper.
    entry: (u64, u64),
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.clock.now() >= self.entry.0 {
            return Poll::Ready(());
        }
        self.clock.wake_at(self.entry.0, self.entry.1, context.waker());
        Poll::Pending
    }
}

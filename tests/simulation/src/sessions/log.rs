//! The trace of a run: every call, effect and answer, with its time.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

/// The events of a run in order, as lines. Only the hash is kept unless the lines are requested.
pub(crate) struct Log {
    lines: Option<Vec<String>>,
    hash: DefaultHasher,
    events: u64,
}

impl Log {
    pub(crate) fn new(keeps: bool) -> Self {
        Self { lines: keeps.then(Vec::new), hash: DefaultHasher::new(), events: 0 }
    }

    /// Adds an event at `now`, in microseconds.
    pub(crate) fn push(&mut self, now: u64, event: &(impl Hash + fmt::Display)) {
        self.events += 1;
        now.hash(&mut self.hash);
        event.hash(&mut self.hash);
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>10}.{:03} {event}", now / 1_000, now % 1_000));
        }
    }

    /// The number of events.
    pub(crate) const fn len(&self) -> u64 {
        self.events
    }

    /// The hash of all events, and their lines.
    pub(crate) fn finish(self) -> (u64, Vec<String>) {
        (self.hash.finish(), self.lines.unwrap_or_default())
    }
}

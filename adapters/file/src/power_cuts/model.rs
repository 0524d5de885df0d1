//! The entries that may be there after a power cut.

use std::collections::BTreeMap;

use larder_core::{Bytes, ErrorKind, Expiry, Key, Outcome, Record, Result, Version};

/// The times to live of these tests, in seconds. They are so far apart that the time which a test takes does not
/// matter.
const TTLS: [u64; 3] = [600, 7200, 100_000];

#[derive(Clone, Debug)]
pub(super) struct Entry {
    value: Bytes,
    /// One of [`TTLS`]; `None` for never.
    ttl: Option<u64>,
    /// `None` if the process that wrote the entry could not tell.
    version: Option<Version>,
}

impl Entry {
    /// Returns the entry of a record with its TTL.
    pub(super) fn new(record: Record) -> Self {
        let seconds = record.expiry.and_then(Expiry::as_millis).map(|millis| millis.div_ceil(1000));
        // Another number is not that of any entry.
        let ttl = seconds.map(|seconds| {
            TTLS.into_iter().find(|ttl| (ttl - 500..=*ttl).contains(&seconds)).unwrap_or(seconds)
        });
        Self { value: record.value, ttl, version: record.version }
    }

    pub(super) fn version(&self) -> Option<&Version> {
        self.version.as_ref()
    }

    /// Returns whether the entry `found` is this one.
    fn is(&self, found: &Self) -> bool {
        let version = self.version.is_none() || self.version == found.version;
        version && self.value == found.value && self.ttl == found.ttl
    }
}

/// An entry, or its absence.
pub(super) type State = Option<Entry>;

fn same(expected: &State, found: &State) -> bool {
    match (expected, found) {
        (Some(expected), Some(found)) => expected.is(found),
        (expected, found) => expected.is_none() && found.is_none(),
    }
}

pub(super) type Entries = BTreeMap<Key, Entry>;

/// The entries that may be on the disk.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    /// The states of each key, independent of the others. The last is the newest.
    Each(BTreeMap<Key, Vec<State>>),
    /// All entries together.
    Whole(Vec<Entries>),
}

impl Expected {
    /// Returns whether `found` is one of the expected states.
    pub(super) fn allows(&self, found: &Entries) -> bool {
        match self {
            Self::Each(keys) => keys.iter().all(|(key, states)| {
                let found = found.get(key).cloned();
                states.iter().any(|state| same(state, &found))
            }),
            Self::Whole(all) => all.iter().any(|entries| {
                entries.len() == found.len()
                    && entries.iter().all(|(key, entry)| found.get(key).is_some_and(|found| entry.is(found)))
            }),
        }
    }
}

/// A condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum If {
    Any,
    Absent,
    Present,
    /// At the version that the entry has now.
    Unchanged,
}

/// An operation.
#[derive(Clone, Debug)]
pub(super) enum Do {
    Put(&'static str, String, Option<u64>, If),
    Delete(&'static str, If),
    Touch(&'static str, Option<u64>, If),
    /// A read with a touch.
    Read(&'static str, Option<u64>),
    Apply(Vec<Do>),
    Clear,
    Purge,
}

impl Do {
    /// Returns the changes of single keys, or a clear of all.
    fn parts(&self) -> &[Self] {
        match self {
            Self::Apply(parts) => parts,
            Self::Purge => &[],
            _ => std::slice::from_ref(self),
        }
    }

    /// Returns the key; `None` for all.
    fn key(&self) -> Option<&'static str> {
        match self {
            Self::Put(key, ..) | Self::Delete(key, ..) | Self::Touch(key, ..) | Self::Read(key, ..) => {
                Some(key)
            }
            _ => None,
        }
    }

    /// Returns whether this has an expiry, which grammY's layout does not support.
    pub(super) fn expires(&self) -> bool {
        match self {
            Self::Put(_, _, ttl, _) => ttl.is_some(),
            Self::Touch(..) | Self::Read(..) | Self::Purge => true,
            Self::Apply(parts) => parts.iter().any(Self::expires),
            _ => false,
        }
    }

    /// Returns the state of the key after this operation.
    fn after(&self, state: &State) -> State {
        let holds = |condition: &If| match condition {
            If::Any => true,
            If::Absent => state.is_none(),
            If::Present | If::Unchanged => state.is_some(),
        };
        let touched = |ttl: &Option<u64>| {
            let entry = state.clone().map(|entry| Entry { ttl: *ttl, ..entry });
            entry.filter(|entry| entry.ttl != Some(0))
        };
        match self {
            Self::Put(_, value, ttl, condition) if holds(condition) => {
                let entry = Entry { value: value.clone().into(), ttl: *ttl, version: None };
                Some(entry).filter(|entry| entry.ttl != Some(0))
            }
            Self::Delete(_, condition) if holds(condition) => None,
            Self::Touch(_, ttl, condition) if holds(condition) => touched(ttl),
            Self::Read(_, ttl) => touched(ttl),
            Self::Clear => None,
            _ => state.clone(),
        }
    }

    /// Adds the states that may follow from `states` while the operation is running.
    pub(super) fn begin(&self, key: &Key, states: &mut Vec<State>) {
        for part in self.parts().iter().filter(|part| part.key().is_none_or(|of| of == key.as_str())) {
            let next: Vec<_> = states.iter().map(|state| part.after(state)).collect();
            states.extend(next);
        }
    }

    /// Changes `states` to those after the operation has returned `results`, one per part. Returns whether it has
    /// said which state the disk has.
    pub(super) fn end(&self, key: &Key, states: &mut Vec<State>, results: &[Result<()>]) -> bool {
        let mut known = false;
        for (part, result) in self.parts().iter().zip(results) {
            if part.key().is_some_and(|of| of != key.as_str()) {
                continue;
            }
            let next = states.iter().map(|state| part.after(state));
            match result {
                Ok(()) => *states = next.collect(),
                // The condition does not hold.
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) if error.outcome() == Outcome::NotApplied => {}
                Err(_) => {
                    let next: Vec<_> = next.collect();
                    states.extend(next);
                }
            }
            known = is_answer(result);
        }
        known
    }
}

/// Returns whether the state is one of `states`.
pub(super) fn is_one_of(found: &State, states: &[State]) -> bool {
    states.iter().any(|state| same(state, found))
}

/// Returns whether an operation was answered: it succeeded, or its condition does not hold.
pub(super) fn is_answer(result: &Result<()>) -> bool {
    result.as_ref().err().is_none_or(|error| error.kind() == ErrorKind::Conflict)
}

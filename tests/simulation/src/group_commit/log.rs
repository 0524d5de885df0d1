//! The events of a run in order: the calls, their answers, and the actions of the store.

use std::fmt;

use larder_core::{
    Action, Applied, Condition, Error, ErrorKind, Expiry, Outcome, Record, Result, Version, Written,
};

/// The number of a change in [`Log::changes`].
pub(crate) type ChangeId = usize;
/// The number of a call in [`Log::calls`].
pub(crate) type CallId = usize;
/// The number of a call that the group commit has made to the store.
pub(crate) type BatchId = usize;

/// One change, as its caller requested it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) call: CallId,
    /// Its position among the changes of the call.
    pub(crate) place: usize,
    /// The number of the key.
    pub(crate) key: usize,
    pub(crate) act: Act,
    pub(crate) condition: Condition,
    /// The bytes that count towards the limit of a batch.
    pub(crate) size: usize,
}

/// The action of a change. A read that touches changes an entry as a touch does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Put(Expiry),
    Delete,
    Touch(Expiry),
    Read(Expiry),
}

impl Act {
    pub(crate) fn of(action: &Action) -> Self {
        match action {
            Action::Put(_, expiry) => Self::Put(*expiry),
            Action::Delete => Self::Delete,
            Action::Touch(expiry) => Self::Touch(*expiry),
        }
    }
}

/// One call of a method, with any number of changes.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) kind: CallKind,
    pub(crate) changes: Vec<ChangeId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CallKind {
    /// One or more changes.
    Change,
    Clear(&'static str),
    Flush,
    Close,
}

/// The answer to one change, or to a call without changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Put(Option<Version>),
    Deleted(bool),
    Touched(bool),
    /// The version that was read.
    Read(Option<Version>),
    /// A clear, flush or close was done.
    Done,
    Failed(ErrorKind, Outcome),
}

impl Answer {
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self, Self::Failed(_, Outcome::Unknown))
    }
}

impl From<&Result<Applied>> for Answer {
    fn from(result: &Result<Applied>) -> Self {
        match result {
            Ok(Applied::Put(Written { version, .. })) => Self::Put(version.clone()),
            Ok(Applied::Deleted(existed)) => Self::Deleted(*existed),
            Ok(Applied::Touched(existed)) => Self::Touched(*existed),
            Err(error) => error.into(),
        }
    }
}

impl From<&Result<Option<Record>>> for Answer {
    fn from(result: &Result<Option<Record>>) -> Self {
        match result {
            Ok(record) => Self::Read(record.as_ref().and_then(|record| record.version.clone())),
            Err(error) => error.into(),
        }
    }
}

impl From<&Error> for Answer {
    fn from(error: &Error) -> Self {
        Self::Failed(error.kind(), error.outcome())
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// The call is polled for the first time.
    Polled(CallId),
    /// The first poll is over, and the call waits. Calls whose first polls overlap, on threads, have no order.
    Waits(CallId),
    /// The caller dropped the call.
    Dropped(CallId),
    /// One answer per change, or one answer to a call without changes.
    Replied(CallId, Vec<Answer>),
    /// The store has received changes.
    Begun(BatchId, Vec<ChangeId>),
    /// The store has made a change, or its condition did not hold.
    Made { batch: BatchId, change: ChangeId, now: u64, did: Answer },
    /// The store has answered; `None` if its future was dropped.
    Ended(BatchId, Option<Vec<Answer>>),
    /// The store has begun a clear, flush or close.
    Entered(CallKind),
    /// The store has removed the entries with a prefix.
    Cleared(&'static str),
    /// A clear, flush or close has ended, whether or not it succeeded.
    Left(CallKind),
    /// A promise was broken.
    Broken(String),
    /// A value was kept although its caller is gone and the store has not received it.
    Kept(ChangeId),
    /// A runtime ended with all of its tasks.
    RuntimeEnded,
    /// No faults happen after this.
    Calm,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) events: Vec<Event>,
    pub(crate) calls: Vec<Call>,
    pub(crate) changes: Vec<Asked>,
}

impl Log {
    pub(crate) fn push(&mut self, event: Event) {
        self.events.push(event);
    }
}

/// One line per event.
impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, event) in self.events.iter().enumerate() {
            write!(f, "{at:5} ")?;
            match event {
                Event::Polled(call) => {
                    write!(f, "call {call}")?;
                    let asked = &self.calls[*call];
                    if asked.kind != CallKind::Change {
                        write!(f, " {:?}", asked.kind)?;
                    }
                    for change in &asked.changes {
                        let Asked { key, act, condition, .. } = &self.changes[*change];
                        write!(f, " [{change}: key {key} {act:?} if {}]", Shown(condition))?;
                    }
                    writeln!(f)?;
                }
                Event::Waits(call) => writeln!(f, "call {call} waits")?,
                Event::Dropped(call) => writeln!(f, "call {call} dropped")?,
                Event::Replied(call, answers) => {
                    write!(f, "call {call} answered")?;
                    write_answers(f, answers)?;
                }
                Event::Begun(batch, changes) => writeln!(f, "    batch {batch} begins: {changes:?}")?,
                Event::Made { batch, change, now, did } => {
                    let key = self.changes[*change].key;
                    write!(f, "    batch {batch} change {change} (key {key}) at {now} ms")?;
                    write_answers(f, std::slice::from_ref(did))?;
                }
                Event::Ended(batch, Some(answers)) => {
                    write!(f, "    batch {batch} ends")?;
                    write_answers(f, answers)?;
                }
                Event::Ended(batch, None) => writeln!(f, "    batch {batch} dropped")?,
                other => writeln!(f, "{other:?}")?,
            }
        }
        Ok(())
    }
}

fn write_answers(f: &mut fmt::Formatter<'_>, answers: &[Answer]) -> fmt::Result {
    for answer in answers {
        match answer {
            Answer::Put(version) => write!(f, " put{}", token(version.as_ref()))?,
            Answer::Read(version) => write!(f, " read{}", token(version.as_ref()))?,
            other => write!(f, " {other:?}")?,
        }
    }
    writeln!(f)
}

fn token(version: Option<&Version>) -> String {
    version.and_then(Version::as_token).map(|token| format!("@{token}")).unwrap_or_default()
}

struct Shown<'a>(&'a Condition);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Condition::At(version) => f.write_str(&token(Some(version))),
            other => write!(f, "{other:?}"),
        }
    }
}

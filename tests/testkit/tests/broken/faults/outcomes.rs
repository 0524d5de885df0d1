//! Storages that do not know whether a change has happened, or say what they do not know.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_core::{
    Applied, Bytes, Change, DeleteOptions, Error, ErrorKind, Expiry, Key, ReadOptions, Record, Result, Store,
    TouchOptions, WriteOptions, Written, async_trait,
};
use larder_testkit::Line;
use tokio::sync::Notify;

use crate::{Fault, fault, twist::Twist};

/// What a storage says of a change that failed.
#[derive(Clone, Copy, PartialEq)]
enum Says {
    TheTruth,
    Unknown,
    NotApplied,
    /// The truth, and of reads that there is nothing.
    NothingThere,
    /// One error for a batch, whatever its length.
    OneError,
    /// The truth, but of what a batch has not sent that the outcome is unknown.
    UnknownRest,
    /// The truth, and sends the rest of a batch of which a part has got no answer.
    GoesOn,
}

/// How many changes of a batch are sent at once.
const ROUND: usize = 100;

/// A storage on a wire that can be cut.
struct Wire {
    says: Says,
    refuses: AtomicBool,
    swallows: AtomicBool,
    cut: Notify,
}

impl Wire {
    fn new(says: Says) -> Self {
        Self { says, refuses: AtomicBool::default(), swallows: AtomicBool::default(), cut: Notify::new() }
    }

    async fn send<T: Send>(&self, change: impl Future<Output = Result<T>> + Send) -> Result<T> {
        if self.refuses.load(Ordering::Acquire) {
            let error = Error::new(ErrorKind::Unavailable, "the store refuses connections");
            return Err(if self.says == Says::Unknown { error } else { error.not_applied() });
        }
        // The next change has a connection of its own.
        if !self.swallows.swap(false, Ordering::AcqRel) {
            return change.await;
        }
        drop(change.await);
        let _ = tokio::time::timeout(Duration::from_millis(200), self.cut.notified()).await;
        let error = Error::new(ErrorKind::Timeout, "no answer in time");
        Err(if self.says == Says::NotApplied { error.not_applied() } else { error })
    }
}

#[async_trait]
impl Line for Wire {
    fn hold(&self) {}

    fn held(&self) -> usize {
        0
    }

    fn swallow(&self) {
        self.swallows.store(true, Ordering::Release);
    }

    fn damage(&self) {
        self.swallow();
    }

    fn cut(&self) {
        self.cut.notify_waiters();
    }

    fn refuse(&self) {
        self.refuses.store(true, Ordering::Release);
    }

    fn restore(&self) {
        self.refuses.store(false, Ordering::Release);
    }

    async fn release(&self) {
        self.swallows.store(false, Ordering::Release);
    }
}

#[async_trait]
impl Twist for Wire {
    fn line(self: &Arc<Self>) -> Option<Arc<dyn Line>> {
        Some(Arc::clone(self) as Arc<dyn Line>)
    }

    async fn read(&self, inner: &Store, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        if self.refuses.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Unavailable, "the store refuses connections"));
        }
        inner.read_with(key, options).await
    }

    async fn read_many(
        &self,
        inner: &Store,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Record>>> {
        if self.says == Says::NothingThere && self.refuses.load(Ordering::Acquire) {
            return keys.iter().map(|_| Ok(None)).collect();
        }
        let mut results = Vec::new();
        for key in keys {
            results.push(self.read(inner, key, options).await);
        }
        results
    }

    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.send(inner.write_with(key, value, options)).await
    }

    async fn delete(&self, inner: &Store, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.send(inner.delete_with(key, options)).await
    }

    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.send(inner.touch_with(key, expiry, options)).await
    }

    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let mut results: Vec<Result<Applied>> = Vec::new();
        for round in changes.chunks(ROUND) {
            let gone = results.last().and_then(|last| last.as_ref().err()).filter(|error| error.is_gone());
            let applied = match gone.cloned() {
                Some(error) if self.says == Says::UnknownRest => Err(error),
                Some(error) if self.says != Says::GoesOn => Err(error.not_applied()),
                _ => self.send(async { Ok(inner.apply(round.to_vec()).await) }).await,
            };
            results.extend(applied.unwrap_or_else(|error| vec![Err(error); round.len()]));
        }
        if self.says == Says::OneError && results.iter().any(Result::is_err) {
            results.truncate(1);
        }
        results
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault(
            "always says that the outcome is unknown",
            || Wire::new(Says::Unknown),
            &[
                "changes_that_cannot_be_sent_are_not_applied",
                "a_batch_that_cannot_be_sent_fails_change_by_change",
            ],
        ),
        fault(
            "always says that a change was not applied",
            || Wire::new(Says::NotApplied),
            &[
                "a_change_whose_connection_is_cut_after_it_was_sent_is_unknown",
                "a_change_whose_answer_never_comes_is_unknown",
                "a_change_whose_answer_is_damaged_is_unknown",
                "a_batch_cut_short_denies_no_change_that_was_applied",
            ],
        ),
        fault(
            "calls the outcome of what a batch has not sent unknown",
            || Wire::new(Says::UnknownRest),
            &["the_rest_of_a_batch_without_an_answer_is_not_applied"],
        ),
        fault(
            "goes on with a batch of which a part has got no answer",
            || Wire::new(Says::GoesOn),
            &[
                "a_batch_cut_short_denies_no_change_that_was_applied",
                "the_rest_of_a_batch_without_an_answer_is_not_applied",
            ],
        ),
        fault(
            "takes an entry that it cannot read for absent",
            || Wire::new(Says::NothingThere),
            &["reads_without_a_store_fail_key_by_key"],
        ),
        fault(
            "has one error for a batch",
            || Wire::new(Says::OneError),
            &["a_batch_that_cannot_be_sent_fails_change_by_change"],
        ),
    ]
}

/// A storage that is right, and the laws that must hold on it.
pub(crate) fn right() -> Fault {
    fault(
        "knows what has happened",
        || Wire::new(Says::TheTruth),
        &[
            "changes_that_cannot_be_sent_are_not_applied",
            "a_batch_that_cannot_be_sent_fails_change_by_change",
            "reads_without_a_store_fail_key_by_key",
            "a_change_whose_connection_is_cut_after_it_was_sent_is_unknown",
            "a_change_whose_answer_never_comes_is_unknown",
            "a_change_whose_answer_is_damaged_is_unknown",
            "a_batch_cut_short_denies_no_change_that_was_applied",
            "the_rest_of_a_batch_without_an_answer_is_not_applied",
        ],
    )
}

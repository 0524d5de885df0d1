//! Storages that report wrong outcomes of failed changes.

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

/// The outcome that a storage reports for a failed change.
#[derive(Clone, Copy, PartialEq)]
enum Reports {
    TheTruth,
    Unknown,
    NotApplied,
    /// The truth, but reads report entries as absent.
    Absent,
    /// One error for a batch of any length.
    OneError,
    /// The truth, but `Unknown` for the unsent changes of a batch.
    UnknownRest,
    /// The truth, but sends the rest of a batch after a part has received no answer.
    Continues,
}

/// The number of changes of a batch that are sent at once.
const ROUND: usize = 100;

/// A storage whose connection can be cut.
struct Wire {
    reports: Reports,
    refuses: AtomicBool,
    swallows: AtomicBool,
    cut: Notify,
}

impl Wire {
    fn new(reports: Reports) -> Self {
        Self { reports, refuses: AtomicBool::default(), swallows: AtomicBool::default(), cut: Notify::new() }
    }

    async fn send<T: Send>(&self, change: impl Future<Output = Result<T>> + Send) -> Result<T> {
        if self.refuses.load(Ordering::Acquire) {
            let error = Error::new(ErrorKind::Unavailable, "the store rejects connections");
            return Err(if self.reports == Reports::Unknown { error } else { error.not_applied() });
        }
        // The next change has its own connection.
        if !self.swallows.swap(false, Ordering::AcqRel) {
            return change.await;
        }
        drop(change.await);
        let _ = tokio::time::timeout(Duration::from_millis(200), self.cut.notified()).await;
        let error = Error::new(ErrorKind::Timeout, "no answer in time");
        Err(if self.reports == Reports::NotApplied { error.not_applied() } else { error })
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
            return Err(Error::new(ErrorKind::Unavailable, "the store rejects connections"));
        }
        inner.read_with(key, options).await
    }

    async fn read_many(
        &self,
        inner: &Store,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Vec<Result<Option<Record>>> {
        if self.reports == Reports::Absent && self.refuses.load(Ordering::Acquire) {
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
                Some(error) if self.reports == Reports::UnknownRest => Err(error),
                Some(error) if self.reports != Reports::Continues => Err(error.not_applied()),
                _ => self.send(async { Ok(inner.apply(round.to_vec()).await) }).await,
            };
            results.extend(applied.unwrap_or_else(|error| vec![Err(error); round.len()]));
        }
        if self.reports == Reports::OneError && results.iter().any(Result::is_err) {
            results.truncate(1);
        }
        results
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        fault(
            "always reports the outcome as unknown",
            || Wire::new(Reports::Unknown),
            &[
                "changes_that_cannot_be_sent_are_not_applied",
                "a_batch_that_cannot_be_sent_fails_change_by_change",
            ],
        ),
        fault(
            "always reports a change as not applied",
            || Wire::new(Reports::NotApplied),
            &[
                "a_change_whose_connection_is_cut_after_it_was_sent_is_unknown",
                "a_change_whose_answer_never_comes_is_unknown",
                "a_change_whose_answer_is_damaged_is_unknown",
                "a_batch_cut_short_reports_no_applied_change_as_not_applied",
            ],
        ),
        fault(
            "reports the outcome of unsent changes of a batch as unknown",
            || Wire::new(Reports::UnknownRest),
            &["the_rest_of_a_batch_without_an_answer_is_not_applied"],
        ),
        fault(
            "continues a batch after a part of it has received no answer",
            || Wire::new(Reports::Continues),
            &[
                "a_batch_cut_short_reports_no_applied_change_as_not_applied",
                "the_rest_of_a_batch_without_an_answer_is_not_applied",
            ],
        ),
        fault(
            "reports an entry that it cannot read as absent",
            || Wire::new(Reports::Absent),
            &["reads_without_a_store_fail_key_by_key"],
        ),
        fault(
            "returns only one error for a batch",
            || Wire::new(Reports::OneError),
            &["a_batch_that_cannot_be_sent_fails_change_by_change"],
        ),
    ]
}

/// Returns a correct storage, and the laws that must hold on it.
pub(crate) fn correct() -> Fault {
    fault(
        "reports the correct outcome",
        || Wire::new(Reports::TheTruth),
        &[
            "changes_that_cannot_be_sent_are_not_applied",
            "a_batch_that_cannot_be_sent_fails_change_by_change",
            "reads_without_a_store_fail_key_by_key",
            "a_change_whose_connection_is_cut_after_it_was_sent_is_unknown",
            "a_change_whose_answer_never_comes_is_unknown",
            "a_change_whose_answer_is_damaged_is_unknown",
            "a_batch_cut_short_reports_no_applied_change_as_not_applied",
            "the_rest_of_a_batch_without_an_answer_is_not_applied",
        ],
    )
}

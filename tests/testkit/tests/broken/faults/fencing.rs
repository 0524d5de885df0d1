//! Changes that arrive late and take effect.

use std::{
    mem,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use larder_core::{
    Applied, Bytes, Change, DeleteOptions, Error, ErrorKind, Expiry, Info, Key, Result, Store, TouchOptions,
    WriteOptions, Written, async_trait,
};
use larder_testkit::Line;
use tokio::sync::Notify;

use crate::{Fault, fault, twist::Twist};

/// Claims to be fenced, but does not support lines.
struct HasNoLine;

impl Twist for HasNoLine {
    fn info(&self, inner: &Store) -> Info {
        inner.info().with_fencing()
    }
}

/// Sends changes over a connection that may be slow. After a timeout, uses another connection and ignores the old one.
struct ForgetsTheOldConnection {
    held: AtomicBool,
    waiting: Mutex<Vec<BoxFuture<'static, ()>>>,
    cut: Notify,
    /// The kind of error of a timeout.
    kind: ErrorKind,
}

impl ForgetsTheOldConnection {
    fn reporting(kind: ErrorKind) -> Self {
        Self { held: AtomicBool::default(), waiting: Mutex::default(), cut: Notify::new(), kind }
    }

    async fn send<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        struct NewConnection<'a>(&'a AtomicBool);
        impl Drop for NewConnection<'_> {
            fn drop(&mut self) {
                self.0.store(false, Ordering::Release);
            }
        }
        if !self.held.load(Ordering::Acquire) {
            return change.await;
        }
        let _new = NewConnection(&self.held);
        self.waiting.lock().unwrap().push(Box::pin(async { drop(change.await) }));
        let _ = tokio::time::timeout(Duration::from_millis(100), self.cut.notified()).await;
        Err(Error::new(self.kind, "no answer in time"))
    }
}

#[async_trait]
impl Line for ForgetsTheOldConnection {
    fn hold(&self) {
        self.held.store(true, Ordering::Release);
    }

    fn held(&self) -> usize {
        self.waiting.lock().unwrap().len()
    }

    fn swallow(&self) {}

    fn damage(&self) {}

    fn cut(&self) {
        self.cut.notify_waiters();
    }

    fn refuse(&self) {}

    fn restore(&self) {}

    async fn release(&self) {
        let waiting = mem::take(&mut *self.waiting.lock().unwrap());
        for change in waiting {
            change.await;
        }
    }
}

#[async_trait]
impl Twist for ForgetsTheOldConnection {
    fn info(&self, inner: &Store) -> Info {
        inner.info().with_fencing()
    }

    fn line(self: &Arc<Self>) -> Option<Arc<dyn Line>> {
        Some(Arc::clone(self) as Arc<dyn Line>)
    }

    async fn write(&self, inner: &Store, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let (inner, key, options) = (inner.clone(), key.clone(), options.clone());
        self.send(async move { inner.write_with(&key, value, &options).await }).await
    }

    async fn delete(&self, inner: &Store, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let (inner, key, options) = (inner.clone(), key.clone(), options.clone());
        self.send(async move { inner.delete_with(&key, &options).await }).await
    }

    async fn touch(&self, inner: &Store, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let (inner, key, options) = (inner.clone(), key.clone(), options.clone());
        self.send(async move { inner.touch_with(&key, expiry, &options).await }).await
    }

    async fn apply(&self, inner: &Store, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let (inner, count) = (inner.clone(), changes.len());
        let applied = self.send(async move { Ok(inner.apply(changes).await) }).await;
        applied.unwrap_or_else(|error| (0..count).map(|_| Err(error.clone())).collect())
    }
}

pub(crate) fn faults() -> Vec<Fault> {
    let all = &[
        "late_write_never_overtakes_newer_write",
        "late_delete_never_overtakes_newer_write",
        "late_conditional_write_never_overtakes_newer_delete",
        "late_touch_never_ends_newer_entry",
        "late_batch_never_overtakes_newer_batch",
        "late_concurrent_writes_never_overtake_newer_writes",
        "write_on_a_cut_connection_never_overtakes_newer_write",
        "dropped_write_never_overtakes_newer_write",
    ];
    vec![
        fault("claims to be fenced but has no line", || HasNoLine, all),
        fault("ignores the old connection", || ForgetsTheOldConnection::reporting(ErrorKind::Timeout), all),
        fault(
            "reports a timeout as another kind of error",
            || ForgetsTheOldConnection::reporting(ErrorKind::Other),
            &["late_write_never_overtakes_newer_write"],
        ),
    ]
}

//! Concurrent tasks, and futures that are dropped early.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
};

use larder_core::{Condition, ErrorKind, Expiry, Key};
use tokio::sync::Barrier;

use crate::{Handle, Must, guard::guarded};

/// Runs `task(0)` to `task(count - 1)` as concurrent tasks that start at the same time. Returns their results in
/// this order.
///
/// # Panics
///
/// If a task panics.
pub async fn race<T, F>(count: usize, mut task: impl FnMut(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(count.max(1)));
    let mut running = Vec::with_capacity(count);
    for index in 0..count {
        let (start, task) = (Arc::clone(&start), task(index));
        running.push(tokio::spawn(guarded(async move {
            start.wait().await;
            task.await
        })));
    }
    let mut outcomes = Vec::with_capacity(count);
    for task in running {
        match task.await.must("run a task") {
            Ok(outcome) => outcomes.push(outcome),
            Err(message) => panic!("{message}"),
        }
    }
    outcomes
}

/// Polls `future` up to `polls` times, then drops it. Returns its output, or `None` if it was not ready.
pub async fn abandon<F: IntoFuture>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = pin!(future.into_future());
    let mut left = polls;
    poll_fn(move |context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            // The future is not polled again, so the task does not wait for a wakeup.
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Adds one to the number under `key`, `times` times: reads it, and writes on the condition that it has not changed.
///
/// # Panics
///
/// If the storage returns an error other than a conflict, or a record without a version.
pub async fn increment_by_conditional_write(handle: &Handle, key: &Key, times: usize) {
    for _ in 0..times {
        loop {
            let seen = handle.read(key).await.must("read the counter");
            let (count, condition) = match seen {
                None => (0, Condition::Absent),
                Some(record) => {
                    let count: u64 =
                        serde_json::from_slice(&record.value).must("read the counter as a number");
                    (count, Condition::At(record.version.must("take the version of a record")))
                }
            };
            let next = (count + 1).to_string();
            match handle.write(key, next).condition(condition).await {
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                Err(error) => panic!("write the counter: {error}"),
            }
        }
    }
}

/// Adds one to the number under `key`, `times` times, by [`Store::update`](larder_core::Store::update).
///
/// # Panics
///
/// If the storage returns an error.
pub async fn increment_by_update(handle: &Handle, key: &Key, times: usize) {
    for _ in 0..times {
        let add = |count: Option<u64>| Some(count.unwrap_or(0) + 1);
        handle.update(key, Expiry::Never, add).await.must("update the counter");
    }
}

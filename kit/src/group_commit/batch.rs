//! Jobs and batches of jobs.

use std::sync::{Arc, OnceLock};

use larder_core::{Applied, Change, Error, Key, ReadOptions, Record, Result, Storage};

use super::runtime::{Handle, oneshot};

/// An element of a queue.
pub(super) struct Job {
    pub(super) work: Work,
    /// The caller's runtime, which can serve the queue.
    pub(super) runtime: Handle,
}

pub(super) enum Work {
    Change(Change, ApplyCall, oneshot::Sender<Result<Applied>>),
    /// A read that touches.
    Read(Key, ReadOptions, oneshot::Sender<Result<Option<Record>>>),
    Barrier(Barrier),
}

/// A point in the queue of a lane, for a caller that waits until the lane reaches it.
pub(super) struct Barrier {
    /// Notified once all jobs before the barrier are done.
    pub(super) reached: oneshot::Sender<()>,
    /// The jobs after the barrier wait until the sender of this signal is dropped.
    pub(super) resume: Option<oneshot::Receiver<()>>,
}

/// The `apply` call of a change; `None` for a change of a single call. Once the store is gone, it contains the error
/// for the changes of the call that were not sent.
pub(super) type ApplyCall = Option<Arc<OnceLock<Error>>>;

/// Jobs that go to the storage together.
pub(super) enum Batch {
    Changes(Vec<Change>, Vec<(ApplyCall, oneshot::Sender<Result<Applied>>)>),
    Reads(Vec<Key>, ReadOptions, Vec<oneshot::Sender<Result<Option<Record>>>>),
    Barrier(Barrier),
}

impl Work {
    /// Returns the size in bytes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Change(change, ..) => change.size(),
            Self::Read(key, ..) => key.as_bytes().len(),
            Self::Barrier(_) => 0,
        }
    }

    /// Returns the error of a change that must not be sent, because another change of the same call has found that
    /// the store is gone.
    pub(super) fn unsent(&self) -> Option<Error> {
        match self {
            Self::Change(_, Some(call), _) => call.get().cloned(),
            _ => None,
        }
    }

    /// Answers with an error.
    pub(super) fn fail(self, error: Error) {
        // The caller may have dropped its future: then the answer is dropped.
        match self {
            Self::Change(.., reply) => drop(reply.send(Err(error))),
            Self::Read(.., reply) => drop(reply.send(Err(error))),
            // The caller notices that the sender of its signal is dropped.
            Self::Barrier(_) => {}
        }
    }
}

impl From<Work> for Batch {
    fn from(work: Work) -> Self {
        match work {
            Work::Change(change, call, reply) => Self::Changes(vec![change], vec![(call, reply)]),
            Work::Read(key, options, reply) => Self::Reads(vec![key], options, vec![reply]),
            Work::Barrier(barrier) => Self::Barrier(barrier),
        }
    }
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Changes(changes, _) => changes.len(),
            Self::Reads(keys, ..) => keys.len(),
            Self::Barrier(_) => 1,
        }
    }

    /// Adds `work` to the batch. Returns it if it needs another batch.
    pub(super) fn push(&mut self, work: Work) -> Option<Work> {
        match (self, work) {
            (Self::Changes(changes, replies), Work::Change(change, call, reply)) => {
                changes.push(change);
                replies.push((call, reply));
            }
            (Self::Reads(keys, together, replies), Work::Read(key, options, reply))
                if *together == options =>
            {
                keys.push(key);
                replies.push(reply);
            }
            (_, work) => return Some(work),
        }
        None
    }

    /// Calls the storage, and answers the callers. For a barrier, returns the signal to continue.
    pub(super) async fn run(self, storage: &impl Storage) -> Option<oneshot::Receiver<()>> {
        match self {
            Self::Changes(mut changes, replies) => {
                let results = match changes.pop() {
                    // A storage may have a faster method for a single change.
                    Some(change) if changes.is_empty() => vec![change.apply_to(storage).await],
                    last => {
                        changes.extend(last);
                        storage.apply(changes).await
                    }
                };
                for ((call, reply), result) in replies.into_iter().zip(results) {
                    if let (Some(call), Err(error)) = (call, &result)
                        && let Some(unsent) = error.unsent()
                    {
                        call.get_or_init(|| unsent);
                    }
                    // Here and below, the caller may have dropped its future: then the answer is dropped.
                    let _ = reply.send(result);
                }
            }
            Self::Reads(keys, options, replies) => {
                let records = storage.read_many(&keys, &options).await;
                for (reply, record) in replies.into_iter().zip(records) {
                    let _ = reply.send(record);
                }
            }
            Self::Barrier(Barrier { reached, resume }) => {
                let _ = reached.send(());
                return resume;
            }
        }
        None
    }
}

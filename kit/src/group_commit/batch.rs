//! Jobs, and the batches that they make up.

use std::sync::{Arc, OnceLock};

use larder_core::{Applied, Change, Error, Key, ReadOptions, Record, Result, Storage};

use super::runtime::{Handle, oneshot};

/// One element of a queue.
pub(super) struct Job {
    pub(super) work: Work,
    /// Its caller's runtime, which can serve the queue.
    pub(super) runtime: Handle,
}

pub(super) enum Work {
    Change(Change, ApplyCall, oneshot::Sender<Result<Applied>>),
    /// A read that touches.
    Read(Key, ReadOptions, oneshot::Sender<Result<Option<Record>>>),
    Barrier(Barrier),
}

/// A point that a caller waits for the lane to reach.
pub(super) struct Barrier {
    /// Notified once everything before the barrier is done.
    pub(super) reached: oneshot::Sender<()>,
    /// What comes after the barrier waits until the sender is dropped.
    pub(super) resume: Option<oneshot::Receiver<()>>,
}

/// The call of `apply` that a change came with, if others came with it: the error for those that have not been
/// sent, once the store is gone.
pub(super) type ApplyCall = Option<Arc<OnceLock<Error>>>;

/// Jobs that go to the storage together.
pub(super) enum Batch {
    Changes(Vec<Change>, Vec<(ApplyCall, oneshot::Sender<Result<Applied>>)>),
    Reads(Vec<Key>, ReadOptions, Vec<oneshot::Sender<Result<Option<Record>>>>),
    Barrier(Barrier),
}

impl Work {
    /// How many bytes it carries.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Change(change, ..) => change.size(),
            Self::Read(key, ..) => key.as_bytes().len(),
            Self::Barrier(_) => 0,
        }
    }

    /// The error of a change that came with others which have found the store gone.
    pub(super) fn unsent(&self) -> Option<Error> {
        match self {
            Self::Change(_, Some(call), _) => call.get().cloned(),
            _ => None,
        }
    }

    /// Answers with an error.
    pub(super) fn fail(self, error: Error) {
        // The caller may have gone in the meantime.
        match self {
            Self::Change(.., reply) => drop(reply.send(Err(error))),
            Self::Read(.., reply) => drop(reply.send(Err(error))),
            // It waits for the signal, or for the end of it.
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

    /// Adds `work`; returns it if it needs a call of its own.
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

    /// Makes the call, and answers the callers. After a barrier, returns the signal to go on.
    pub(super) async fn run(self, storage: &impl Storage) -> Option<oneshot::Receiver<()>> {
        match self {
            Self::Changes(mut changes, replies) => {
                let results = match changes.pop() {
                    // A storage may have a shorter way for one.
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
                    // The caller may have gone in the meantime, here and below.
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

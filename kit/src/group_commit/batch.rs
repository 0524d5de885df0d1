//! One batch: its writes, and the outcome of each.

use larder_core::{Applied, Change, Error, Outcome, Result, Storage, Version, Written};
use tokio::sync::oneshot;

use super::pending::{Pending, Put, Reply};

/// Writes that go to the storage together, and the callers that wait for them.
#[derive(Default)]
pub(super) struct Batch {
    writes: Vec<Pending>,
    bytes: usize,
    barriers: Vec<oneshot::Sender<()>>,
}

/// The callers behind one entry of a batch.
struct Callers {
    reply: Reply,
    /// Earlier writes of the same key, oldest first, which the entry replaces.
    superseded: Vec<(Put, Reply)>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.barriers.is_empty()
    }

    pub(super) fn has_room_for(&self, put: &Put, max_entries: usize, max_bytes: usize) -> bool {
        self.writes.is_empty()
            || (self.writes.len() < max_entries && self.bytes.saturating_add(put.size()) <= max_bytes)
    }

    pub(super) fn push(&mut self, pending: Pending) {
        self.bytes = self.bytes.saturating_add(pending.put.size());
        self.writes.push(pending);
    }

    /// Notifies `waiting` once the batch is done, whatever its outcome.
    pub(super) fn push_barrier(&mut self, waiting: oneshot::Sender<()>) {
        self.barriers.push(waiting);
    }

    /// Writes the batch and answers its callers.
    pub(super) async fn run(self, storage: &impl Storage) {
        let (mut puts, callers) = merge(self.writes);
        let results = match (puts.pop(), puts.is_empty()) {
            (None, _) => Vec::new(),
            // The storage may have a shorter way for one.
            (Some(only), true) => vec![only.write_to(storage).await],
            (Some(last), false) => {
                let changes: Vec<Change> = puts.into_iter().chain([last]).map(Change::from).collect();
                storage.apply(changes).await.into_iter().map(|result| result.map(Applied::written)).collect()
            }
        };
        for (callers, result) in callers.into_iter().zip(results) {
            callers.answer(storage, result).await;
        }
        for waiting in self.barriers {
            // The caller may have gone in the meantime.
            let _ = waiting.send(());
        }
    }
}

/// Sorts by key and keeps the last write of each.
fn merge(mut pending: Vec<Pending>) -> (Vec<Put>, Vec<Callers>) {
    // Stable: writes of one key stay in the order in which they came.
    pending.sort_by(|one, other| one.put.key.cmp(&other.put.key));
    let mut puts: Vec<Put> = Vec::with_capacity(pending.len());
    let mut callers: Vec<Callers> = Vec::with_capacity(pending.len());
    for Pending { put, reply, .. } in pending {
        match (puts.last_mut(), callers.last_mut()) {
            (Some(last), Some(callers)) if last.key == put.key => {
                let earlier = std::mem::replace(last, put);
                let earlier_reply = std::mem::replace(&mut callers.reply, reply);
                callers.superseded.push((earlier, earlier_reply));
            }
            _ => {
                puts.push(put);
                callers.push(Callers { reply, superseded: Vec::new() });
            }
        }
    }
    (puts, callers)
}

impl Callers {
    /// Answers the callers, given the outcome of the last write. If the storage refuses that one, the
    /// writes before it still count: the last of them that it takes is the key's value.
    async fn answer(self, storage: &impl Storage, mut outcome: Result<Written>) {
        let Self { mut reply, superseded: mut earlier } = self;
        let refused = |error: &&Error| error.outcome() == Outcome::NotApplied && !error.is_gone();
        while let Some(error) = outcome.as_ref().err().filter(refused) {
            reply.send(Err(Error::clone(error)));
            let Some((put, next)) = earlier.pop() else { return };
            outcome = put.write_to(storage).await;
            reply = next;
        }
        for (_, reply) in earlier {
            reply.send(outcome.as_ref().map(superseded).map_err(Error::clone));
        }
        reply.send(outcome);
    }
}

/// The outcome of a write that another one replaced before it could be read: its version is out of date.
fn superseded(by: &Written) -> Written {
    by.version.as_ref().map_or_else(Written::default, |_| Written::at(Version::unique()))
}

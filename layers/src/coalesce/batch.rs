//! One batch: what goes into it, and who is told what about it.

use larder_core::{Error, ErrorKind, Result, Storage, Write};
use tokio::sync::oneshot;

use super::{lane::Pending, reply::Reply};

/// Writes that go to the storage together, and those who wait for them.
#[derive(Default)]
pub(super) struct Batch {
    writes: Vec<Pending>,
    bytes: usize,
    barriers: Vec<oneshot::Sender<()>>,
}

/// The callers behind one entry of a batch.
struct Slot {
    reply: Reply,
    /// Earlier writes of the same key, oldest first, which this one made needless.
    superseded: Vec<(Write, Reply)>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.barriers.is_empty()
    }

    pub(super) fn has_room_for(&self, write: &Write, max_entries: usize, max_bytes: usize) -> bool {
        self.writes.is_empty()
            || (self.writes.len() < max_entries && self.bytes.saturating_add(size(write)) <= max_bytes)
    }

    pub(super) fn push(&mut self, pending: Pending) {
        self.bytes = self.bytes.saturating_add(size(&pending.write));
        self.writes.push(pending);
    }

    /// `waiting` is told once the batch is done, whatever comes of it.
    pub(super) fn push_barrier(&mut self, waiting: oneshot::Sender<()>) {
        self.barriers.push(waiting);
    }

    /// Writes the batch and answers everybody.
    pub(super) async fn run(self, storage: &impl Storage) {
        let Self { writes, barriers, .. } = self;
        if !writes.is_empty() {
            let (writes, slots) = merge(writes);
            write(storage, &writes, slots).await;
        }
        for waiting in barriers {
            // He may have gone meanwhile.
            let _ = waiting.send(());
        }
    }
}

fn size(write: &Write) -> usize {
    write.key.as_bytes().len().saturating_add(write.value.len())
}

/// Sorts by key and keeps the last write of each.
fn merge(mut pending: Vec<Pending>) -> (Vec<Write>, Vec<Slot>) {
    // Stable: writes of one key stay in the order in which they came.
    pending.sort_by(|one, other| one.write.key.cmp(&other.write.key));
    let mut writes: Vec<Write> = Vec::with_capacity(pending.len());
    let mut slots: Vec<Slot> = Vec::with_capacity(pending.len());
    for Pending { write, reply, .. } in pending {
        match (writes.last_mut(), slots.last_mut()) {
            (Some(last), Some(slot)) if last.key == write.key => {
                let earlier = std::mem::replace(last, write);
                let earlier_reply = std::mem::replace(&mut slot.reply, reply);
                slot.superseded.push((earlier, earlier_reply));
            }
            _ => {
                writes.push(write);
                slots.push(Slot { reply, superseded: Vec::new() });
            }
        }
    }
    (writes, slots)
}

async fn write(storage: &impl Storage, writes: &[Write], slots: Vec<Slot>) {
    if let [only] = writes {
        // The storage may know a shorter way for one, and a failure is that entry's own.
        let mut outcome = Some(write_one(storage, only).await);
        return settle_each(storage, slots, |_| outcome.take().unwrap_or(Ok(()))).await;
    }
    match storage.write_many(writes).await {
        Ok(()) => slots.into_iter().for_each(|slot| slot.answer(Ok(()))),
        Err(error) if error.kind() == ErrorKind::Partial => {
            let mut failures: Vec<Option<Error>> = slots.iter().map(|_| None).collect();
            for failure in error.into_failures() {
                if let Some(place) = failures.get_mut(failure.index) {
                    *place = Some(failure.error);
                }
            }
            settle_each(storage, slots, |index| failures[index].take().map_or(Ok(()), Err)).await;
        }
        Err(error) if error.is_retryable() || error.kind() == ErrorKind::Closed => {
            slots.into_iter().for_each(|slot| slot.answer(Err(error.duplicate())));
        }
        Err(_) => write_each(storage, writes, slots).await,
    }
}

async fn write_one(storage: &impl Storage, write: &Write) -> Result<()> {
    storage.write(&write.key, write.value.clone(), write.expiry).await
}

/// Writes the entries one by one, so that only the bad one fails.
async fn write_each(storage: &impl Storage, writes: &[Write], slots: Vec<Slot>) {
    let mut outcomes: Vec<Result<()>> = Vec::with_capacity(writes.len());
    for write in writes {
        let outcome = match outcomes.last() {
            // The store has gone away: do not wait for as many time-outs as there are entries.
            Some(Err(error)) if error.is_retryable() => Err(error.duplicate()),
            _ => write_one(storage, write).await,
        };
        outcomes.push(outcome);
    }
    settle_each(storage, slots, |index| std::mem::replace(&mut outcomes[index], Ok(()))).await;
}

async fn settle_each(storage: &impl Storage, slots: Vec<Slot>, mut outcome: impl FnMut(usize) -> Result<()>) {
    for (index, slot) in slots.into_iter().enumerate() {
        match outcome(index) {
            Err(error) if !error.is_retryable() => slot.refuse(storage, error).await,
            outcome => slot.answer(outcome),
        }
    }
}

impl Slot {
    /// Tells everybody behind the entry the same.
    fn answer(self, outcome: Result<()>) {
        for (_, reply) in self.superseded {
            reply.send(duplicate(&outcome));
        }
        self.reply.send(outcome);
    }

    /// The entry is bad, but the earlier ones that it superseded need not be: the latest good one
    /// is what the key ends with, and stands for those before it.
    async fn refuse(self, storage: &impl Storage, error: Error) {
        self.reply.send(Err(error));
        let mut earlier = self.superseded;
        while let Some((write, reply)) = earlier.pop() {
            let outcome = write_one(storage, &write).await;
            let settled = outcome.as_ref().map_or_else(Error::is_retryable, |()| true);
            if settled {
                for (_, reply) in earlier.drain(..) {
                    reply.send(duplicate(&outcome));
                }
            }
            reply.send(outcome);
        }
    }
}

fn duplicate(outcome: &Result<()>) -> Result<()> {
    outcome.as_ref().map_err(Error::duplicate).copied()
}

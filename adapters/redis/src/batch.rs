//! Several entries in few round trips.

use std::collections::HashMap;

use futures_util::{StreamExt, stream};
use larder_core::{Error, Failure, Key, Operation, Record, Result, Write};
use redis::{Cmd, Pipeline, RedisResult, Value};

use crate::{
    connection::Route,
    driver::{Driver, check_size, checked, convert, integer, is_hopeless, keyed, record, set},
    keyspace::FullKey,
    link::Live,
};

/// How many commands go out at once.
const CHUNK: usize = 256;

/// How many bytes of values go out at once, unless a single one is larger.
const CHUNK_BYTES: usize = 1 << 20;

/// How many commands are under way to a cluster at once.
const CLUSTER_WINDOW: usize = 128;

impl Driver {
    pub(crate) async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        let live = self.link.acquire(Operation::ReadMany).await?;
        let mut records = Vec::with_capacity(keys.len());
        // Not MGET: it answers nil for what is no string, and an error is not an absence.
        for chunk in keys.chunks(CHUNK) {
            let commands =
                chunk.iter().map(|key| self.keyspace.full(key)).map(|key| (keyed("GET", key, 0, 0), key));
            for reply in send(&live, commands.collect()).await {
                records.push(record(checked(reply)?)?);
            }
        }
        Ok(records)
    }

    pub(crate) async fn write_many(&self, writes: &[Write]) -> Result<()> {
        let live = self.link.acquire(Operation::WriteMany).await?;
        // In a cluster commands overtake each other, so of several writes of a key only the last is
        // sent. Its outcome is that of all.
        let superseded = if live.is_cluster() { superseded(writes) } else { HashMap::new() };
        let mut outcome = Outcome::new(writes.len());
        let mut next = 0;
        while next < writes.len() && !outcome.hopeless() {
            let mut commands = Vec::new();
            let mut indices = Vec::new();
            let mut bytes = 0;
            while next < writes.len() && commands.len() < CHUNK && bytes < CHUNK_BYTES {
                let write = &writes[next];
                let key = self.keyspace.full(&write.key);
                if superseded.contains_key(&next) {
                } else if write.expiry.is_elapsed() {
                    commands.push((keyed("DEL", key, 0, 0), key));
                    indices.push(next);
                } else if let Err(error) = check_size(&write.value) {
                    outcome.fail(next, error);
                } else {
                    bytes += write.value.len();
                    commands.push((set(key, &write.value, &[], write.expiry), key));
                    indices.push(next);
                }
                next += 1;
            }
            for (index, reply) in indices.into_iter().zip(send(&live, commands).await) {
                if let Err(error) = checked(reply) {
                    outcome.fail(index, error);
                }
            }
        }
        outcome.abandon(next);
        outcome.follow(&superseded);
        outcome.into_result()
    }

    pub(crate) async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        let live = self.link.acquire(Operation::DeleteMany).await?;
        let mut outcome = Outcome::new(keys.len());
        let mut deleted = 0;
        let mut next = 0;
        let repeated = repeated(keys);
        for chunk in keys.chunks(CHUNK) {
            if outcome.hopeless() {
                break;
            }
            // A key that is named twice must not be under way twice at once: it would count twice
            // should somebody write it in between.
            let indices: Vec<_> =
                (next..next + chunk.len()).filter(|index| !repeated.contains_key(index)).collect();
            if live.is_cluster() {
                let full = |&index: &usize| self.keyspace.full(&keys[index]);
                let commands = indices.iter().map(full).map(|key| (keyed("DEL", key, 0, 0), key));
                let replies = send(&live, commands.collect()).await;
                for (index, reply) in indices.into_iter().zip(replies) {
                    match checked(reply).and_then(integer) {
                        Ok(count) => deleted += u64::try_from(count).unwrap_or(0),
                        Err(error) => outcome.fail(index, error),
                    }
                }
            } else if !indices.is_empty() {
                let mut command = Cmd::new();
                command.arg("DEL");
                for &index in &indices {
                    command.arg(self.keyspace.full(&keys[index]));
                }
                match live.call(&command, Route::Any).await.map_err(convert).and_then(integer) {
                    Ok(count) => deleted += u64::try_from(count).unwrap_or(0),
                    Err(error) => {
                        for index in indices {
                            outcome.fail(index, error.duplicate());
                        }
                    }
                }
            }
            next += chunk.len();
        }
        outcome.abandon(next);
        outcome.follow(&repeated);
        outcome.into_result().map(|()| deleted)
    }
}

/// Sends all commands, to one server as a pipeline, to a cluster side by side; one reply for each, in
/// their order.
pub(crate) async fn send(live: &Live, commands: Vec<(Cmd, FullKey<'_>)>) -> Vec<RedisResult<Value>> {
    if live.is_cluster() {
        let sent =
            commands.iter().map(|(command, key)| live.call(command, Route::Key(*key))).collect::<Vec<_>>();
        return stream::iter(sent).buffered(CLUSTER_WINDOW).collect().await;
    }
    let count = commands.len();
    if count == 0 {
        return Vec::new();
    }
    let mut pipeline = Pipeline::with_capacity(count);
    for (command, _) in commands {
        pipeline.add_command(command);
    }
    match live.pipeline(&pipeline).await {
        Ok(replies) if replies.len() == count => replies.into_iter().map(Ok).collect(),
        Ok(_) => {
            let error = (redis::ErrorKind::UnexpectedReturnType, "a pipeline got too few replies");
            vec![Err(error.into()); count]
        }
        Err(error) => vec![Err(error); count],
    }
}

/// The writes that a later one of the same key replaces, each with the last of that key.
fn superseded(writes: &[Write]) -> HashMap<usize, usize> {
    let mut last = HashMap::new();
    let mut superseded = HashMap::new();
    for (index, write) in writes.iter().enumerate().rev() {
        match last.get(&write.key) {
            Some(&later) => _ = superseded.insert(index, later),
            None => _ = last.insert(&write.key, index),
        }
    }
    superseded
}

/// The places where a key is named again, each with the first of that key.
fn repeated(keys: &[Key]) -> HashMap<usize, usize> {
    let mut first = HashMap::with_capacity(keys.len());
    let mut repeated = HashMap::new();
    for (index, key) in keys.iter().enumerate() {
        let first = *first.entry(key).or_insert(index);
        if first != index {
            repeated.insert(index, first);
        }
    }
    repeated
}

/// What became of the entries of a batch.
struct Outcome {
    total: usize,
    failures: Vec<Failure>,
}

impl Outcome {
    const fn new(total: usize) -> Self {
        Self { total, failures: Vec::new() }
    }

    fn fail(&mut self, index: usize, error: Error) {
        self.failures.push(Failure::new(index, error));
    }

    /// Whether the entries to come would fail as the last one did.
    fn hopeless(&self) -> bool {
        self.failures.last().is_some_and(|failure| is_hopeless(&failure.error))
    }

    /// The entries from `next` on were not tried.
    fn abandon(&mut self, next: usize) {
        let Some(error) = self.failures.last().map(|failure| failure.error.duplicate()) else { return };
        for index in next..self.total {
            self.fail(index, error.duplicate());
        }
    }

    /// What became of an entry is what became of the one of the same key that was sent in its place.
    fn follow(&mut self, stand_ins: &HashMap<usize, usize>) {
        if stand_ins.is_empty() || self.failures.is_empty() {
            return;
        }
        let failed: HashMap<_, _> =
            self.failures.iter().map(|failure| (failure.index, failure.error.duplicate())).collect();
        for (&index, stand_in) in stand_ins {
            if let Some(error) = failed.get(stand_in)
                && !failed.contains_key(&index)
            {
                self.fail(index, error.duplicate());
            }
        }
    }

    fn into_result(mut self) -> Result<()> {
        if self.failures.is_empty() {
            return Ok(());
        }
        self.failures.sort_by_key(|failure| failure.index);
        // Nothing was done: the plain error says more than a list of its copies.
        if self.failures.len() == self.total
            && self.failures.iter().all(|failure| is_hopeless(&failure.error))
        {
            return Err(self.failures.swap_remove(0).error);
        }
        Err(Error::partial(self.failures, self.total))
    }
}

#[cfg(test)]
mod tests {
    use larder_core::{ErrorKind, Expiry};

    use super::*;

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "no")
    }

    #[test]
    fn the_last_write_of_a_key_stands_for_all() {
        let write = |key: &str| Write::new(Key::new(key).unwrap(), "v", Expiry::Never);
        let superseded = superseded(&[write("a"), write("b"), write("a"), write("a")]);
        assert_eq!(superseded, HashMap::from([(0, 3), (2, 3)]));
        let mut outcome = Outcome::new(4);
        outcome.fail(3, error(ErrorKind::StorageFull));
        outcome.follow(&superseded);
        let failures = outcome.into_result().unwrap_err().into_failures();
        assert_eq!(failures.iter().map(|failure| failure.index).collect::<Vec<_>>(), [0, 2, 3]);
    }

    #[test]
    fn a_key_that_is_named_again_fails_with_the_first() {
        let keys = ["a", "b", "a", "c", "a"].map(|key| Key::new(key).unwrap());
        let repeated = repeated(&keys);
        assert_eq!(repeated, HashMap::from([(2, 0), (4, 0)]));
        let mut outcome = Outcome::new(5);
        outcome.fail(0, error(ErrorKind::Unavailable));
        outcome.abandon(3);
        outcome.follow(&repeated);
        let failures = outcome.into_result().unwrap_err().into_failures();
        assert_eq!(failures.iter().map(|failure| failure.index).collect::<Vec<_>>(), [0, 2, 3, 4]);
    }

    #[test]
    fn a_batch_that_fails_whole_fails_plainly() {
        let mut outcome = Outcome::new(3);
        outcome.fail(0, error(ErrorKind::Unavailable));
        assert!(outcome.hopeless());
        outcome.abandon(1);
        assert_eq!(outcome.into_result().unwrap_err().kind(), ErrorKind::Unavailable);
    }

    #[test]
    fn one_entry_fails_alone() {
        let mut outcome = Outcome::new(3);
        outcome.fail(1, error(ErrorKind::TooLarge));
        assert!(!outcome.hopeless());
        outcome.abandon(3);
        let error = outcome.into_result().unwrap_err();
        assert_eq!((error.kind(), error.failures().len()), (ErrorKind::Partial, 1));
    }
}

//! Many entries in one statement.

use std::collections::BTreeMap;

use larder_core::{Error, ErrorKind, Failure, Key, Operation, Result, Write};

use crate::{
    error::blames_an_entry,
    layout::Layout,
    table::{Life, Table, draw},
    value::Value,
};

/// Entries in one statement.
const MAX_ENTRIES: usize = 1_000;
/// Bytes of values in one statement; a larger value goes alone.
const MAX_BYTES: usize = 8 << 20;

impl Table {
    /// Writes all of `writes`, in as few statements as may be. Each names a key once (twice is an
    /// error to Postgres), in the order of the keys, as every other batch does: no deadlock.
    pub(crate) async fn write_batches(&self, writes: &[Write]) -> Result<()> {
        let mut failures = Vec::new();
        // Per key, its writes in order; the last one counts.
        let mut by_key: BTreeMap<&Key, Vec<usize>> = BTreeMap::new();
        for (index, write) in writes.iter().enumerate() {
            match self.check(&write.value, write.expiry, Operation::WriteMany) {
                Ok(()) => by_key.entry(&write.key).or_default().push(index),
                Err(error) => failures.push(Failure::new(index, error)),
            }
        }
        // A write that the server refuses leaves its key to the one before it.
        while !by_key.is_empty() {
            let last: Vec<usize> = by_key.values().filter_map(|indexes| indexes.last().copied()).collect();
            let refused = self.write_distinct(writes, &last).await;
            let mut again = BTreeMap::new();
            for failure in refused {
                let key = &writes[failure.index].key;
                if let Some(mut indexes) = by_key.remove(key) {
                    indexes.pop();
                    if failure.error.is_retryable() || !blames_an_entry(failure.error.kind()) {
                        // The store failed, not the entry: those before it fared no better.
                        let same = |index| Failure::new(index, failure.error.duplicate());
                        failures.extend(indexes.drain(..).map(same));
                    } else if !indexes.is_empty() {
                        again.insert(key, indexes);
                    }
                }
                failures.push(failure);
            }
            by_key = again;
        }
        done(failures, writes.len(), Operation::WriteMany)
    }

    /// Writes those of `writes` that `indexes` names, of distinct keys in order; returns the failures.
    async fn write_distinct(&self, writes: &[Write], indexes: &[usize]) -> Vec<Failure> {
        let (over, kept): (Vec<usize>, Vec<usize>) =
            indexes.iter().partition(|index| Life::new(writes[**index].expiry) == Life::Over);
        let mut failures = Vec::new();
        for (done, chunk) in (0..).step_by(MAX_ENTRIES).zip(over.chunks(MAX_ENTRIES)) {
            let keys: Vec<&str> = chunk.iter().map(|index| writes[*index].key.as_str()).collect();
            if let Err(error) = self.driver.execute(&self.queries.delete_many, &[&keys]).await {
                if !blames_an_entry(error.kind()) {
                    // The store has failed: do not wait for it once per chunk.
                    let rest = over[done..].iter().chain(&kept);
                    failures.extend(rest.map(|index| Failure::new(*index, error.duplicate())));
                    return failures;
                }
                failures.extend(chunk.iter().map(|index| Failure::new(*index, error.duplicate())));
            }
        }
        // What is still to be written, the next chunk last.
        let mut chunks = chunks(writes, &kept);
        chunks.reverse();
        while let Some(chunk) = chunks.pop() {
            match self.write_chunk(writes, chunk).await {
                Ok(()) => {}
                // One of them is to blame: halve until it stands alone.
                Err(error) if chunk.len() > 1 && blames_an_entry(error.kind()) => {
                    let (first, second) = chunk.split_at(chunk.len() / 2);
                    chunks.extend([second, first]);
                }
                Err(error) => {
                    failures.extend(chunk.iter().map(|index| Failure::new(*index, error.duplicate())));
                    if !blames_an_entry(error.kind()) {
                        // The store has failed: do not wait for it once per chunk.
                        let rest = chunks.drain(..).flatten();
                        failures.extend(rest.map(|index| Failure::new(*index, error.duplicate())));
                    }
                }
            }
        }
        failures
    }

    async fn write_chunk(&self, writes: &[Write], indexes: &[usize]) -> Result<()> {
        let chosen = || indexes.iter().map(|index| &writes[*index]);
        let keys: Vec<&str> = chosen().map(|write| write.key.as_str()).collect();
        let values: Vec<Value<'_>> = chosen().map(|write| Value(&write.value)).collect();
        let query = &self.queries.write_many;
        match self.layout {
            Layout::Larder(_) => {
                let versions: Vec<i64> = chosen().map(|_| draw().1).collect();
                let lives: Vec<Option<i64>> = chosen()
                    .map(|write| match Life::new(write.expiry) {
                        Life::Left(left) => left,
                        Life::Over => Some(0),
                    })
                    .collect();
                self.driver.execute(query, &[&keys, &values, &versions, &lives]).await?;
            }
            Layout::Grammy => {
                self.driver.execute(query, &[&keys, &values]).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn delete_batches(&self, keys: &[Key], chunk: usize) -> Result<u64> {
        // Each once: the same key in two statements would be deleted in the first, and a write in
        // between would be deleted in the second.
        let mut by_name: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, key) in keys.iter().enumerate() {
            by_name.entry(key.as_str()).or_default().push(index);
        }
        let names: Vec<&str> = by_name.keys().copied().collect();
        let mut deleted = 0;
        let mut failures = Vec::new();
        let mut left = &names[..];
        while !left.is_empty() {
            let (names, rest) = left.split_at(chunk.min(left.len()));
            match self.driver.execute(&self.queries.delete_many, &[&names]).await {
                Ok(count) => {
                    deleted += count;
                    left = rest;
                }
                Err(error) => {
                    // If the store has failed, do not wait for it once per chunk.
                    let (failed, rest) =
                        if blames_an_entry(error.kind()) { (names, rest) } else { (left, &[][..]) };
                    let indexes = failed.iter().filter_map(|name| by_name.get(name)).flatten();
                    failures.extend(indexes.map(|index| Failure::new(*index, error.duplicate())));
                    left = rest;
                }
            }
        }
        done(failures, keys.len(), Operation::DeleteMany).map(|()| deleted)
    }
}

/// Cuts `indexes` into what goes into one statement each.
fn chunks<'a>(writes: &[Write], indexes: &'a [usize]) -> Vec<&'a [usize]> {
    let mut chunks = Vec::new();
    let (mut start, mut bytes) = (0, 0_usize);
    for (at, index) in indexes.iter().enumerate() {
        let size = writes[*index].value.len();
        if at > start && (at - start == MAX_ENTRIES || bytes.saturating_add(size) > MAX_BYTES) {
            chunks.push(&indexes[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes = bytes.saturating_add(size);
    }
    if start < indexes.len() {
        chunks.push(&indexes[start..]);
    }
    chunks
}

/// The outcome of a batch of `total`, of which these failed.
fn done(mut failures: Vec<Failure>, total: usize, operation: Operation) -> Result<()> {
    failures.sort_by_key(|failure| failure.index);
    let store_failed = failures.len() == total
        && failures.iter().all(|failure| !blames_an_entry(failure.error.kind()))
        && failures.iter().all(|failure| failure.error.kind() != ErrorKind::Unsupported);
    match failures.pop() {
        None => Ok(()),
        // Nothing was done, and no entry is to blame.
        Some(last) if store_failed => Err(last.error),
        Some(last) => {
            failures.push(last);
            Err(Error::partial(failures, total).with_operation(operation))
        }
    }
}

#[cfg(test)]
mod tests {
    use larder_core::Expiry;

    use super::*;

    fn write(bytes: usize) -> Write {
        Write::new(Key::new("k").unwrap(), vec![0; bytes], Expiry::Never)
    }

    #[test]
    fn chunks_are_bounded_in_entries_and_bytes() {
        let writes: Vec<Write> = (0..2_500).map(|_| write(1)).collect();
        let indexes: Vec<usize> = (0..writes.len()).collect();
        let lengths: Vec<usize> = chunks(&writes, &indexes).iter().map(|chunk| chunk.len()).collect();
        assert_eq!(lengths, [1_000, 1_000, 500]);

        let writes = [write(MAX_BYTES + 1), write(1), write(MAX_BYTES), write(1)];
        let lengths: Vec<usize> = chunks(&writes, &[0, 1, 2, 3]).iter().map(|chunk| chunk.len()).collect();
        assert_eq!(lengths, [1, 1, 1, 1]);
        assert!(chunks(&writes, &[]).is_empty());
    }

    #[test]
    fn a_batch_that_the_store_failed_is_no_partial_one() {
        let failure = |index, kind| Failure::new(index, Error::new(kind, "no"));
        let failed = |failures, total| done(failures, total, Operation::WriteMany).unwrap_err().kind();
        let both = vec![failure(0, ErrorKind::Unavailable), failure(1, ErrorKind::Unavailable)];
        assert_eq!(failed(both, 2), ErrorKind::Unavailable);
        assert_eq!(failed(vec![failure(1, ErrorKind::Unavailable)], 2), ErrorKind::Partial);
        assert_eq!(failed(vec![failure(0, ErrorKind::InvalidValue)], 1), ErrorKind::Partial);
        done(Vec::new(), 0, Operation::WriteMany).unwrap();
    }
}

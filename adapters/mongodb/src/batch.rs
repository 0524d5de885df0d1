//! Several entries at once, in few round trips.

use std::collections::{HashMap, HashSet};

use larder_core::{Error, ErrorKind, Failure, Key, Operation, Record, Result, Write};
use mongodb::{
    bson::{Bson, Document, doc},
    options::{Acknowledgment, UpdateModifications, WriteConcern},
};

use crate::{
    MongoStorage, driver, error,
    model::{self, Value},
    storage::Update,
};

/// How many keys one command names.
const KEYS_PER_COMMAND: usize = 1_000;
/// How many writes one command holds.
const WRITES_PER_COMMAND: usize = 500;
/// How many bytes of values one command holds. MongoDB takes commands of 16 MiB.
const BYTES_PER_COMMAND: usize = 8 * 1024 * 1024;

pub(crate) async fn read_many(storage: &MongoStorage, keys: &[Key]) -> Result<Vec<Option<Record>>> {
    let operation = Operation::ReadMany;
    storage.driver.check_open(operation)?;
    let mut found: HashMap<String, Record> = HashMap::with_capacity(keys.len());
    for chunk in distinct(keys).chunks(KEYS_PER_COMMAND) {
        let collection = storage.driver.raw_collection(operation)?;
        let pipeline = storage.model.find_live(storage.model.by_keys(chunk.iter()));
        // One more than there can be: a cursor whose batch is just full is asked once more.
        let size = u32::try_from(chunk.len() + 1).unwrap_or(u32::MAX);
        let call = async move {
            driver::drain(collection.aggregate(pipeline).batch_size(size).with_type().await?).await
        };
        for document in storage.driver.run(operation, call).await? {
            let key = storage.model.key_of(&document)?;
            found.insert(key, storage.model.record(document)?);
        }
    }
    Ok(keys.iter().map(|key| found.get(key.as_str()).cloned()).collect())
}

pub(crate) async fn delete_many(storage: &MongoStorage, keys: &[Key]) -> Result<u64> {
    let operation = Operation::DeleteMany;
    storage.driver.check_open(operation)?;
    let mut deleted = 0;
    let mut failures = Failures::default();
    for chunk in distinct(keys).chunks(KEYS_PER_COMMAND) {
        let filter = storage.model.live(storage.model.by_keys(chunk.iter()));
        let outcome = match failures.stop() {
            Some(error) => Err(error),
            None => delete(storage, operation, chunk, filter).await,
        };
        match outcome {
            Ok(count) => deleted += count,
            Err(failed) => {
                let chunk: HashSet<&Key> = chunk.iter().collect();
                let places = keys.iter().enumerate().filter(|(_, key)| chunk.contains(key));
                failures.all(places.map(|(index, _)| index), &failed);
            }
        }
    }
    failures.into_result(keys.len()).map(|()| deleted)
}

/// Deletes what matches `filter`, which are documents of `keys`; returns how many there were.
pub(crate) async fn delete(
    storage: &MongoStorage,
    operation: Operation,
    keys: &[Key],
    filter: Document,
) -> Result<u64> {
    let collection = storage.driver.collection(operation)?;
    let call = async move { collection.delete_many(filter).await };
    match storage.driver.call(operation, keys, call).await? {
        Ok(result) => Ok(result.deleted_count),
        Err(failed) => Err(error::from_driver(operation, &failed)),
    }
}

pub(crate) async fn write_many(storage: &MongoStorage, writes: &[Write]) -> Result<()> {
    let operation = Operation::WriteMany;
    storage.driver.check_open(operation)?;
    let mut failures = Failures::default();
    let mut values: HashMap<usize, Value> = HashMap::with_capacity(writes.len());
    for (index, write) in writes.iter().enumerate() {
        let value =
            storage.check_expiry(operation, write.expiry).and_then(|()| storage.model.encode(&write.value));
        match value {
            Ok(value) => drop(values.insert(index, value)),
            Err(refused) => failures.one(index, refused),
        }
    }
    // What cannot be written supersedes nothing.
    let valid = (0..writes.len()).filter(|index| values.contains_key(index));
    let last = model::last_of_each(writes, valid);
    let (elapsed, last): (Vec<usize>, Vec<usize>) =
        last.into_iter().partition(|&index| writes[index].expiry.is_elapsed());

    for chunk in elapsed.chunks(KEYS_PER_COMMAND) {
        let keys: Vec<Key> = chunk.iter().map(|&index| writes[index].key.clone()).collect();
        let filter = storage.model.by_keys(keys.iter());
        let outcome = match failures.stop() {
            Some(error) => Err(error),
            None => delete(storage, operation, &keys, filter).await,
        };
        if let Err(failed) = outcome {
            failures.all(chunk.iter().copied(), &failed);
        }
    }
    for chunk in chunks(&last, &values) {
        if let Some(error) = failures.stop() {
            failures.all(chunk.iter().copied(), &error);
            continue;
        }
        let mut again = Vec::new();
        if let [index] = chunk {
            again.push(*index);
        } else {
            match update(storage, writes, chunk, &values).await {
                Ok(failed) => {
                    for (index, code, name) in failed {
                        if code == error::DUPLICATE_KEY {
                            again.push(index);
                        } else {
                            failures.one(index, error::from_code(code, name.as_deref()));
                        }
                    }
                }
                Err(failed) => failures.all(chunk.iter().copied(), &failed),
            }
        }
        // One alone, and those that met another upsert of the same key.
        for index in again {
            let Some(value) = values.get(&index).cloned() else { continue };
            let write = &writes[index];
            if let Err(failed) = storage.put(operation, &write.key, value, write.expiry.as_millis()).await {
                failures.one(index, failed);
            }
        }
    }
    failures.include_superseded(writes, &values);
    failures.into_result(writes.len())
}

/// The places in groups that one command can hold.
fn chunks<'a>(places: &'a [usize], values: &HashMap<usize, Value>) -> Vec<&'a [usize]> {
    let size = |place: &usize| values.get(place).map_or(0, |value| value.size);
    let mut chunks = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, place) in places.iter().enumerate() {
        let size = size(place);
        if at > start && (at - start >= WRITES_PER_COMMAND || bytes + size > BYTES_PER_COMMAND) {
            chunks.push(&places[start..at]);
            (start, bytes) = (at, 0);
        }
        bytes += size;
    }
    if start < places.len() {
        chunks.push(&places[start..]);
    }
    chunks
}

/// Writes that the server refused, each with the code and its name.
type Refused = Vec<(usize, i32, Option<String>)>;

/// Several upserts as one unordered command; the driver has no call for that.
async fn update(
    storage: &MongoStorage,
    writes: &[Write],
    places: &[usize],
    values: &HashMap<usize, Value>,
) -> Result<Refused> {
    let operation = Operation::WriteMany;
    let mut keys = Vec::with_capacity(places.len());
    let mut updates = Vec::with_capacity(places.len());
    for place in places {
        let Some(value) = values.get(place).cloned() else { continue };
        let write = &writes[*place];
        keys.push(write.key.clone());
        let update: Bson = match storage.put_update(value, write.expiry.as_millis()) {
            Update::Replace(document) | Update::Modify(UpdateModifications::Document(document)) => {
                document.into()
            }
            Update::Modify(UpdateModifications::Pipeline(stages)) => stages.into(),
            Update::Modify(_) => continue,
        };
        updates.push(doc! { "q": storage.model.by_key(&write.key), "u": update, "upsert": true });
    }
    let database = storage.driver.database(operation)?;
    let collection = storage.driver.collection(operation)?;
    let command = doc! {
        "update": collection.name(),
        "updates": updates,
        "ordered": false,
        "writeConcern": concern(storage.driver.write_concern(operation)?),
    };
    let call = async move { database.run_command(command).await };
    let reply = match storage.driver.call(operation, &keys, call).await? {
        Ok(reply) => reply,
        Err(failed) => return Err(error::from_driver(operation, &failed)),
    };
    if let Ok(unconfirmed) = reply.get_document("writeConcernError") {
        let (code, name) = code_of(unconfirmed);
        return Err(error::from_code(code, name.as_deref()));
    }
    let Ok(errors) = reply.get_array("writeErrors") else {
        return Ok(Vec::new());
    };
    let refused = errors.iter().filter_map(Bson::as_document).map(|error| {
        let (code, name) = code_of(error);
        let index = number(error, "index").and_then(|index| usize::try_from(index).ok());
        index.and_then(|index| places.get(index)).map(|place| (*place, code, name))
    });
    refused
        .collect::<Option<Refused>>()
        .ok_or_else(|| Error::new(ErrorKind::Other, "the server names a write that was not in the batch"))
}

fn code_of(error: &Document) -> (i32, Option<String>) {
    let code = number(error, "code").and_then(|code| i32::try_from(code).ok()).unwrap_or_default();
    (code, error.get_str("codeName").ok().map(str::to_owned))
}

fn number(document: &Document, name: &str) -> Option<i64> {
    match document.get(name)? {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    }
}

fn concern(concern: &WriteConcern) -> Document {
    let mut document = Document::new();
    match &concern.w {
        Some(Acknowledgment::Nodes(nodes)) => drop(document.insert("w", i64::from(*nodes))),
        Some(Acknowledgment::Custom(name)) => drop(document.insert("w", name)),
        Some(Acknowledgment::Majority) => drop(document.insert("w", "majority")),
        _ => {}
    }
    if let Some(journal) = concern.journal {
        document.insert("j", journal);
    }
    if let Some(timeout) = concern.w_timeout {
        document.insert("wtimeout", i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX));
    }
    document
}

fn distinct(keys: &[Key]) -> Vec<Key> {
    let mut seen = HashSet::with_capacity(keys.len());
    keys.iter().filter(|key| seen.insert(*key)).cloned().collect()
}

/// What went wrong so far, by place.
#[derive(Default)]
struct Failures {
    failures: Vec<Failure>,
    /// Why a whole command failed: the server is gone or busy, and the rest would fail as slowly.
    stopped: Option<Error>,
}

impl Failures {
    fn one(&mut self, index: usize, error: Error) {
        self.failures.push(Failure::new(index, error));
    }

    fn all(&mut self, places: impl Iterator<Item = usize>, error: &Error) {
        self.failures.extend(places.map(|index| Failure::new(index, error.duplicate())));
        self.stopped.get_or_insert_with(|| error.duplicate());
    }

    fn stop(&self) -> Option<Error> {
        self.stopped.as_ref().map(Error::duplicate)
    }

    /// Adds the writes that were left out because a later one of the same key, which has failed, was
    /// to take their place.
    fn include_superseded(&mut self, writes: &[Write], values: &HashMap<usize, Value>) {
        let refused: HashSet<usize> = self.failures.iter().map(|failure| failure.index).collect();
        let by_key: HashMap<&Key, &Failure> = self
            .failures
            .iter()
            .filter(|failure| values.contains_key(&failure.index))
            .map(|failure| (&writes[failure.index].key, failure))
            .collect();
        let superseded: Vec<Failure> = (0..writes.len())
            .filter(|index| !refused.contains(index))
            .filter_map(|index| {
                let failure = by_key.get(&writes[index].key)?;
                Some(Failure::new(index, failure.error.duplicate()))
            })
            .collect();
        self.failures.extend(superseded);
    }

    fn into_result(mut self, total: usize) -> Result<()> {
        if self.failures.is_empty() {
            return Ok(());
        }
        match self.stopped {
            // Nothing is known to be done, and for one reason.
            Some(error) if self.failures.len() == total => Err(error),
            _ => {
                self.failures.sort_by_key(|failure| failure.index);
                Err(Error::partial(self.failures, total))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stay_within_their_limits() {
        let value = |size| Value { bson: Bson::Null, size };
        let mut values: HashMap<usize, Value> = (0..1_200).map(|index| (index, value(10))).collect();
        values.insert(3, value(BYTES_PER_COMMAND));
        let places: Vec<usize> = (0..1_200).collect();
        let chunks = chunks(&places, &values);
        assert_eq!(chunks.concat(), places);
        assert!(chunks.iter().all(|chunk| chunk.len() <= WRITES_PER_COMMAND));
        assert!(chunks.iter().any(|chunk| *chunk == [3]));
    }

    #[test]
    fn a_failure_of_everything_is_itself() {
        let gone = || Error::new(ErrorKind::Unavailable, "gone");
        let mut failures = Failures::default();
        failures.all(0..3, &gone());
        assert_eq!(failures.into_result(3).unwrap_err().kind(), ErrorKind::Unavailable);
        let mut failures = Failures::default();
        failures.all(1..3, &gone());
        failures.one(0, Error::new(ErrorKind::InvalidValue, "no"));
        failures.all(3..4, &gone());
        let error = failures.into_result(5).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Partial);
        assert_eq!(error.failures().iter().map(|failure| failure.index).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn a_write_that_was_left_out_fails_with_the_one_that_took_its_place() {
        let write = |key| Write::new(Key::new(key).unwrap(), "v", larder_core::Expiry::Never);
        let writes = [write("a"), write("b"), write("a")];
        let values = (0..3).map(|index| (index, Value { bson: Bson::Null, size: 1 })).collect();
        let mut failures = Failures::default();
        failures.one(2, Error::new(ErrorKind::Other, "no"));
        failures.include_superseded(&writes, &values);
        let failed = failures.into_result(3).unwrap_err();
        assert_eq!(failed.failures().iter().map(|failure| failure.index).collect::<Vec<_>>(), [0, 2]);
    }

    #[test]
    fn the_write_concern_goes_into_the_command() {
        let durable = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
        assert_eq!(concern(&durable), doc! { "w": "majority", "j": true });
    }
}

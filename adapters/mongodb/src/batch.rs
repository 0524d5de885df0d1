//! Sends changes: one alone, or many with few commands.

use std::{error::Error as _, slice};

use larder_core::{Applied, Change, Condition, Error, ErrorKind, Key, Result, Values};
use larder_kit::{Batch, Limits, side_by_side};
use mongodb::{
    Namespace,
    action::{Action as _, BulkWrite},
    error::{BulkWriteError, Error as DriverError, ErrorKind as DriverKind, PartialBulkWriteResult},
    options::{DeleteOneModel, UpdateOneModel, WriteModel},
    results::VerboseBulkWriteResult,
};

use crate::{
    driver::{CONCURRENT, Driver},
    error::{self, COMMAND_NOT_FOUND},
    model::{Counts, Model, Statement, applied, deleted, updated},
    value::MAX_GROWTH,
};

/// The maximum number of changes in one command.
const CHANGES: usize = 500;
/// The maximum size of the BSON values in one command. MongoDB accepts messages of 48 MB.
const BYTES: usize = 8 * 1024 * 1024;
/// The maximum number of attempts of an upsert that another upsert of the same key preceded. The next attempt replaces
/// the other's document, so the second one succeeds unless the document is deleted in between.
const UPSERT_TRIES: usize = 8;

/// Makes one change.
pub(crate) async fn change(driver: &Driver, model: impl Model, change: &Change) -> Result<Applied> {
    let mut tries = UPSERT_TRIES;
    loop {
        let Statement { filter, update, upsert, version } = model.statement(change)?;
        let collection = driver.collection()?;
        let call = async move {
            Ok(match update {
                Some(update) => updated(&collection.update_one(filter, update).upsert(upsert).await?),
                None => deleted(&collection.delete_one(filter).await?),
            })
        };
        tries -= 1;
        let outcome = driver.run(slice::from_ref(&change.key), call).await;
        // The server may reject one of two concurrent upserts. The rejected one was not applied. The entry now exists,
        // so the next attempt replaces it.
        let refused = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict);
        if !(refused && change.condition == Condition::Any && tries > 0) {
            return applied(change, version, outcome?);
        }
    }
}

/// Makes changes, many with one command.
pub(crate) async fn apply(driver: &Driver, model: impl Model, changes: Vec<Change>) -> Vec<Result<Applied>> {
    let bytes = if model.info().values == Values::Json { 2 * BYTES / MAX_GROWTH } else { BYTES };
    let mut batch = Batch::new(changes, Limits { entries: CHANGES, bytes });
    while let Some(round) = batch.next_round() {
        let outcome = apply_round(driver, model, round.changes()).await;
        batch.done(round, outcome);
    }
    batch.into_results()
}

/// Makes changes of distinct keys.
async fn apply_round(driver: &Driver, model: impl Model, changes: &[Change]) -> Result<Vec<Result<Applied>>> {
    let sent = if changes.len() > 1 { send(driver, model, changes).await? } else { vec![None] };
    // Only these are made alone: if one of them finds the store unavailable, the later ones are not sent.
    let alone = sent.iter().zip(changes).filter(|(result, _)| result.is_none());
    let alone = side_by_side(alone.map(|(_, alone)| change(driver, model, alone)), CONCURRENT).await;
    let mut alone = alone.into_iter();
    Ok(sent.into_iter().filter_map(|result| result.or_else(|| alone.next())).collect())
}

/// Sends changes of distinct keys. A change without a result must be made alone: the server does not support several
/// in one command (MongoDB does from version 8.0), or another upsert of the key came first.
async fn send(
    driver: &Driver,
    model: impl Model,
    changes: &[Change],
) -> Result<Vec<Option<Result<Applied>>>> {
    let collection = driver.collection()?;
    let keys: Vec<Key> = changes.iter().map(|change| change.key.clone()).collect();
    let mut results = vec![None; changes.len()];
    let (mut sent, mut writes) = (Vec::new(), Vec::new());
    for (place, change) in changes.iter().enumerate() {
        match model.statement(change) {
            Ok(statement) => {
                sent.push((place, statement.version.clone()));
                writes.push(write(collection.namespace(), statement));
            }
            Err(error) => results[place] = Some(Err(error)),
        }
    }
    if sent.is_empty() {
        return Ok(results);
    }
    let call = async move {
        let call = collection.client().bulk_write(writes).ordered(false).verbose_results();
        let call = call.optional(collection.write_concern().cloned(), BulkWrite::write_concern);
        Reply::of(call.await)
    };
    let Some(reply) = driver.run(&keys, call).await? else {
        return Ok(results);
    };
    for (index, (place, version)) in sent.into_iter().enumerate() {
        let change = &changes[place];
        results[place] = match reply.counts(index) {
            Err(error) if error.kind() == ErrorKind::Conflict && change.condition == Condition::Any => None,
            counts => Some(counts.and_then(|counts| applied(change, version, counts))),
        };
    }
    Ok(results)
}

fn write(namespace: Namespace, Statement { filter, update, upsert, .. }: Statement) -> WriteModel {
    let Some(update) = update else {
        return DeleteOneModel::builder().namespace(namespace).filter(filter).build().into();
    };
    let write = UpdateOneModel::builder().namespace(namespace).filter(filter).update(update);
    write.upsert(upsert).build().into()
}

/// The server's reply for each write.
#[derive(Default)]
struct Reply {
    done: VerboseBulkWriteResult,
    failed: BulkWriteError,
    /// The reason why the other writes have no result.
    rest: Option<Error>,
}

impl Reply {
    /// Converts the outcome. Returns `None` if the server does not support the command.
    fn of(outcome: Result<VerboseBulkWriteResult, DriverError>) -> Result<Option<Self>, DriverError> {
        let error = match outcome {
            Ok(done) => return Ok(Some(Self { done, ..Self::default() })),
            Err(error) => error,
        };
        let failed = match error.kind.as_ref() {
            DriverKind::BulkWrite(failed) => failed.clone(),
            DriverKind::IncompatibleServer { .. } => return Ok(None),
            DriverKind::Command(failed) if failed.code == COMMAND_NOT_FOUND => return Ok(None),
            _ => return Err(error),
        };
        // The error may come from reading the results, so it does not prove that nothing was applied.
        let rest = error.source().and_then(|source| source.downcast_ref::<Box<DriverError>>());
        let rest = rest.map(|rest| error::from_driver(rest).partly_applied());
        let done = match &failed.partial_result {
            Some(PartialBulkWriteResult::Verbose(done)) => done.clone(),
            _ => VerboseBulkWriteResult::default(),
        };
        Ok(Some(Self { done, failed, rest }))
    }

    fn counts(&self, index: usize) -> Result<Counts> {
        if let Some(refused) = self.failed.write_errors.get(&index) {
            return Err(error::from_code(refused.code, refused.code_name.as_deref()));
        }
        if let Some(failed) = self.failed.write_concern_errors.first() {
            return Err(error::unconfirmed(failed.code, Some(&failed.code_name)));
        }
        let counts = self.done.update_results.get(&index).map(updated);
        let counts = counts.or_else(|| self.done.delete_results.get(&index).map(deleted));
        let missing = || Error::new(ErrorKind::Other, "the server did not report the result of a change");
        counts.ok_or_else(|| self.rest.clone().unwrap_or_else(missing))
    }
}

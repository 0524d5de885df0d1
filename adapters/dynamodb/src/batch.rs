//! Batches of changes.

use std::{collections::HashMap, mem};

use aws_sdk_dynamodb::types::{PutRequest, WriteRequest};
use larder_core::{Action, Applied, Change, Error, Result, Version, clock::unix_millis};
use larder_kit::{Batch, Limits, is_plain_put, side_by_side};

use crate::{
    error::{from_sdk, incomplete, unprocessed},
    item::{self, ID},
    pauses::Pauses,
    quiet::quiet,
    storage::{CONCURRENT, DynamoStorage},
};

/// The maximum number of puts in one request. With the largest values, in base64, it has about 14 MB, of the 16 MB that
/// are allowed.
const PUTS: usize = 25;

const LIMITS: Limits = Limits { entries: CONCURRENT * PUTS, bytes: 16 << 20 };

/// One result per change.
type Results = Vec<Result<Applied>>;

/// Applies `changes`. Puts without a condition are sent together, and other changes alone, concurrently.
pub(crate) async fn apply(storage: &DynamoStorage, changes: Vec<Change>) -> Results {
    let mut batch = Batch::new(changes, LIMITS);
    while let Some(round) = batch.next_round() {
        let (puts, others): (Vec<_>, Vec<_>) =
            round.changes().iter().enumerate().partition(|(_, change)| is_plain_put(change));
        let requests: Vec<_> = puts.chunks(PUTS).chain(others.chunks(1)).collect();
        let sent = requests.iter().map(|request| send(storage, request));
        let mut results = HashMap::new();
        for (request, sent) in requests.iter().zip(side_by_side(sent, CONCURRENT).await) {
            let sent = sent.unwrap_or_else(|error| vec![Err(error); request.len()]);
            results.extend(request.iter().map(|(place, _)| *place).zip(sent));
        }
        let outcome = (0..round.changes().len()).filter_map(|place| results.remove(&place)).collect();
        batch.done(round, Ok(outcome));
    }
    batch.into_results()
}

/// Sends one change, or several puts.
async fn send(storage: &DynamoStorage, changes: &[(usize, &Change)]) -> Result<Results> {
    match changes {
        [(_, change)] => Ok(vec![Ok(storage.change(change).await?)]),
        puts => put(storage, puts).await,
    }
}

/// Makes puts without conditions.
async fn put(storage: &DynamoStorage, puts: &[(usize, &Change)]) -> Result<Results> {
    let (now, versions) = (unix_millis(), Version::unique_many(puts.len()));
    let write = |((_, change), version): (&(usize, &Change), &Version)| {
        let Action::Put(value, expiry) = &change.action else { return None };
        let put = PutRequest::builder().set_item(Some(item::item(&change.key, value, version, *expiry, now)));
        Some(put.build().map(|put| WriteRequest::builder().put_request(put).build()))
    };
    let mut writes =
        puts.iter().zip(&versions).filter_map(write).collect::<Result<Vec<_>, _>>().map_err(incomplete)?;
    let ids = |writes: &[WriteRequest]| -> Vec<_> {
        writes.iter().filter_map(|write| write.put_request()?.item().get(ID).cloned()).collect()
    };
    let mut waiting = ids(&writes);
    let (mut pauses, mut answered) = (Pauses::within(storage.timeout), false);
    // The error of the puts that are still waiting.
    let mut failed = None;
    while failed.is_none() && !waiting.is_empty() {
        let write = storage.client.batch_write_item().request_items(&storage.table, mem::take(&mut writes));
        match quiet(write.send()).await {
            // DynamoDB returns the puts that were throttled, and those that failed in the service. It may have made the
            // latter.
            Ok(sent) => {
                answered = true;
                writes =
                    sent.unprocessed_items.into_iter().flat_map(HashMap::into_values).flatten().collect();
                waiting = ids(&writes);
                failed = (!waiting.is_empty() && !pauses.next().await).then(unprocessed);
            }
            Err(error) if answered => failed = Some(from_sdk(error).partly_applied()),
            Err(error) => failed = Some(from_sdk(error)),
        }
    }
    // If no put was made, the whole call fails, so that no more calls begin.
    if let Some(error) = failed.take_if(|_| waiting.len() == puts.len()) {
        return Err(error);
    }
    let result = |((_, put), version): (&(usize, &Change), Version)| match &failed {
        Some(error) if waiting.contains(&item::id(&put.key)) => Err(Error::clone(error)),
        _ => put.applied(true, Some(version)),
    };
    Ok(puts.iter().zip(versions).map(result).collect())
}

//! Batches of changes.

use larder_core::{Action, Applied, Change, Result, Version, Written};
use larder_kit::{Batch, Limits};
use redis::Value;

use crate::{
    driver::{CHUNK, Driver},
    request::{Operation, changed},
};

/// The maximum size of one pipeline.
const LIMITS: Limits = Limits { entries: CHUNK, bytes: 1 << 20 };

pub(crate) async fn apply(driver: &Driver, changes: Vec<Change>) -> Vec<Result<Applied>> {
    let mut batch = Batch::new(changes, LIMITS);
    while let Some(round) = batch.next_round() {
        let changes = round.changes();
        let operations =
            changes.iter().map(|change| (&change.key, Operation::Change(&change.action, &change.condition)));
        let replies = driver.exchange(operations.collect()).await;
        let results = changes.iter().zip(replies).map(|(change, reply)| applied(change, &reply?)).collect();
        batch.done(round, Ok(results));
    }
    batch.into_results()
}

fn applied(change: &Change, reply: &Value) -> Result<Applied> {
    let done = changed(&change.condition, reply)?;
    Ok(match &change.action {
        Action::Put(value, _) => Applied::Put(Written::at(Version::from_content(value.clone()))),
        Action::Delete => Applied::Deleted(done),
        Action::Touch(_) => Applied::Touched(done),
    })
}

//! Batches of changes.

use std::collections::HashSet;

use larder_core::{Applied, Change, Result, Version};
use larder_kit::{Batch, Limits, is_plain_put, side_by_side};
use sqlx::{Connection, Row as _, SqliteConnection};

use crate::{
    sql::{Call, MAX_ROWS},
    table::SqliteStorage,
};

/// The maximum size of one transaction.
const LIMITS: Limits = Limits { entries: MAX_ROWS, bytes: 8 << 20 };

pub(crate) async fn apply(storage: &SqliteStorage, changes: Vec<Change>) -> Vec<Result<Applied>> {
    let mut batch = Batch::checked(changes, LIMITS, |change| storage.check(&change.action));
    while let Some(round) = batch.next_round() {
        let changes = round.changes();
        let alone = || side_by_side(changes.iter().map(|change| change.clone().apply_to(storage)), 1);
        let outcome = match changes {
            // A single change has a shorter statement.
            [_] => Ok(alone().await),
            _ => match change_together(storage, changes).await {
                // One change may cause the error, by its contents or its size: run each alone.
                Err(error) if !error.is_gone() => Ok(alone().await),
                outcome => outcome,
            },
        };
        batch.done(round, outcome);
    }
    batch.into_results()
}

/// Makes changes of different keys, with one statement per kind of change.
async fn change_together(storage: &SqliteStorage, changes: &[Change]) -> Result<Vec<Result<Applied>>> {
    let versions = Version::unique_many(changes.len());
    let calls = storage.sql.change_many(changes, &versions);
    let mut checkout = storage.writer().await?;
    let connection = checkout.connection()?;
    let outcome = if calls.len() == 1 {
        run(calls, connection).await
    } else {
        run_in_transaction(calls, connection).await
    };
    let changed = checkout.end(outcome)?;
    let result = |(change, version): (&Change, Version)| {
        let changed = is_plain_put(change) || changed.contains(change.key.as_str());
        change.applied(changed, Some(version))
    };
    Ok(changes.iter().zip(versions).map(result).collect())
}

/// The keys that statements returned.
type Keys = Result<HashSet<String>, sqlx::Error>;

async fn run_in_transaction(calls: Vec<Call<'_>>, connection: &mut SqliteConnection) -> Keys {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let keys = run(calls, &mut transaction).await;
    if keys.is_ok() {
        transaction.commit().await?;
    } else {
        // After some errors SQLite has rolled back by itself, so the driver's rollback would fail: start a transaction
        // for it to roll back. If one is still active, this `BEGIN` fails and changes nothing.
        let _ = sqlx::query("BEGIN").execute(&mut *transaction).await;
        let _ = transaction.rollback().await;
    }
    keys
}

async fn run(calls: Vec<Call<'_>>, connection: &mut SqliteConnection) -> Keys {
    let mut keys = HashSet::new();
    for call in calls {
        for row in call.fetch_all(&mut *connection).await? {
            keys.insert(row.try_get_unchecked(0)?);
        }
    }
    Ok(keys)
}

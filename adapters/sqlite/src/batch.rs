//! Batches of changes.

use std::collections::HashSet;

use larder_core::{Action, Applied, Change, Result, Version};
use larder_kit::{Batch, Limits, is_bulk, side_by_side};
use sqlx::{Connection, Row as _, SqliteConnection};

use crate::{
    sql::{MAX_ROWS, Row, Sql, names},
    table::SqliteStorage,
};

/// How much one transaction changes at most.
const LIMITS: Limits = Limits { entries: MAX_ROWS, bytes: 8 << 20 };

pub(crate) async fn apply(storage: &SqliteStorage, changes: Vec<Change>) -> Vec<Result<Applied>> {
    let mut batch = Batch::checked(changes, LIMITS, |change| storage.check(&change.action));
    while let Some(round) = batch.next_round() {
        let changes = round.changes();
        let outcome = match change_together(storage, changes).await {
            // One of them may be to blame, for its contents or its size: it fails alone.
            Err(error) if changes.len() > 1 && !error.is_gone() => {
                let alone = changes.iter().map(|change| change.clone().apply_to(storage));
                Ok(side_by_side(alone, 1).await)
            }
            outcome => outcome,
        };
        batch.done(round, outcome);
    }
    batch.into_results()
}

/// Makes changes of different keys: with one statement if that can make them, and otherwise in one
/// transaction.
async fn change_together(storage: &SqliteStorage, changes: &[Change]) -> Result<Vec<Result<Applied>>> {
    let deletions = changes.iter().filter(|change| change.action == Action::Delete).count();
    let bulk = changes.iter().all(is_bulk) && (deletions == 0 || deletions == changes.len());
    let mut checkout = storage.writer().await?;
    let connection = checkout.connection()?;
    let outcome = if bulk || changes.len() == 1 {
        run(&storage.sql, changes, connection).await
    } else {
        run_in_transaction(&storage.sql, changes, connection).await
    };
    checkout.end(outcome)
}

/// One result per change; an error if the database refuses a statement.
type Results = Result<Vec<Result<Applied>>, sqlx::Error>;

async fn run_in_transaction(sql: &Sql, changes: &[Change], connection: &mut SqliteConnection) -> Results {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let results = run(sql, changes, &mut transaction).await;
    if results.is_ok() {
        transaction.commit().await?;
    } else {
        // After some errors SQLite has rolled back by itself, and the driver could not: it gets a
        // transaction to roll back. If there still is one, this `BEGIN` fails and changes nothing.
        let _ = sqlx::query("BEGIN").execute(&mut *transaction).await;
        let _ = transaction.rollback().await;
    }
    results
}

async fn run(sql: &Sql, changes: &[Change], connection: &mut SqliteConnection) -> Results {
    let versions: Vec<_> = changes.iter().map(|_| Version::unique()).collect();
    let (mut puts, mut deletes): (Vec<Row<'_>>, _) = (Vec::new(), Vec::new());
    for (change, version) in changes.iter().zip(&versions).filter(|(change, _)| is_bulk(change)) {
        match &change.action {
            Action::Put(value, expiry) => puts.push((change.key.as_str(), value, *expiry, version)),
            _ => deletes.push(change.key.as_str()),
        }
    }
    if !puts.is_empty() {
        sql.upsert(&puts).execute(&mut *connection).await?;
    }
    let mut deleted: HashSet<String> = HashSet::new();
    if !deletes.is_empty() {
        let call = sqlx::query(sql.delete_many.clone()).bind(names(deletes));
        for row in call.fetch_all(&mut *connection).await? {
            deleted.insert(row.try_get_unchecked(0)?);
        }
    }
    let mut results = Vec::with_capacity(changes.len());
    for (change, version) in changes.iter().zip(versions) {
        let Change { key, action, condition, .. } = change;
        let changed = match action {
            Action::Put(..) if is_bulk(change) => true,
            Action::Delete if is_bulk(change) => deleted.contains(key.as_str()),
            _ => {
                let call = sql.change(key, action.clone(), condition, Some(&version));
                call.execute(&mut *connection).await?.rows_affected() > 0
            }
        };
        results.push(change.applied(changed, Some(version)));
    }
    Ok(results)
}

//! Many changes in few statements.

use std::collections::HashSet;

use larder_core::{Action, Applied, Change, Error, ErrorKind, Outcome, Result, Storage, Written};
use larder_kit::{Batch, Limits, is_bulk, side_by_side};

use crate::{
    table::{Table, millis},
    value::Value,
};

/// What goes into one statement.
const LIMITS: Limits = Limits { entries: 1_000, bytes: 8 << 20 };
/// How many changes that need a statement each are under way at once.
const CONCURRENT: usize = 4;

/// Changes of a round with their places in it, all for one call to the server.
type Part<'a> = Vec<(usize, &'a Change)>;

/// Applies `changes`; those that need a statement each go to the `storage` of the table.
pub(crate) async fn apply(
    storage: &impl Storage,
    table: &Table,
    changes: Vec<Change>,
) -> Vec<Result<Applied>> {
    // The others are checked as they are written.
    let check = |change: &Change| match &change.action {
        Action::Put(value, _) if is_bulk(change) => table.check(value),
        _ => Ok(()),
    };
    let mut batch = Batch::checked(changes, LIMITS, check);
    while let Some(round) = batch.next_round() {
        let results = send_round(storage, table, round.changes()).await;
        batch.done(round, Ok(results));
    }
    batch.into_results()
}

/// Unconditional puts go in one statement, unconditional deletions in another one, and each other change in
/// one of its own. If the server refuses a part for what it contains, the halves go one after the other.
async fn send_round(storage: &impl Storage, table: &Table, changes: &[Change]) -> Vec<Result<Applied>> {
    // In the order of their keys, as every batch locks them: no deadlock.
    let mut sorted: Part<'_> = changes.iter().enumerate().collect();
    sorted.sort_by_key(|(_, change)| &change.key);
    let (batched, others): (Part<'_>, Part<'_>) = sorted.into_iter().partition(|(_, change)| is_bulk(change));
    let (puts, deletions) =
        batched.into_iter().partition(|(_, change)| matches!(change.action, Action::Put(..)));
    // The next part last.
    let mut parts: Vec<Part<'_>> = vec![others, deletions, puts];
    let mut results = vec![Err(Error::unsupported()); changes.len()];
    let mut gone: Option<Error> = None;
    while let Some(mut part) = parts.pop() {
        let applied = match &gone {
            None => send(storage, table, &part).await,
            Some(error) => Err(error.clone()),
        };
        match applied {
            Err(error) if part.len() > 1 && blames_an_entry(&error) => {
                let rest = part.split_off(part.len() / 2);
                parts.extend([rest, part]);
            }
            applied => {
                let applied = applied.unwrap_or_else(|error| vec![Err(error); part.len()]);
                for ((place, _), result) in part.into_iter().zip(applied) {
                    gone = gone.or_else(|| result.as_ref().err().and_then(Error::unsent));
                    results[place] = result;
                }
            }
        }
    }
    results
}

/// Whether the server refused what a statement contained, so that one entry of several may be to
/// blame. What may have been done is not sent again.
fn blames_an_entry(error: &Error) -> bool {
    use ErrorKind::{InvalidKey, InvalidValue, Other, TooLarge};
    error.outcome() == Outcome::NotApplied
        && matches!(error.kind(), InvalidValue | TooLarge | InvalidKey | Other)
}

async fn send(storage: &impl Storage, table: &Table, part: &Part<'_>) -> Result<Vec<Result<Applied>>> {
    match part.first() {
        None => Ok(Vec::new()),
        // A statement for each.
        Some((_, change)) if !is_bulk(change) => {
            let calls = part.iter().map(|(_, change)| Change::clone(change).apply_to(storage));
            Ok(side_by_side(calls, CONCURRENT).await)
        }
        Some((_, Change { action: Action::Delete, .. })) => delete_many(table, part).await,
        Some(_) => write_many(table, part).await,
    }
}

async fn write_many(table: &Table, part: &Part<'_>) -> Result<Vec<Result<Applied>>> {
    let rows = part.iter().filter_map(|(_, change)| {
        let Action::Put(value, expiry) = &change.action else { return None };
        let (version, column) = table.next_version(value);
        Some((change.key.as_str(), Value(value), column, millis(*expiry), version))
    });
    let (keys, values, columns, ttls, versions): (Vec<_>, Vec<_>, Vec<_>, Vec<_>, Vec<_>) = rows.collect();
    table.driver.change(&table.queries.write_many, &[&keys, &values, &columns, &ttls]).await?;
    Ok(versions.into_iter().map(|version| Ok(Applied::Put(Written::at(version)))).collect())
}

async fn delete_many(table: &Table, part: &Part<'_>) -> Result<Vec<Result<Applied>>> {
    let keys: Vec<&str> = part.iter().map(|(_, change)| change.key.as_str()).collect();
    let rows = table.driver.change(&table.queries.delete_many, &[&keys]).await?.rows;
    let deleted: HashSet<&str> = rows.iter().filter_map(|row| row.try_get::<_, &str>(0).ok()).collect();
    Ok(keys.into_iter().map(|key| Ok(Applied::Deleted(deleted.contains(key)))).collect())
}

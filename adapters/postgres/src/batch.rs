//! Many changes in few statements.

use std::collections::HashSet;

use larder_core::{Action, Applied, Change, Error, ErrorKind, Outcome, Result, Written};
use larder_kit::{Batch, Limits, is_bulk, side_by_side};

use crate::{model::Model, table::TableStorage};

/// The most that goes into one statement.
const LIMITS: Limits = Limits { entries: 1_000, bytes: 8 << 20 };
/// How many changes that need a statement each are under way at once.
const CONCURRENT: usize = 4;

/// Changes of a round with their places in it, all for one call to the server.
type Part<'a> = &'a [(usize, &'a Change)];

/// Applies `changes`.
pub(crate) async fn apply(storage: &TableStorage<impl Model>, changes: Vec<Change>) -> Vec<Result<Applied>> {
    // The others are checked as they are written.
    let check = |change: &Change| match &change.action {
        Action::Put(value, _) if is_bulk(change) => storage.model.check(value),
        _ => Ok(()),
    };
    let mut batch = Batch::checked(changes, LIMITS, check);
    while let Some(round) = batch.next_round() {
        let results = send_round(storage, round.changes()).await;
        batch.done(round, Ok(results));
    }
    batch.into_results()
}

/// Unconditional puts go in one statement, unconditional deletions in another one, and each other change in
/// one of its own. If the server refuses the contents of a part, its halves go one after the other.
async fn send_round(storage: &TableStorage<impl Model>, changes: &[Change]) -> Vec<Result<Applied>> {
    let call = |change: &Change| match change.action {
        _ if !is_bulk(change) => 2,
        Action::Delete => 1,
        _ => 0,
    };
    let mut sorted: Vec<(usize, &Change)> = changes.iter().enumerate().collect();
    // In the order of their keys, as every batch locks them: no deadlock.
    sorted.sort_by_key(|(_, change)| (call(change), &change.key));
    // The next part last.
    let mut parts: Vec<Part<'_>> = sorted.chunk_by(|(_, a), (_, b)| call(a) == call(b)).rev().collect();
    let mut results = vec![Err(Error::unsupported()); changes.len()];
    let mut gone: Option<Error> = None;
    while let Some(part) = parts.pop() {
        let applied = match &gone {
            None => send(storage, part).await,
            Some(error) => Err(error.clone()),
        };
        match applied {
            Err(error) if part.len() > 1 && blames_an_entry(&error) => {
                let (first, rest) = part.split_at(part.len() / 2);
                parts.extend([rest, first]);
            }
            applied => {
                let applied = applied.unwrap_or_else(|error| vec![Err(error); part.len()]);
                for ((place, _), result) in part.iter().zip(applied) {
                    gone = gone.or_else(|| result.as_ref().err().and_then(Error::unsent));
                    results[*place] = result;
                }
            }
        }
    }
    results
}

/// Whether the server refused the contents of a statement, for which one entry of several may be to blame.
/// A statement that may have been carried out is not sent again.
fn blames_an_entry(error: &Error) -> bool {
    use ErrorKind::{InvalidKey, InvalidValue, Other, TooLarge};
    error.outcome() == Outcome::NotApplied
        && matches!(error.kind(), InvalidValue | TooLarge | InvalidKey | Other)
}

async fn send(storage: &TableStorage<impl Model>, part: Part<'_>) -> Result<Vec<Result<Applied>>> {
    let (_, first) = part[0];
    if !is_bulk(first) {
        let calls = part.iter().map(|(_, change)| Change::clone(change).apply_to(storage));
        return Ok(side_by_side(calls, CONCURRENT).await);
    }
    if first.action == Action::Delete {
        let keys: Vec<&str> = part.iter().map(|(_, change)| change.key.as_str()).collect();
        let rows = storage.driver().change(&storage.sql.delete_many, &[&keys]).await?;
        let deleted: HashSet<&str> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
        return Ok(keys.into_iter().map(|key| Ok(Applied::Deleted(deleted.contains(key)))).collect());
    }
    let puts = part.iter().filter_map(|(_, change)| match &change.action {
        Action::Put(value, expiry) => Some((&change.key, value, *expiry)),
        _ => None,
    });
    let versions = storage.put_many(&puts.collect::<Vec<_>>()).await?;
    Ok(versions.into_iter().map(|version| Ok(Applied::Put(Written::at(version)))).collect())
}

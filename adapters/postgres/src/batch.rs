//! Many changes in few statements.

use std::collections::HashSet;

use larder_core::{Action, Applied, Change, Error, ErrorKind, Outcome, Result, Written};
use larder_kit::{Batch, Limits, is_bulk, side_by_side};

use crate::rows::{Put, Rows};

/// What goes into one statement.
const LIMITS: Limits = Limits { entries: 1_000, bytes: 8 << 20 };
/// How many changes that need a statement each are under way at once.
const CONCURRENT: usize = 4;

/// Changes of a round with their places in it, all for one call to the server.
type Part<'a> = Vec<(usize, &'a Change)>;

/// Applies `changes`.
pub(crate) async fn apply(storage: &impl Rows, changes: Vec<Change>) -> Vec<Result<Applied>> {
    // The others are checked as they are written.
    let check = |change: &Change| match &change.action {
        Action::Put(value, _) if is_bulk(change) => storage.check(value),
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
/// one of its own. If the server refuses a part for what it contains, the halves go one after the other.
async fn send_round(storage: &impl Rows, changes: &[Change]) -> Vec<Result<Applied>> {
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
            None => send(storage, &part).await,
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

async fn send(storage: &impl Rows, part: &Part<'_>) -> Result<Vec<Result<Applied>>> {
    let Some((_, first)) = part.first() else { return Ok(Vec::new()) };
    if !is_bulk(first) {
        let calls = part.iter().map(|(_, change)| Change::clone(change).apply_to(storage));
        return Ok(side_by_side(calls, CONCURRENT).await);
    }
    if first.action == Action::Delete {
        let keys: Vec<&str> = part.iter().map(|(_, change)| change.key.as_str()).collect();
        let rows = storage.driver().change(storage.delete_many(), &[&keys]).await?.rows;
        let deleted: HashSet<&str> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
        return Ok(keys.into_iter().map(|key| Ok(Applied::Deleted(deleted.contains(key)))).collect());
    }
    let puts = part.iter().filter_map(|(_, change)| match &change.action {
        Action::Put(value, expiry) => Some((&change.key, value, *expiry)),
        _ => None,
    });
    let versions = storage.put_many(&puts.collect::<Vec<Put<'_>>>()).await?;
    Ok(versions.into_iter().map(|version| Ok(Applied::Put(Written::at(version)))).collect())
}

//! Batches of changes.

use larder_core::{Action, Applied, Change, Error, ErrorKind, Outcome, Result};
use larder_kit::{Batch, Limits};

use crate::{model::Model, table::TableStorage};

/// The maximum size of one statement.
const LIMITS: Limits = Limits { entries: 1_000, bytes: 8 << 20 };

/// Changes for one statement, with their positions in the round.
type Part<'a> = &'a [(usize, &'a Change)];

/// Applies `changes`.
pub(crate) async fn apply(storage: &TableStorage<impl Model>, changes: Vec<Change>) -> Vec<Result<Applied>> {
    let check = |change: &Change| {
        storage.expected(&change.condition)?;
        match &change.action {
            Action::Put(value, _) => storage.model.check(value),
            Action::Delete | Action::Touch(_) => Ok(()),
        }
    };
    let mut batch = Batch::checked(changes, LIMITS, check);
    while let Some(round) = batch.next_round() {
        let results = send_round(storage, round.changes()).await;
        batch.done(round, Ok(results));
    }
    batch.into_results()
}

/// Sends all changes in one statement. If the server rejects a part because of its contents, sends each half alone.
async fn send_round(storage: &TableStorage<impl Model>, changes: &[Change]) -> Vec<Result<Applied>> {
    let mut sorted: Vec<(usize, &Change)> = changes.iter().enumerate().collect();
    // In the order of their keys, in which every batch locks the existing rows.
    sorted.sort_by_key(|(_, change)| &change.key);
    // The next part is the last.
    let mut parts: Vec<Part<'_>> = vec![&sorted];
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
                gone = gone.or_else(|| applied.as_ref().err().and_then(Error::unsent));
                let applied = applied.unwrap_or_else(|error| vec![Err(error); part.len()]);
                for ((place, _), result) in part.iter().zip(applied) {
                    results[*place] = result;
                }
            }
        }
    }
    results
}

/// Returns whether the server rejected the contents of a statement, perhaps because of one entry of several. A
/// statement that may have been executed is not sent again.
fn blames_an_entry(error: &Error) -> bool {
    use ErrorKind::{InvalidKey, InvalidValue, Other, TooLarge};
    error.outcome() == Outcome::NotApplied
        && matches!(error.kind(), InvalidValue | TooLarge | InvalidKey | Other)
}

async fn send(storage: &TableStorage<impl Model>, part: Part<'_>) -> Result<Vec<Result<Applied>>> {
    match part {
        [(_, change)] => storage.change(change).await.map(|applied| vec![Ok(applied)]),
        _ => storage.change_many(part.iter().map(|(_, change)| *change)).await,
    }
}

//! Batches of changes.

use std::collections::HashMap;

use larder_core::{Action, Applied, Change, Outcome, Result, Version};
use larder_kit::{Batch, Limits, is_plain_put, side_by_side};
use sqlx::Row as _;

use crate::{
    driver::Session,
    error::from_driver,
    sql::{Call, MAX_ROWS, Row, Sql, repeated, token, ttl},
    storage::MysqlStorage,
};

/// The maximum size of the keys and values in one statement.
const MAX_BYTES: u64 = 8 << 20;

/// The number of times that a batch is tried before its changes are made alone.
const ATTEMPTS: u32 = 4;

/// Starts a transaction. With this isolation level, rows that do not exist are not locked: otherwise batches of new keys
/// would deadlock.
const BEGIN: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION";

/// Applies `changes`.
pub(crate) async fn apply(storage: &MysqlStorage, changes: Vec<Change>) -> Vec<Result<Applied>> {
    // Half of a message, because the server also counts the keys and the lengths.
    let bytes = storage.info.max_value.map_or(MAX_BYTES, |max| (max / 2).min(MAX_BYTES));
    let limits = Limits { entries: MAX_ROWS, bytes: usize::try_from(bytes).unwrap_or(usize::MAX) };
    let mut batch = Batch::checked(changes, limits, |change| storage.check(&change.action));
    while let Some(round) = batch.next_round() {
        let changes = round.changes();
        let alone = || side_by_side(changes.iter().map(|change| storage.change(change)), 1);
        let outcome = match changes {
            // A single change needs only one statement.
            [_] => Ok(alone().await),
            _ => match together(storage, changes).await {
                Ok(Some(results)) => Ok(results),
                Ok(None) => Ok(alone().await),
                // One change may cause the error, by its contents: make each alone.
                Err(error) if error.outcome() == Outcome::NotApplied && !error.is_gone() => Ok(alone().await),
                Err(error) => Err(error),
            },
        };
        batch.done(round, outcome);
    }
    batch.into_results()
}

/// A change of a batch, with its place in the batch and the version that it writes.
struct Part {
    place: usize,
    change: Change,
    version: Version,
}

/// Makes changes of different keys with one commit. Returns `None`, and changes nothing, if other programs insert the
/// same keys repeatedly.
async fn together(storage: &MysqlStorage, changes: &[Change]) -> Result<Option<Vec<Result<Applied>>>> {
    let versions = Version::unique_many(changes.len());
    let parts = changes.iter().cloned().zip(versions).enumerate();
    let mut parts: Vec<_> = parts.map(|(place, (change, version))| Part { place, change, version }).collect();
    // Every batch locks the rows in this order, so batches do not deadlock.
    parts.sort_unstable_by(|one, other| one.change.key.cmp(&other.change.key));
    let plain = changes.iter().all(is_plain_put);
    let mut attempt = 0;
    let done = loop {
        let mut session = storage.driver().session(true).await?;
        let done = match plain {
            true => put(&mut session, &storage.sql, &parts).await.map(Some),
            false => change(&mut session, &storage.sql, &parts).await,
        };
        attempt += 1;
        if !session.should_run_again(attempt) {
            break done?;
        }
    };
    let Some(mut results) = done else { return Ok(None) };
    results.sort_unstable_by_key(|(place, _)| *place);
    Ok(Some(results.into_iter().map(|(_, result)| result).collect()))
}

/// Results with their places in the batch.
type Results = Vec<(usize, Result<Applied>)>;

/// Makes puts without conditions, with one statement.
async fn put(session: &mut Session, sql: &Sql, parts: &[Part]) -> Result<Results> {
    let rows: Vec<_> = parts.iter().filter_map(|part| row(part, None, None)).collect();
    session.commit(sql.put_many(&rows)).await?;
    Ok(parts.iter().map(|part| (part.place, part.change.applied(true, Some(part.version.clone())))).collect())
}

/// Makes changes of any kind in one transaction. A change whose condition does not hold fails alone.
async fn change(session: &mut Session, sql: &Sql, parts: &[Part]) -> Result<Option<Results>> {
    for _ in 0..ATTEMPTS {
        session.send(Call::raw(BEGIN)).await?;
        let outcome = in_transaction(session, sql, parts).await;
        if let Ok(Some(_)) = outcome {
            session.commit(Call::raw("COMMIT")).await?;
            return outcome;
        }
        session.roll_back().await?;
        outcome?;
    }
    Ok(None)
}

/// Returns the results of the changes, or `None` if another program inserted one of the keys in the meantime.
async fn in_transaction(session: &mut Session, sql: &Sql, parts: &[Part]) -> Result<Option<Results>> {
    let locked = session.send(sql.lock_many(parts.iter().map(|part| &part.change.key))).await?.rows;
    // The version and the time of expiry of each row, also of expired ones.
    let mut found: HashMap<Vec<u8>, (i64, Option<i64>)> = HashMap::with_capacity(locked.len());
    let mut now = None;
    for row in &locked {
        let column = |error| from_driver(&error);
        let version = row.try_get_unchecked(1).map_err(column)?;
        let deadline = row.try_get_unchecked(2).map_err(column)?;
        found.insert(row.try_get_unchecked(0).map_err(column)?, (version, deadline));
        now = Some(row.try_get_unchecked(3).map_err(column)?);
    }
    let (mut results, mut rows, mut deleted) = (Vec::with_capacity(parts.len()), Vec::new(), Vec::new());
    // The number of affected rows that the server counts if no other program has inserted one of the keys.
    let mut expected = 0;
    for part in parts {
        let Part { place, change, version } = part;
        let stored = found.get(change.key.as_bytes());
        let live = stored.filter(|(_, deadline)| deadline.is_none_or(|deadline| Some(deadline) > now));
        let current = live.map(|(token, _)| Version::from_token(token.cast_unsigned()));
        if let Err(conflict) = change.condition.check(current.as_ref()) {
            results.push((*place, Err(conflict)));
            continue;
        }
        match (&change.action, live) {
            (Action::Put(..), _) => {
                rows.extend(row(part, None, now));
                expected += if stored.is_some() { 2 } else { 1 };
            }
            (Action::Delete, Some(_)) => deleted.push(&change.key),
            // A row that does not change would be counted differently.
            (Action::Touch(expiry), Some((token, deadline)))
                if expiry.deadline(now.unwrap_or_default()) != *deadline =>
            {
                rows.extend(row(part, Some(*token), now));
                expected += 2;
            }
            _ => {}
        }
        results.push((*place, change.applied(live.is_some() || is_put(change), Some(version.clone()))));
    }
    if !rows.is_empty() {
        expected += repeated(rows.len());
        let written = session.send(sql.put_many(&rows)).await?.done.rows_affected();
        if found.len() < parts.len() && u64::try_from(expected) != Ok(written) {
            return Ok(None);
        }
    }
    if !deleted.is_empty() {
        session.send(sql.delete_many(&deleted)).await?;
    }
    Ok(Some(results))
}

fn is_put(change: &Change) -> bool {
    matches!(change.action, Action::Put(..))
}

/// Returns the row that a put writes, or that a touch of the row with this version changes.
fn row(part: &Part, touched: Option<i64>, now: Option<i64>) -> Option<Row<'_>> {
    let (value, version, expiry) = match &part.change.action {
        Action::Put(value, expiry) => (Some(&value[..]), token(&part.version), *expiry),
        Action::Touch(expiry) => (None, touched, *expiry),
        Action::Delete => return None,
    };
    Some(Row { key: part.change.key.as_bytes(), value, version, ttl: ttl(expiry), now })
}

//! Batches of changes.

use std::{collections::HashMap, sync::Arc};

use larder_core::{Action, Applied, Change, Outcome, Result, Version};
use larder_kit::{Batch, Limits, is_plain_put, side_by_side};

use crate::{
    driver::{Driver, Session},
    sql::{Call, MAX_ROWS, Row, Sql, repeated, token, ttl},
    storage::{MysqlStorage, column},
};

/// The maximum size of the keys and values in one statement.
const MAX_BYTES: u64 = 8 << 20;

/// The number of times that a batch is tried before its changes are made alone.
const ATTEMPTS: u32 = 4;

/// Starts a transaction. With this isolation level, rows that do not exist are not locked: otherwise batches of new keys
/// would deadlock.
const BEGIN: &str = "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; START TRANSACTION";

/// One result per change.
type Results = Vec<Result<Applied>>;

/// Applies `changes`.
pub(crate) async fn apply(storage: &MysqlStorage, changes: Vec<Change>) -> Vec<Result<Applied>> {
    // Half of a message, because the server also counts the keys and the lengths.
    let bytes = storage.info.max_value.map_or(MAX_BYTES, |max| (max / 2).min(MAX_BYTES));
    let limits = Limits { entries: MAX_ROWS, bytes: usize::try_from(bytes).unwrap_or(usize::MAX) };
    let mut batch = Batch::checked(changes, limits, |change| storage.check(&change.action));
    while let Some(round) = batch.next_round() {
        let changes = round.changes();
        let versions = Version::unique_many(changes.len());
        let group = Group { sql: &storage.sql, changes, versions };
        let alone = || side_by_side(changes.iter().map(|change| storage.change(change)), 1);
        let outcome = match changes {
            // A single change needs only one statement.
            [_] => Ok(alone().await),
            _ => match group.commit(storage.driver()).await {
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

/// Changes of different keys, to make with one commit.
struct Group<'a> {
    sql: &'a Sql,
    changes: &'a [Change],
    versions: Vec<Version>,
}

impl Group<'_> {
    /// Makes the changes. Returns `None`, and changes nothing, if other programs insert the same keys repeatedly.
    async fn commit(&self, driver: &Arc<Driver>) -> Result<Option<Results>> {
        let (deadline, mut attempt) = (driver.deadline(), 0);
        loop {
            let mut session = driver.session(true, deadline).await?;
            let done = match self.changes.iter().all(is_plain_put) {
                true => self.put(&mut session).await.map(Some),
                false => self.change(&mut session).await,
            };
            attempt += 1;
            if !session.should_run_again(attempt) {
                return done;
            }
        }
    }

    /// Returns each change with the version that it writes.
    fn parts(&self) -> impl Iterator<Item = (&Change, &Version)> {
        self.changes.iter().zip(&self.versions)
    }

    /// Makes puts without conditions, with one statement.
    async fn put(&self, session: &mut Session) -> Result<Results> {
        let rows = self.parts().filter_map(|(change, version)| row(change, token(version), None)).collect();
        session.commit(self.sql.put(rows)).await?;
        Ok(self.parts().map(|(change, version)| change.applied(true, Some(version.clone()))).collect())
    }

    /// Makes changes of any kind in one transaction. A change whose condition does not hold fails alone.
    async fn change(&self, session: &mut Session) -> Result<Option<Results>> {
        for _ in 0..ATTEMPTS {
            session.send(Call::raw(BEGIN)).await?;
            let outcome = self.in_transaction(session).await;
            if let Ok(Some(_)) = outcome {
                session.commit(Call::raw("COMMIT AND NO CHAIN NO RELEASE")).await?;
                return outcome;
            }
            session.roll_back().await?;
            outcome?;
        }
        Ok(None)
    }

    /// Returns the results of the changes, or `None` if another program inserted one of the keys in the meantime.
    async fn in_transaction(&self, session: &mut Session) -> Result<Option<Results>> {
        let locked = session.send(self.sql.lock(self.changes)).await?.rows;
        // The version and the time of expiry of each row, also of expired ones.
        let mut found: HashMap<Vec<u8>, (i64, Option<i64>)> = HashMap::with_capacity(locked.len());
        let mut now = None;
        for row in &locked {
            found.insert(column(row, 0)?, (column(row, 1)?, column(row, 2)?));
            now = Some(column(row, 3)?);
        }
        let (mut results, mut rows, mut deleted) =
            (Vec::with_capacity(self.changes.len()), Vec::new(), Vec::new());
        // The number of affected rows that the server counts if no other program has inserted one of the keys.
        let mut expected = 0;
        for (change, version) in self.parts() {
            let stored = found.get(change.key.as_bytes());
            let live = stored.filter(|(_, deadline)| deadline.is_none_or(|deadline| Some(deadline) > now));
            let current = live.map(|(token, _)| Version::from_token(token.cast_unsigned()));
            if let Err(conflict) = change.condition.check(current.as_ref()) {
                results.push(Err(conflict));
                continue;
            }
            match (&change.action, live) {
                (Action::Put(..), _) => {
                    rows.extend(row(change, token(version), now));
                    expected += if stored.is_some() { 2 } else { 1 };
                }
                (Action::Delete, Some(_)) => deleted.push(change.key.as_bytes()),
                // A row that does not change would be counted differently.
                (Action::Touch(expiry), Some((token, deadline)))
                    if expiry.deadline(now.unwrap_or_default()) != *deadline =>
                {
                    rows.extend(row(change, Some(*token), now));
                    expected += 2;
                }
                _ => {}
            }
            let changed = live.is_some() || matches!(change.action, Action::Put(..));
            results.push(change.applied(changed, Some(version.clone())));
        }
        if !rows.is_empty() {
            expected += repeated(rows.len());
            let written = session.send(self.sql.put(rows)).await?.done.rows_affected();
            if found.len() < self.changes.len() && u64::try_from(expected) != Ok(written) {
                return Ok(None);
            }
        }
        if !deleted.is_empty() {
            session.send(self.sql.remove(deleted.into_iter(), true)).await?;
        }
        Ok(Some(results))
    }
}

/// Returns the row that a put writes with this version, or that a touch of the row with this version changes.
fn row(change: &Change, version: Option<i64>, now: Option<i64>) -> Option<Row<'_>> {
    let (value, expiry) = match &change.action {
        Action::Put(value, expiry) => (&value[..], *expiry),
        Action::Touch(expiry) => (&[][..], *expiry),
        Action::Delete => return None,
    };
    Some(Row { key: change.key.as_bytes(), value, version, now, ttl: ttl(expiry) })
}

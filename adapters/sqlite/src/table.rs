//! The table: what runs the statements.

use std::{
    collections::{HashMap, HashSet},
    slice,
};

use larder_core::{
    Action, Applied, Bytes, Change, Condition, Error, ErrorKind, Expiry, Key, ReadOptions, Record, Result,
    Version, Written, unique,
};
use larder_kit::{Batch, Limits, is_bulk};
use sqlx::{Connection, Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    connections::{Checkout, Connections},
    error::from_driver,
    sql::{Call, Row, Sql},
};

/// How many rows one statement removes at most, so that others get to write in between.
const MAX_REMOVED: i64 = 1_000;

pub(crate) struct Table {
    pub(crate) connections: Connections,
    pub(crate) sql: Sql,
}

impl Table {
    /// Reads one record.
    pub(crate) async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let record = match options.touch {
            None => {
                self.fetch(self.sql.read(key, options.value)).await?.first().map(|row| record(row, options))
            }
            Some(_) => self.read_together(slice::from_ref(key), options).await?.remove(key.as_str()),
        };
        record.transpose().map_err(|error| error.with_key(key))
    }

    /// Reads the records that are there: together, or one by one if a page of the file is damaged.
    pub(crate) async fn read_many(
        &self,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<HashMap<String, Result<Record>>> {
        match self.read_together(keys, options).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {}
            outcome => return outcome,
        }
        let mut found = HashMap::new();
        for key in keys {
            match self.read(key, options).await {
                Err(error) if error.is_gone() => return Err(error),
                record => found.extend(record.transpose().map(|record| (key.to_string(), record))),
            }
        }
        Ok(found)
    }

    /// Reads several records with one statement.
    async fn read_together(
        &self,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<HashMap<String, Result<Record>>> {
        let keys = names(keys.iter().map(Key::as_str));
        let call = self.sql.read_many(&keys, options.value, options.touch);
        let rows = match options.touch {
            None => self.fetch(call).await?,
            // It commits after the last row, so all of them are fetched.
            Some(_) => fetch(self.connections.writer().await?, call).await?,
        };
        rows.iter()
            .map(|row| Ok((row.try_get_unchecked(3).map_err(from_driver)?, record(row, options))))
            .collect()
    }

    /// Makes one change; returns whether there is an entry to change, or was.
    pub(crate) async fn change(
        &self,
        key: &Key,
        action: Action,
        condition: &Condition,
        version: i64,
    ) -> Result<bool> {
        let call = self.sql.change(key, action, condition, version).ok_or_else(Error::conflict)?;
        held(self.execute(call).await? > 0, condition)
    }

    /// Makes changes of different keys, together if all can be made, and otherwise one by one.
    pub(crate) async fn apply(&self, changes: &[Change]) -> Result<Vec<Result<Applied>>> {
        match self.apply_together(changes).await {
            Err(error) if changes.len() > 1 && blames_a_change(error.kind()) => {}
            outcome => return outcome,
        }
        let mut batch = Batch::new(changes.to_vec(), Limits { entries: 1, bytes: 0 });
        while let Some(round) = batch.next_round() {
            let outcome = self.apply_together(round.changes()).await;
            batch.done(round, outcome);
        }
        Ok(batch.into_results())
    }

    /// With one statement if that can make them, and otherwise in one transaction.
    async fn apply_together(&self, changes: &[Change]) -> Result<Vec<Result<Applied>>> {
        let is_put = |change: &Change| matches!(change.action, Action::Put(..));
        let alike =
            |pair: &[Change]| is_bulk(&pair[0]) && is_bulk(&pair[1]) && is_put(&pair[0]) == is_put(&pair[1]);
        let one = changes.windows(2).all(alike);
        let mut checkout = self.connections.writer().await?;
        let connection = checkout.connection()?;
        let outcome = async {
            if one {
                return run(&self.sql, changes, connection).await;
            }
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let outcome = run(&self.sql, changes, &mut transaction).await;
            if outcome.is_ok() {
                transaction.commit().await?;
            } else {
                // After some errors SQLite has rolled back by itself, and the driver could not: it gets a
                // transaction to roll back. If there still is one, this `BEGIN` fails and changes nothing.
                let _ = sqlx::query("BEGIN").execute(&mut *transaction).await;
                let _ = transaction.rollback().await;
            }
            outcome
        };
        let outcome = outcome.await;
        checkout.end(outcome)
    }

    /// Removes rows with a statement that takes at most so many at a time, until there are no more.
    pub(crate) async fn purge(&self) -> Result<u64> {
        let mut removed = 0;
        loop {
            let now = self.execute(sqlx::query(self.sql.purge.clone()).bind(MAX_REMOVED)).await?;
            removed += now;
            if now < MAX_REMOVED.unsigned_abs() {
                return Ok(removed);
            }
        }
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        self.fetch(sqlx::query(self.sql.ping.clone())).await.map(drop)
    }

    /// Runs a statement that writes; returns how many rows it changed.
    async fn execute(&self, call: Call<'_>) -> Result<u64> {
        let mut checkout = self.connections.writer().await?;
        let outcome = call.execute(checkout.connection()?).await;
        checkout.end(outcome).map(|done| done.rows_affected())
    }

    /// Runs a statement that reads.
    pub(crate) async fn fetch(&self, call: Call<'_>) -> Result<Vec<SqliteRow>> {
        fetch(self.connections.reader().await?, call).await
    }
}

async fn fetch(mut checkout: Checkout<'_>, call: Call<'_>) -> Result<Vec<SqliteRow>> {
    let outcome = call.fetch_all(checkout.connection()?).await;
    checkout.end(outcome)
}

/// Whether one change of several may be to blame: for its contents, for its size where there is little room,
/// or for the page that its row is in.
fn blames_a_change(kind: ErrorKind) -> bool {
    use ErrorKind::{Corrupt, InvalidValue, Other, StorageFull, TooLarge};
    matches!(kind, InvalidValue | TooLarge | StorageFull | Corrupt | Other)
}

/// Makes changes of different keys; an error if the database refuses a statement.
async fn run(
    sql: &Sql,
    changes: &[Change],
    connection: &mut SqliteConnection,
) -> Result<Vec<Result<Applied>>, sqlx::Error> {
    let versions: Vec<_> = changes.iter().map(|_| draw()).collect();
    let (mut puts, mut deletes): (Vec<Row<'_>>, _) = (Vec::new(), Vec::new());
    for (change, &version) in changes.iter().zip(&versions).filter(|(change, _)| is_bulk(change)) {
        match &change.action {
            Action::Put(value, expiry) => {
                puts.push((change.key.as_str(), value, *expiry, version));
            }
            _ => deletes.push(change.key.as_str()),
        }
    }
    if !puts.is_empty() {
        sql.upsert(&puts).execute(&mut *connection).await?;
    }
    let mut deleted: HashSet<String> = HashSet::new();
    if !deletes.is_empty() {
        for row in sql.delete_many(&names(deletes)).fetch_all(&mut *connection).await? {
            deleted.insert(row.try_get_unchecked(0)?);
        }
    }
    let mut results = Vec::with_capacity(changes.len());
    for (change, version) in changes.iter().zip(versions) {
        let Change { key, action, condition, .. } = change;
        let changed = match action {
            Action::Put(..) if is_bulk(change) => true,
            Action::Delete if is_bulk(change) => deleted.contains(key.as_str()),
            _ => match sql.change(key, action.clone(), condition, version) {
                Some(call) => call.execute(&mut *connection).await?.rows_affected() > 0,
                None => false,
            },
        };
        results.push(held(changed, condition).map(|changed| match action {
            Action::Put(..) => Applied::Put(written(version)),
            Action::Delete => Applied::Deleted(changed),
            Action::Touch(_) => Applied::Touched(changed),
        }));
    }
    Ok(results)
}

/// Whether the row was changed; a conflict if it was not, on a condition.
fn held(changed: bool, condition: &Condition) -> Result<bool> {
    if changed || *condition == Condition::Any { Ok(changed) } else { Err(Error::conflict()) }
}

/// A version for a row.
pub(crate) fn draw() -> i64 {
    unique::id64().cast_signed()
}

pub(crate) fn written(version: i64) -> Written {
    Written::at(Version::from_token(version.cast_unsigned()))
}

/// A JSON array of the keys.
fn names<'a>(keys: impl IntoIterator<Item = &'a str>) -> String {
    serde_json::Value::from_iter(keys).to_string()
}

/// The record of a row that begins with the value, the version and the time left.
pub(crate) fn record(row: &SqliteRow, options: &ReadOptions) -> Result<Record> {
    let mut record = Record::new(Bytes::new());
    if options.value {
        // Unchecked: text and blobs are both bytes, and a foreign writer may have stored either.
        let value: Option<Vec<u8>> = row.try_get_unchecked(0).map_err(from_driver)?;
        // Checked: text read as a number is 0, and a comparison in SQL would never find it equal.
        let version: Option<i64> = row.try_get(1).map_err(from_driver)?;
        let (Some(value), Some(version)) = (value, version) else {
            let message = "a row has no value or no version, so this adapter has not written it";
            return Err(Error::new(ErrorKind::Corrupt, message));
        };
        record = Record::at(value.into(), Version::from_token(version.cast_unsigned()));
    }
    if options.ttl {
        let left: Option<i64> = row.try_get(2).map_err(from_driver)?;
        // The row was live when it was read, so there was time left.
        record = record.expires(Expiry::until(left.map(|millis| millis.max(1)), 0).unwrap_or_default());
    }
    Ok(record)
}

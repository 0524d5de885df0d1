//! The table: what runs the statements.

use std::{
    collections::{HashMap, HashSet},
    mem,
};

use larder_core::{
    Action, Applied, Bytes, Change, Condition, Error, ErrorKind, Expiry, Info, Key, ReadOptions, Record,
    Result, Storage as _, Version, Written,
};
use larder_kit::{Sweeper, is_bulk, side_by_side};
use sqlx::{Connection, Row as _, SqliteConnection, sqlite::SqliteRow};

use crate::{
    connections::{Checkout, Connections},
    error::from_driver,
    sql::{Call, Row, Sql, ttl},
};

/// A storage in an SQLite database.
pub struct SqliteStorage {
    pub(crate) connections: Connections,
    pub(crate) sql: Sql,
    pub(crate) info: Info,
    pub(crate) sweeper: Sweeper,
}

impl SqliteStorage {
    /// Runs a statement that reads.
    pub(crate) async fn fetch(&self, call: Call<'_>) -> Result<Vec<SqliteRow>> {
        fetch(self.connections.reader().await?, call).await
    }

    /// Runs a statement that writes; returns how many rows it changed.
    pub(crate) async fn execute(&self, call: Call<'_>) -> Result<u64> {
        let mut checkout = self.writer().await?;
        let outcome = call.execute(checkout.connection()?).await;
        checkout.end(outcome).map(|done| done.rows_affected())
    }

    /// The connection to write with. Starts the sweeper again if its runtime has gone.
    async fn writer(&self) -> Result<Checkout<'_>> {
        self.sweeper.ensure_running();
        self.connections.writer().await
    }

    /// Reads the records that are there: together, or one by one if a page of the file is damaged.
    pub(crate) async fn read_together(
        &self,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<HashMap<String, Result<Record>>> {
        match self.fetch_many(keys, options).await {
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                let alone = side_by_side(keys.iter().map(|key| self.read(key, options)), 1).await;
                let found = keys.iter().zip(alone);
                Ok(found.filter_map(|(key, record)| Some((key.to_string(), record.transpose()?))).collect())
            }
            rows => {
                let key = |row: &SqliteRow| row.try_get_unchecked(3).map_err(from_driver);
                rows?.iter().map(|row| Ok((key(row)?, record(row, options)))).collect()
            }
        }
    }

    /// Reads the rows under several keys with one statement. The key is their last column.
    pub(crate) async fn fetch_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<SqliteRow>> {
        let keys = names(keys.iter().map(Key::as_str));
        let sql = if options.touch.is_some() { &self.sql.read_and_touch_many } else { &self.sql.read_many };
        let call = sqlx::query(sql.clone()).bind(keys).bind(options.value);
        match options.touch {
            None => self.fetch(call).await,
            // It commits after the last row, so all of them are fetched.
            Some(expiry) => fetch(self.writer().await?, call.bind(ttl(expiry))).await,
        }
    }

    /// Makes one change; returns whether there is an entry to change, or was.
    pub(crate) async fn change(
        &self,
        key: &Key,
        action: Action,
        condition: &Condition,
        version: Option<&Version>,
    ) -> Result<bool> {
        held(self.execute(self.sql.change(key, action, condition, version)).await? > 0, condition)
    }

    /// Makes changes of different keys: with one statement if that can make them, and otherwise in one
    /// transaction.
    pub(crate) async fn change_together(&self, changes: &[Change]) -> Result<Vec<Result<Applied>>> {
        let bulk = |change: &Change| is_bulk(change).then_some(mem::discriminant(&change.action));
        let one = changes.windows(2).all(|pair| bulk(&pair[0]).is_some() && bulk(&pair[0]) == bulk(&pair[1]));
        let mut checkout = self.writer().await?;
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
}

async fn fetch(mut checkout: Checkout<'_>, call: Call<'_>) -> Result<Vec<SqliteRow>> {
    let outcome = call.fetch_all(checkout.connection()?).await;
    checkout.end(outcome)
}

/// Makes changes of different keys; an error if the database refuses a statement.
async fn run(
    sql: &Sql,
    changes: &[Change],
    connection: &mut SqliteConnection,
) -> Result<Vec<Result<Applied>>, sqlx::Error> {
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
        results.push(held(changed, condition).map(|changed| match action {
            Action::Put(..) => Applied::Put(Written::at(version)),
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

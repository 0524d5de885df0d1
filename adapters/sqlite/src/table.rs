//! Runs the statements.

use std::{collections::HashMap, sync::atomic::AtomicI64};

use larder_core::{
    Action, Bytes, Condition, Error, ErrorKind, Expiry, Info, Key, Location, ReadOptions, Record, Result,
    Values, Version,
};
use larder_kit::{Sweeper, check_json};
use sqlx::{Row as _, sqlite::SqliteRow};

use crate::{
    error::from_driver,
    pool::{Checkout, Connections},
    sql::{Call, Sql, names, ttl},
};

/// A storage in an SQLite database.
pub(crate) struct SqliteStorage {
    pub(crate) connections: Connections,
    pub(crate) sql: Sql,
    pub(crate) info: Info,
    pub(crate) location: Option<Location>,
    pub(crate) sweeper: Sweeper,
    /// The row id at which the next sweep begins.
    pub(crate) swept: AtomicI64,
}

impl SqliteStorage {
    /// Rejects a value that the column cannot hold.
    pub(crate) fn check(&self, action: &Action) -> Result<()> {
        match action {
            Action::Put(value, _) if self.info.values == Values::JsonText => check_json(value),
            _ => Ok(()),
        }
    }

    /// Runs a statement that reads.
    pub(crate) async fn fetch(&self, call: Call<'_>) -> Result<Vec<SqliteRow>> {
        self.connections.reader().await?.fetch(call).await
    }

    /// Runs a statement that reads at most one row. The connection's thread sends the row and the end together, so it
    /// wakes the caller once instead of twice.
    pub(crate) async fn fetch_one(&self, call: Call<'_>) -> Result<Option<SqliteRow>> {
        self.connections.reader().await?.fetch_one(call).await
    }

    /// Runs a statement that writes. Returns the number of changed rows.
    pub(crate) async fn execute(&self, call: Call<'_>) -> Result<u64> {
        let mut checkout = self.writer().await?;
        let outcome = call.execute(checkout.connection()?).await;
        checkout.end(outcome).map(|done| done.rows_affected())
    }

    /// Waits for the connection for writing. Starts the sweeper again if its runtime has ended.
    pub(crate) async fn writer(&self) -> Result<Checkout> {
        self.sweeper.ensure_running();
        self.connections.writer().await
    }

    /// Reads the rows of several keys with one statement. The key is the last column.
    pub(crate) async fn fetch_many(&self, keys: &[Key], options: &ReadOptions) -> Result<Vec<SqliteRow>> {
        let keys = names(keys.iter().map(Key::as_str));
        let sql = if options.touch.is_some() { &self.sql.read_and_touch_many } else { &self.sql.read_many };
        let call = sqlx::query(sql.clone()).bind(keys).bind(options.value).bind(options.ttl);
        match options.touch {
            None => self.fetch(call).await,
            // Fetches all rows, because the statement commits after the last one.
            Some(expiry) => self.writer().await?.fetch(call.bind(ttl(expiry))).await,
        }
    }

    /// Reads the records that exist. Returns them by key.
    pub(crate) async fn read_together(
        &self,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<HashMap<String, Result<Record>>> {
        let rows = self.fetch_many(keys, options).await?;
        let key = |row: &SqliteRow| row.try_get_unchecked(3).map_err(from_driver);
        rows.iter().map(|row| Ok((key(row)?, record(row, options)))).collect()
    }

    /// Makes one change. Returns whether the entry exists or existed.
    pub(crate) async fn change(
        &self,
        key: &Key,
        action: Action,
        condition: &Condition,
        version: Option<&Version>,
    ) -> Result<bool> {
        condition.met(self.execute(self.sql.change(key, action, condition, version)).await? > 0)
    }
}

/// Returns the record of a row that begins with the value, the version and the TTL.
pub(crate) fn record(row: &SqliteRow, options: &ReadOptions) -> Result<Record> {
    let mut record = Record::new(Bytes::new());
    if options.value {
        // Unchecked: text and blobs are both bytes, and another program may have stored either.
        let value: Option<Vec<u8>> = row.try_get_unchecked(0).map_err(from_driver)?;
        // Checked: a text would be read as 0, and a comparison in SQL would never match it.
        let version: Option<i64> = row.try_get(1).map_err(from_driver)?;
        let (Some(value), Some(version)) = (value, version) else {
            let message = "a row has no value or no version: another program wrote it";
            return Err(Error::new(ErrorKind::Corrupt, message));
        };
        record = Record::at(value.into(), Version::from_token(version.cast_unsigned()));
    }
    if options.ttl {
        let left: Option<i64> = row.try_get(2).map_err(from_driver)?;
        // The row was live when it was read, so its TTL was not zero.
        record = record.expires(Expiry::until(left.map(|millis| millis.max(1)), 0).unwrap_or_default());
    }
    Ok(record)
}

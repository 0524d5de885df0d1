//! The calls, one statement each. Group commit comes on top, in `storage`.

use std::{collections::HashMap, fmt};

use futures_util::StreamExt;
use larder_core::{
    Bytes, Capabilities, Condition, EntryStream, Error, Expiry, Failure, Key, KeyStream, Operation, Record,
    Result, Storage, Version, Write, async_trait, unique,
};
use sqlx::{Row, SqlStr, Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments};

use crate::{
    NAME,
    config::ValueColumn,
    connections::Connections,
    error::from_driver,
    listing::Cursor,
    sql::{MAX_ROWS, Sql},
    value::{Column, record},
};

/// How many keys one statement names at most.
const MAX_KEYS: usize = 512;
/// How many rows one statement removes at most, so that others get to write in between.
const MAX_REMOVED: i64 = 1_000;
/// How many bytes of values one statement writes at most, but for a single row.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
/// The time to live of a row that is written expired: so long ago that no clock, set back, revives it.
const LONG_GONE: i64 = i64::MIN / 2;

/// The database, through which everything goes.
pub(crate) struct Database {
    pub(crate) connections: Connections,
    pub(crate) sql: Sql,
    pub(crate) values: ValueColumn,
    pub(crate) capabilities: Capabilities,
}

type Call<'q> = Query<'q, Sqlite, SqliteArguments>;

/// A row on its way into the table.
struct Upsert<'a> {
    key: &'a str,
    value: Column,
    /// In milliseconds; none for never.
    ttl: Option<i64>,
}

impl Database {
    /// Runs a statement that writes; returns how many rows it changed.
    async fn change(&self, call: Call<'_>, operation: Operation) -> Result<u64> {
        let mut lease = self.connections.writer(operation).await?;
        let outcome = call.execute(lease.connection()?).await;
        lease.end(outcome).map(|done| done.rows_affected()).map_err(|error| error.with_operation(operation))
    }

    /// Runs a statement that reads at most one row.
    async fn find(&self, call: Call<'_>, operation: Operation) -> Result<Option<sqlx::sqlite::SqliteRow>> {
        let mut lease = self.connections.reader(operation).await?;
        let outcome = call.fetch_optional(lease.connection()?).await;
        lease.end(outcome).map_err(|error| error.with_operation(operation))
    }

    /// Writes at most [`MAX_ROWS`] rows with different keys, with one statement.
    async fn upsert(&self, rows: Vec<Upsert<'_>>, operation: Operation) -> Result<()> {
        let (size, sql) = self.sql.upsert(rows.len());
        let mut call = sqlx::query(sql);
        // A row that is written twice by one statement is written, so the smallest fills up.
        let spare = rows
            .iter()
            .min_by_key(|row| row.value.len())
            .map(|row| (row.key, row.value.duplicate(), row.ttl));
        let spare = spare.filter(|_| size > rows.len());
        let missing = size - rows.len();
        let mut spare_version = 0;
        for row in rows {
            let version = draw();
            if spare.as_ref().is_some_and(|(key, ..)| *key == row.key) {
                spare_version = version;
            }
            call = call.bind(row.key).bind(row.value).bind(version).bind(row.ttl);
        }
        if let Some((key, value, ttl)) = spare {
            for _ in 0..missing {
                call = call.bind(key).bind(value.duplicate()).bind(spare_version).bind(ttl);
            }
        }
        self.change(call, operation).await.map(drop)
    }

    /// Removes rows with a statement that takes at most so many at a time, until there are no more.
    async fn remove_all(&self, sql: &SqlStr, operation: Operation) -> Result<u64> {
        let mut removed = 0;
        loop {
            let now = self.change(statement(sql).bind(MAX_REMOVED), operation).await?;
            removed += now;
            if now < MAX_REMOVED.unsigned_abs() {
                return Ok(removed);
            }
        }
    }

    async fn clear_page(
        &self,
        connection: &mut SqliteConnection,
        cursor: &mut Cursor,
    ) -> Result<usize, sqlx::Error> {
        let call = statement(&self.sql.clear).bind(cursor.start()).bind(cursor.end()).bind(MAX_REMOVED);
        let rows = call.fetch_all(connection).await?;
        let mut last: Vec<u8> = Vec::new();
        for row in &rows {
            last = last.max(row.try_get_unchecked(0)?);
        }
        // What comes again under keys that have been cleared stays: somebody wrote it meanwhile.
        cursor.advance(last);
        Ok(rows.len())
    }
}

fn statement(sql: &SqlStr) -> Call<'static> {
    sqlx::query(sql.clone())
}

/// The time to live as a statement adds it to the present, in milliseconds; none for never.
fn ttl(expiry: Expiry) -> Option<i64> {
    expiry.deadline(0)
}

/// A version for a row.
fn draw() -> i64 {
    unique::id64().cast_signed()
}

fn to_column(version: &Version) -> Option<i64> {
    version.as_token().map(u64::cast_signed)
}

fn names(keys: &[Key]) -> Result<String> {
    let keys: Vec<&str> = keys.iter().map(Key::as_str).collect();
    serde_json::to_string(&keys).map_err(|error| {
        Error::new(larder_core::ErrorKind::Other, "the keys could not be handed over").with_source(error)
    })
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Database {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        let row = self.find(statement(&self.sql.read).bind(key.as_str()), Operation::Read).await?;
        row.map(|row| record(&row, 0))
            .transpose()
            .map_err(|error| error.with_operation(Operation::Read).with_key(key))
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.connections.check_open(Operation::Write)?;
        let value = self.values.encode(value).map_err(|error| error.with_operation(Operation::Write))?;
        if expiry.is_elapsed() {
            let call = statement(&self.sql.delete).bind(key.as_str());
            return self.change(call, Operation::Write).await.map(drop);
        }
        let row = Upsert { key: key.as_str(), value, ttl: ttl(expiry) };
        self.upsert(vec![row], Operation::Write).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        let call = statement(&self.sql.delete).bind(key.as_str());
        self.change(call, Operation::Delete).await.map(|rows| rows > 0)
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        const OPERATION: Operation = Operation::WriteIf;
        self.connections.check_open(OPERATION)?;
        let value = self.values.encode(value).map_err(|error| error.with_operation(OPERATION))?;
        let version = Version::unique();
        let done = match condition {
            Condition::Absent if expiry.is_elapsed() => !self.contains(key).await?,
            Condition::Absent => {
                let call = statement(&self.sql.write_absent)
                    .bind(key.as_str())
                    .bind(value)
                    .bind(to_column(&version))
                    .bind(ttl(expiry));
                self.change(call, OPERATION).await? > 0
            }
            Condition::At(seen) => {
                let Some(seen) = to_column(&seen) else {
                    // A version of some other adapter's making: the entry cannot be at it.
                    return Err(Error::conflict().with_adapter(NAME).with_operation(OPERATION));
                };
                let call = if expiry.is_elapsed() {
                    statement(&self.sql.delete_at).bind(key.as_str()).bind(seen)
                } else {
                    statement(&self.sql.write_at)
                        .bind(key.as_str())
                        .bind(value)
                        .bind(to_column(&version))
                        .bind(ttl(expiry))
                        .bind(seen)
                };
                self.change(call, OPERATION).await? > 0
            }
        };
        if done { Ok(version) } else { Err(Error::conflict().with_adapter(NAME).with_operation(OPERATION)) }
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        const OPERATION: Operation = Operation::DeleteIf;
        self.connections.check_open(OPERATION)?;
        let Some(seen) = to_column(version) else {
            return Err(Error::conflict().with_adapter(NAME).with_operation(OPERATION));
        };
        let call = statement(&self.sql.delete_at).bind(key.as_str()).bind(seen);
        match self.change(call, OPERATION).await? {
            0 => Err(Error::conflict().with_adapter(NAME).with_operation(OPERATION)),
            _ => Ok(()),
        }
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        let call = if expiry.is_elapsed() {
            statement(&self.sql.delete).bind(key.as_str())
        } else {
            statement(&self.sql.touch).bind(key.as_str()).bind(ttl(expiry))
        };
        self.change(call, Operation::Touch).await.map(|rows| rows > 0)
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        let call = statement(&self.sql.ttl).bind(key.as_str());
        let Some(row) = self.find(call, Operation::Ttl).await? else {
            return Ok(None);
        };
        let left = row.try_get(0).map_err(|error| from_driver(error).with_operation(Operation::Ttl))?;
        Ok(Expiry::until(left, 0))
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        let call = statement(&self.sql.contains).bind(key.as_str());
        self.find(call, Operation::Contains).await.map(|row| row.is_some())
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        const OPERATION: Operation = Operation::ReadMany;
        self.connections.check_open(OPERATION)?;
        let mut records = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(MAX_KEYS) {
            let call = statement(&self.sql.read_many).bind(names(chunk)?);
            let mut lease = self.connections.reader(OPERATION).await?;
            let outcome = call.fetch_all(lease.connection()?).await;
            let rows = lease.end(outcome).map_err(|error| error.with_operation(OPERATION))?;
            let mut found = HashMap::with_capacity(rows.len());
            for row in &rows {
                let key: String = row.try_get_unchecked(0).map_err(from_driver)?;
                found.insert(key, record(row, 1)?);
            }
            records.extend(chunk.iter().map(|key| found.get(key.as_str()).cloned()));
        }
        Ok(records)
    }

    /// The keys must differ, as `Coalesce` has it.
    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        const OPERATION: Operation = Operation::WriteMany;
        self.connections.check_open(OPERATION)?;
        let mut failures = Vec::new();
        let mut rows = Vec::with_capacity(writes.len().min(MAX_ROWS));
        let mut bytes = 0;
        for (index, write) in writes.iter().enumerate() {
            let value = match self.values.encode(write.value.clone()) {
                Ok(value) => value,
                Err(error) => {
                    failures.push(Failure::new(index, error.with_operation(OPERATION)));
                    continue;
                }
            };
            let row = if write.expiry.is_elapsed() {
                Upsert { key: write.key.as_str(), value: self.values.nothing(), ttl: Some(LONG_GONE) }
            } else {
                Upsert { key: write.key.as_str(), value, ttl: ttl(write.expiry) }
            };
            if rows.len() == MAX_ROWS || (bytes > 0 && bytes + row.value.len() > MAX_BATCH_BYTES) {
                self.upsert(std::mem::take(&mut rows), OPERATION).await?;
                bytes = 0;
            }
            bytes += row.value.len();
            rows.push(row);
        }
        if !rows.is_empty() {
            self.upsert(rows, OPERATION).await?;
        }
        if failures.is_empty() {
            return Ok(());
        }
        Err(Error::partial(failures, writes.len()).with_adapter(NAME).with_operation(OPERATION))
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        self.connections.check_open(Operation::DeleteMany)?;
        let mut deleted = 0;
        for chunk in keys.chunks(MAX_KEYS) {
            let call = statement(&self.sql.delete_many).bind(names(chunk)?);
            deleted += self.change(call, Operation::DeleteMany).await?;
        }
        Ok(deleted)
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        self.list_keys(prefix).boxed()
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        self.list_entries(prefix).boxed()
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        let mut cursor = Cursor::new(prefix);
        let mut cleared = 0;
        loop {
            let mut lease = self.connections.writer(Operation::Clear).await?;
            let outcome = self.clear_page(lease.connection()?, &mut cursor).await;
            let page = lease.end(outcome).map_err(|error| error.with_operation(Operation::Clear))?;
            cleared += page as u64;
            if page < usize::try_from(MAX_REMOVED).unwrap_or(usize::MAX) {
                return Ok(cleared);
            }
        }
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.remove_all(&self.sql.purge, Operation::PurgeExpired).await
    }

    async fn ping(&self) -> Result<()> {
        self.find(statement(&self.sql.ping), Operation::Ping).await.map(drop)
    }

    async fn flush(&self) -> Result<()> {
        // A write is acknowledged once it is committed: nothing is held back.
        self.connections.check_open(Operation::Flush)?;
        self.connections.check_there(Operation::Flush)
    }

    async fn close(&self) -> Result<()> {
        self.connections.close().await.map_err(|error| error.with_operation(Operation::Close))
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("values", &self.values).finish_non_exhaustive()
    }
}

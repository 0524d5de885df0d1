//! The storage.

use std::{fmt, sync::Arc};

use larder_core::{
    Applied, Bytes, Change, Condition, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions, Location,
    Purge, ReadOptions, Record, Result, Storage, TouchOptions, Values, Version, Versions, WriteOptions,
    Written, async_trait,
};
use larder_kit::{Configure, Interval, Sweeper, check_json, pages, prefix_end, read_chunks};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    batch,
    config::{Config, ValueFormat},
    driver::Driver,
    listing::{Walk, clear},
    pool::Params,
    rows::{Put, Range, Rows, corrupt, expected},
    sql::{DELETE_CHUNK, MAX_KEYS, MAX_VALUE, Query, Sql},
    value::{Stored, Value},
};

/// Entries in a table of a PostgreSQL database.
pub(crate) struct PostgresStorage {
    driver: Driver,
    table: String,
    sql: Sql,
    values: ValueFormat,
    sweeper: Sweeper,
}

impl PostgresStorage {
    /// The storage in the table with this name, as SQL.
    pub(crate) fn new(driver: Driver, table: String, values: ValueFormat, sweep: Interval) -> Arc<Self> {
        let purge = |storage: Arc<Self>| async move { storage.purge_expired().await };
        Arc::new_cyclic(|storage| {
            let sweeper = Sweeper::start(Config::ADAPTER, storage.clone(), sweep, purge);
            Self { driver, sql: Sql::new(&table, values), values, table, sweeper }
        })
    }

    /// Runs the first statement, or the second one to touch as well; returns the rows that it finds.
    async fn select(
        &self,
        (read, read_and_touch): (&Query, &Query),
        keys: &(dyn ToSql + Sync),
        options: &ReadOptions,
    ) -> Result<Vec<Row>> {
        let Some(expiry) = options.touch else {
            return self.driver().query(read, &[keys, &options.value]).await;
        };
        Ok(self.driver().change(read_and_touch, &[keys, &options.value, &millis(expiry)]).await?.rows)
    }
}

/// A time to live as the statements take it: milliseconds, or null.
fn millis(expiry: Expiry) -> Option<i64> {
    expiry.as_millis().map(|millis| i64::try_from(millis).unwrap_or(i64::MAX))
}

/// A version as the column `version` holds it.
fn token(version: &Version) -> Option<i64> {
    version.as_token().map(u64::cast_signed)
}

impl Rows for PostgresStorage {
    fn driver(&self) -> &Driver {
        // The runtime that it ran on may have gone.
        self.sweeper.ensure_running();
        &self.driver
    }

    fn range(&self, prefix: &str) -> Range<'_> {
        let bound = prefix_end(prefix);
        let pages = if bound.is_some() { &self.sql.bounded } else { &self.sql.unbounded };
        Range { pages, from: prefix.to_owned(), bound }
    }

    fn record(row: &Row, with_value: bool) -> Result<Record> {
        let left: Option<i64> = row.try_get(3).map_err(corrupt)?;
        let expiry = left.map_or(Expiry::Never, |millis| Expiry::after_millis(millis.cast_unsigned()));
        if !with_value {
            return Ok(Record::new(Bytes::new()).expires(expiry));
        }
        let Stored(value) = row.try_get(1).map_err(corrupt)?;
        let token: i64 = row.try_get(2).map_err(corrupt)?;
        Ok(Record::at(value, Version::from_token(token.cast_unsigned())).expires(expiry))
    }

    fn check(&self, value: &[u8]) -> Result<()> {
        if self.values == ValueFormat::Bytes { Ok(()) } else { check_json(value) }
    }

    async fn put_many(&self, puts: &[Put<'_>]) -> Result<Vec<Version>> {
        let versions: Vec<Version> = puts.iter().map(|_| Version::unique()).collect();
        let rows = puts.iter().zip(&versions).map(|((key, value, expiry), version)| {
            (key.as_str(), Value(value), token(version), millis(*expiry))
        });
        let (keys, values, tokens, ttls): (Vec<_>, Vec<_>, Vec<_>, Vec<_>) = rows.collect();
        self.driver().change(&self.sql.upsert_many, &[&keys, &values, &tokens, &ttls]).await?;
        Ok(versions)
    }

    fn delete_many(&self) -> &Query {
        &self.sql.delete_many
    }
}

#[async_trait]
impl Storage for PostgresStorage {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let queries = (&self.sql.read, &self.sql.read_and_touch);
        let rows = self.select(queries, &key.as_str(), options).await?;
        rows.first().map(|row| Self::record(row, options.value)).transpose()
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.check(&value)?;
        let WriteOptions { expiry, condition, .. } = options;
        let query = match condition {
            Condition::Any => &self.sql.upsert,
            Condition::Absent => &self.sql.insert,
            _ => &self.sql.update,
        };
        let version = Version::unique();
        let params: Params<'_> = &[
            &key.as_str(),
            &Value(&value),
            &token(&version),
            &millis(*expiry),
            &expected(condition, token)?,
        ];
        self.driver().change_entry(query, condition, params).await?;
        Ok(Written::at(version))
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let params: Params<'_> = &[&key.as_str(), &expected(&options.condition, token)?];
        self.driver().change_entry(&self.sql.delete, &options.condition, params).await
    }

    fn info(&self) -> Info {
        let info = self.driver.info().with_ordered_listing().with_expiry();
        let info = info.with_versions(Versions::Unique).with_purge(Purge::Sweep);
        match self.values {
            ValueFormat::Bytes => info.with_values(Values::Bytes).with_max_value(MAX_VALUE),
            // Postgres stops at 256 MiB for a parsed `jsonb` array or object.
            ValueFormat::Jsonb => info.with_values(Values::Json).with_max_value(250_000_000),
            ValueFormat::Json | ValueFormat::Text => {
                info.with_values(Values::JsonText).with_max_value(MAX_VALUE)
            }
        }
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let params: Params<'_> = &[&key.as_str(), &millis(expiry), &expected(&options.condition, token)?];
        self.driver().change_entry(&self.sql.touch, &options.condition, params).await
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let queries = (&self.sql.read_many, &self.sql.read_and_touch_many);
        let read = async |keys: &[Key]| {
            let names: Vec<&str> = keys.iter().map(Key::as_str).collect();
            Self::records(&self.select(queries, &names, options).await?, options.value)
        };
        read_chunks(keys, MAX_KEYS, 1, read).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        batch::apply(self, changes).await
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        pages(Walk::new(self, options))
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        clear(&*self, prefix).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        let mut purged = 0;
        loop {
            let deleted = self.driver.change(&self.sql.purge, &[]).await?.changed;
            purged += deleted;
            if deleted < DELETE_CHUNK {
                return Ok(purged);
            }
        }
    }

    async fn ping(&self) -> Result<()> {
        self.driver.ping().await
    }

    async fn location(&self) -> Result<Option<Location>> {
        self.driver.location(&self.table).await
    }

    async fn close(&self) -> Result<()> {
        self.sweeper.stop();
        self.driver.close();
        Ok(())
    }
}

impl fmt::Debug for PostgresStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStorage")
            .field("info", &self.info())
            .field("sweeper", &self.sweeper)
            .finish_non_exhaustive()
    }
}

//! Larder's own table.

use std::sync::Arc;

use larder_core::{Bytes, Condition, Expiry, Key, ReadOptions, Record, Result, Storage, Version};
use larder_kit::{Configure, Interval, Sweeper, check_json, prefix_end};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    config::{Config, ValueFormat},
    driver::Driver,
    pool::Params,
    rows::{Put, Range, Rows, corrupt, expected},
    sql::{Query, Sql},
    value::{Stored, Value},
};

/// Entries in a table of a PostgreSQL database.
pub(crate) struct PostgresStorage {
    pub(crate) driver: Driver,
    /// The name of the table, as SQL.
    pub(crate) table: String,
    pub(crate) sql: Sql,
    pub(crate) values: ValueFormat,
    pub(crate) sweeper: Sweeper,
}

impl PostgresStorage {
    /// The storage in the table with this name.
    pub(crate) fn new(driver: Driver, table: String, values: ValueFormat, sweep: Interval) -> Arc<Self> {
        let purge = |storage: Arc<Self>| async move { storage.purge_expired().await };
        Arc::new_cyclic(|storage| {
            let sweeper = Sweeper::start(Config::ADAPTER, storage.clone(), sweep, purge);
            Self { driver, sql: Sql::new(&table, values), values, table, sweeper }
        })
    }

    /// Runs the first statement, or the second one to touch as well; returns the rows that it finds.
    pub(crate) async fn find(
        &self,
        (read, read_and_touch): (&Query, &Query),
        keys: &(dyn ToSql + Sync),
        options: &ReadOptions,
    ) -> Result<Vec<Row>> {
        let params: Params<'_> = &[keys, &options.value, &options.touch.and_then(millis)];
        match options.touch {
            None => self.driver().query(read, params).await,
            Some(_) => self.driver().change(read_and_touch, params).await,
        }
    }

    /// Runs a statement that changes one entry if the condition holds; returns whether it has.
    pub(crate) async fn change(
        &self,
        query: &Query,
        key: &Key,
        put: Option<(&Bytes, &Version)>,
        expiry: Expiry,
        condition: &Condition,
    ) -> Result<bool> {
        let (value, version) =
            (put.map(|(value, _)| Value(value)), put.and_then(|(_, version)| token(version)));
        let expected = expected(condition, token)?;
        let params: Params<'_> = &[&key.as_str(), &value, &version, &millis(expiry), &expected];
        self.driver().change_entry(query, condition, params).await
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

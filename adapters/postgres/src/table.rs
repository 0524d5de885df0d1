//! The table: runs the statements.

use std::{collections::HashMap, sync::Arc};

use larder_core::{
    Bytes, Condition, Error, Expiry, Info, Key, ReadOptions, Record, Result, Storage as _, Version, Versions,
};
use larder_kit::{Configure, Interval, Sweeper};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    config::Config,
    driver::Driver,
    model::{Model, corrupt},
    pool::Params,
    sql::{Query, Sql},
    value::{Expected, Value},
};

/// Entries in a table of a PostgreSQL database.
pub(crate) struct TableStorage<M> {
    pub(crate) driver: Driver,
    /// The name of the table, as SQL.
    pub(crate) table: String,
    pub(crate) sql: Sql,
    pub(crate) model: M,
    pub(crate) info: Info,
    pub(crate) sweeper: Sweeper,
}

impl<M: Model> TableStorage<M> {
    /// The storage in the table with this name.
    pub(crate) fn new(driver: Driver, table: String, sql: Sql, model: M, sweep: Interval) -> Arc<Self> {
        let info = model.info(driver.info());
        let purge = |storage: Arc<Self>| async move { storage.purge_expired().await };
        Arc::new_cyclic(|storage| {
            let sweeper = Sweeper::start(Config::ADAPTER, storage.clone(), sweep, purge);
            Self { driver, table, sql, model, info, sweeper }
        })
    }

    pub(crate) fn driver(&self) -> &Driver {
        // The runtime that it ran on may have gone.
        self.sweeper.ensure_running();
        &self.driver
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
        let value = put.map(|(value, _)| Value(value));
        let token = put.and_then(|(_, version)| token(version));
        let expected = self.expected(condition)?.map(Expected);
        let params: Params<'_> = &[&key.as_str(), &value, &token, &millis(expiry), &expected];
        condition.met(!self.driver().change(query, params).await?.is_empty())
    }

    /// The version that an entry must have, if it may not have any.
    fn expected<'a>(&self, condition: &'a Condition) -> Result<Option<&'a Version>> {
        let Condition::At(version) = condition else { return Ok(None) };
        let is_token = version.as_token().is_some();
        // No entry of this table has the version of another storage.
        if is_token == (self.info.versions == Versions::Unique) {
            Ok(Some(version))
        } else {
            Err(Error::conflict())
        }
    }

    /// Writes entries, with one statement; returns their versions.
    pub(crate) async fn put_many(&self, puts: &[(&Key, &Bytes, Expiry)]) -> Result<Vec<Version>> {
        let versions: Vec<Version> = puts.iter().map(|(_, value, _)| M::version(value)).collect();
        let rows = puts.iter().zip(&versions).map(|((key, value, expiry), version)| {
            (key.as_str(), Value(value), token(version), millis(*expiry))
        });
        let (keys, values, tokens, ttls): (Vec<_>, Vec<_>, Vec<_>, Vec<_>) = rows.collect();
        self.driver().change(&self.sql.upsert_many, &[&keys, &values, &tokens, &ttls]).await?;
        Ok(versions)
    }

    /// Reads the records that are there, each under its key.
    pub(crate) async fn read_together(
        &self,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<HashMap<String, Result<Record>>> {
        let names: Vec<&str> = keys.iter().map(Key::as_str).collect();
        let rows = self.find((&self.sql.read_many, &self.sql.read_and_touch_many), &names, options).await?;
        let key = |row: &Row| row.try_get(0).map_err(corrupt);
        rows.iter().map(|row| Ok((key(row)?, M::record(row, options.value)))).collect()
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

//! Runs the statements.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use larder_core::{
    Action, Applied, Change, Condition, Error, Expiry, Info, Key, ReadOptions, Record, Result, Storage as _,
    Version, Versions,
};
use larder_kit::{Configure, Interval, Sweeper};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    config::Config,
    driver::Driver,
    model::{Model, corrupt},
    pool::Params,
    sql::{Kind, Query, Sql},
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
    /// Makes a storage on the table with this name.
    pub(crate) fn new(driver: Driver, table: String, sql: Sql, model: M, sweep: Interval) -> Arc<Self> {
        let info = model.info(driver.info());
        let purge = |storage: Arc<Self>| async move { storage.purge_expired().await };
        Arc::new_cyclic(|storage| {
            let sweeper = Sweeper::start(Config::ADAPTER, storage.clone(), sweep, purge);
            Self { driver, table, sql, model, info, sweeper }
        })
    }

    pub(crate) fn driver(&self) -> &Driver {
        // The sweeper's runtime may have ended.
        self.sweeper.ensure_running();
        &self.driver
    }

    /// Runs `read`, or `read_and_touch` if the options touch. Returns the rows.
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

    /// Makes one change.
    pub(crate) async fn change(&self, change: &Change) -> Result<Applied> {
        let query = match Kind::of(change) {
            Kind::Upsert => &self.sql.upsert,
            Kind::Insert => &self.sql.insert,
            Kind::Update => &self.sql.update,
            Kind::Delete => &self.sql.delete,
            Kind::Touch => &self.sql.touch,
        };
        let expected = self.expected(&change.condition)?.map(Expected);
        let Entry { value, version, ttl } = Entry::of::<M>(&change.action);
        let token = version.as_ref().and_then(token);
        let params: Params<'_> = &[&change.key.as_str(), &value, &token, &ttl, &expected];
        let changed = !self.driver().change(query, params).await?.is_empty();
        change.applied(changed, version)
    }

    /// Makes changes of distinct keys, in the order of the keys, with one statement and one commit. A change whose
    /// condition does not hold fails alone.
    pub(crate) async fn change_many<'a>(
        &self,
        changes: impl Iterator<Item = &'a Change> + Clone,
    ) -> Result<Vec<Result<Applied>>> {
        let keys: Vec<&str> = changes.clone().map(|change| change.key.as_str()).collect();
        let entries = changes.clone().map(|change| Entry::of::<M>(&change.action));
        let (values, versions, ttls): (Vec<_>, Vec<_>, Vec<_>) =
            entries.map(|Entry { value, version, ttl }| (value, version, ttl)).collect();
        let tokens: Vec<_> = versions.iter().map(|version| version.as_ref().and_then(token)).collect();
        let kinds: Vec<_> = changes.clone().map(Kind::of).collect();
        let all = |kind| kinds.iter().all(|other| *other == kind);
        let numbers: Vec<_> = kinds.iter().map(|kind| *kind as i16).collect();
        let expected = changes.clone().map(|change| Ok(self.expected(&change.condition)?.map(Expected)));
        let expected = expected.collect::<Result<Vec<_>>>()?;
        let params: Params<'_> = &[&keys, &values, &tokens, &ttls, &numbers, &expected];
        let only_upserts = all(Kind::Upsert);
        let (query, params) = if only_upserts {
            (&self.sql.upsert_many, &params[..4])
        } else if all(Kind::Update) {
            (&self.sql.update_many, params)
        } else {
            (&self.sql.change_many, params)
        };
        let rows = self.driver().change(query, params).await?;
        let changed: HashSet<&str> = rows.iter().filter_map(|row| row.try_get(0).ok()).collect();
        let is_changed = |change: &Change| only_upserts || changed.contains(change.key.as_str());
        Ok(changes
            .zip(versions)
            .map(|(change, version)| change.applied(is_changed(change), version))
            .collect())
    }

    /// Returns the version that an entry must have, if the condition requires one.
    pub(crate) fn expected<'a>(&self, condition: &'a Condition) -> Result<Option<&'a Version>> {
        let Condition::At(version) = condition else { return Ok(None) };
        let is_token = version.as_token().is_some();
        // No entry of this table has a version of another storage.
        if is_token == (self.info.versions == Versions::Unique) {
            Ok(Some(version))
        } else {
            Err(Error::conflict())
        }
    }

    /// Reads the records that exist. Returns them by key.
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

/// The contents of a change.
struct Entry<'a> {
    value: Option<Value<'a>>,
    version: Option<Version>,
    ttl: Option<i64>,
}

impl<'a> Entry<'a> {
    fn of<M: Model>(action: &'a Action) -> Self {
        match action {
            Action::Put(value, expiry) => {
                Self { value: Some(Value(value)), version: Some(M::version(value)), ttl: millis(*expiry) }
            }
            Action::Touch(expiry) => Self { value: None, version: None, ttl: millis(*expiry) },
            Action::Delete => Self { value: None, version: None, ttl: None },
        }
    }
}

/// Returns a time to live in milliseconds, or null, as a parameter.
fn millis(expiry: Expiry) -> Option<i64> {
    expiry.as_millis().map(|millis| i64::try_from(millis).unwrap_or(i64::MAX))
}

/// Returns a version as stored in the column `version`.
fn token(version: &Version) -> Option<i64> {
    version.as_token().map(u64::cast_signed)
}

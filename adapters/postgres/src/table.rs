//! One entry at a time: each operation is one statement.

use std::collections::HashMap;

use larder_core::{Bytes, Condition, Error, ErrorKind, Expiry, Key, ReadOptions, Record, Result, Version};
use larder_kit::check_json;
use tokio_postgres::{Row, types::ToSql};

use crate::{
    config::{Layout, ValueFormat},
    driver::{Driver, Params},
    queries::{Conditional, DELETE_CHUNK, Queries, Query},
    value::{Stored, Value},
};

/// The table, and how to get to it.
pub(crate) struct Table {
    pub(crate) driver: Driver,
    pub(crate) layout: Layout,
    pub(crate) values: ValueFormat,
    pub(crate) queries: Queries,
}

impl Table {
    pub(crate) async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let reads = &self.queries.read;
        let rows = self.select(&reads.one, &reads.touch_one, &key.as_str(), options).await?;
        rows.first().map(|row| self.record(row, options)).transpose()
    }

    /// Reads the entries of these keys that are there.
    pub(crate) async fn read_many(
        &self,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<HashMap<String, Result<Record>>> {
        let names: Vec<&str> = keys.iter().map(Key::as_str).collect();
        let reads = &self.queries.read;
        let rows = self.select(&reads.many, &reads.touch_many, &names, options).await?;
        let named = |row: &Row| Ok((row.try_get(3).map_err(corrupt)?, self.record(row, options)));
        rows.iter().map(named).collect()
    }

    async fn select(
        &self,
        read: &Query,
        touch: &Query,
        keys: &(dyn ToSql + Sync),
        options: &ReadOptions,
    ) -> Result<Vec<Row>> {
        match options.touch {
            None => self.driver.query(read, &[keys, &options.value]).await,
            Some(expiry) => {
                Ok(self.driver.change(touch, &[keys, &options.value, &millis(expiry)]).await?.rows)
            }
        }
    }

    /// Writes a value that was [checked](Self::check).
    pub(crate) async fn write(
        &self,
        key: &Key,
        value: &Bytes,
        expiry: Expiry,
        condition: &Condition,
    ) -> Result<Version> {
        let (version, column) = self.next_version(value);
        let params: Params<'_> = &[&key.as_str(), &Value(value), &column, &millis(expiry)];
        self.change(&self.queries.write, condition, params).await?;
        Ok(version)
    }

    pub(crate) async fn delete(&self, key: &Key, condition: &Condition) -> Result<bool> {
        self.change(&self.queries.delete, condition, &[&key.as_str()]).await
    }

    pub(crate) async fn touch(&self, key: &Key, expiry: Expiry, condition: &Condition) -> Result<bool> {
        self.change(&self.queries.touch, condition, &[&key.as_str(), &millis(expiry)]).await
    }

    /// Runs the statement for the condition; returns whether it changed a row.
    async fn change(
        &self,
        statements: &Conditional,
        condition: &Condition,
        params: Params<'_>,
    ) -> Result<bool> {
        let answer = match condition {
            Condition::Any => self.driver.change(&statements.any, params).await?,
            Condition::Absent => self.driver.change(&statements.absent, params).await?,
            Condition::Present => self.driver.change(&statements.present, params).await?,
            Condition::At(version) => {
                let expected = self.expected(version).ok_or_else(Error::conflict)?;
                self.driver.change(&statements.at, &[params, &[&*expected]].concat()).await?
            }
            _ => return Err(Error::unsupported()),
        };
        match answer.changed > 0 {
            false if *condition != Condition::Any => Err(Error::conflict()),
            changed => Ok(changed),
        }
    }

    /// A version in a condition, as the statements take it; `None` for a version of another storage, which
    /// no entry here has.
    fn expected<'a>(&self, version: &'a Version) -> Option<Box<dyn ToSql + Send + Sync + 'a>> {
        match self.layout {
            Layout::Larder => version.as_token().map(|token| Box::new(token.cast_signed()) as _),
            Layout::Grammy => version.as_content().map(|content| Box::new(Value(content)) as _),
        }
    }

    /// The version that a write of `value` gives the entry, and what goes into the column `version`.
    pub(crate) fn next_version(&self, value: &Bytes) -> (Version, i64) {
        match self.layout {
            Layout::Larder => {
                let version = Version::unique();
                let column = version.as_token().unwrap_or_default().cast_signed();
                (version, column)
            }
            Layout::Grammy => (Version::from_content(value.clone()), 0),
        }
    }

    /// Refuses a value that the column cannot hold before it is sent, where it would fail the batch that
    /// it is in. The server itself refuses what it alone can judge, such as numbers out of range.
    pub(crate) fn check(&self, value: &[u8]) -> Result<()> {
        if self.values == ValueFormat::Bytea { Ok(()) } else { check_json(value) }
    }

    /// A record from the columns value, version and remaining milliseconds.
    pub(crate) fn record(&self, row: &Row, options: &ReadOptions) -> Result<Record> {
        let record = if options.value {
            let Stored(value) = row.try_get(0).map_err(corrupt)?;
            let version = match self.layout {
                Layout::Larder => {
                    Version::from_token(row.try_get::<_, i64>(1).map_err(corrupt)?.cast_unsigned())
                }
                Layout::Grammy => Version::from_content(value.clone()),
            };
            Record::at(value, version)
        } else {
            Record::new(Bytes::new())
        };
        if !options.ttl {
            return Ok(record);
        }
        let left: Option<i64> = row.try_get(2).map_err(corrupt)?;
        let expiry = |millis: i64| Expiry::after_millis(millis.max(1).cast_unsigned());
        Ok(record.expires(left.map_or(Expiry::Never, expiry)))
    }

    pub(crate) async fn purge_expired(&self) -> Result<u64> {
        let mut purged = 0;
        if self.layout == Layout::Grammy {
            return Ok(purged);
        }
        loop {
            let deleted = self.driver.change(&self.queries.purge, &[]).await?.changed;
            purged += deleted;
            if deleted < DELETE_CHUNK {
                return Ok(purged);
            }
        }
    }
}

/// A time to live as the statements take it: milliseconds, or null.
pub(crate) fn millis(expiry: Expiry) -> Option<i64> {
    expiry.as_millis().map(|millis| i64::try_from(millis).unwrap_or(i64::MAX))
}

/// A row that does not decode.
pub(crate) fn corrupt(_: tokio_postgres::Error) -> Error {
    Error::new(ErrorKind::Corrupt, "the row is not as this adapter writes it")
}

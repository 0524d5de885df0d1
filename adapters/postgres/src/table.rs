//! The table: each operation is one statement.

use std::collections::HashMap;

use larder_core::{
    Bytes, Condition, Error, ErrorKind, Expiry, Key, ReadOptions, Record, Result, Version, unique,
};
use larder_kit::check_json;
use tokio_postgres::{Row, types::ToSql};

use crate::{
    config::{Layout, ValueFormat},
    driver::{Driver, Params},
    queries::{Conditional, DELETE_CHUNK, Queries, Read},
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
    /// Reads the entries of these keys that are there.
    pub(crate) async fn read_many(
        &self,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<HashMap<String, Result<Record>>> {
        let names: Vec<&str> = keys.iter().map(Key::as_str).collect();
        let rows = self.select(&self.queries.read_many, &names, options).await?;
        let named = |row: &Row| Ok((row.try_get(3).map_err(corrupt)?, self.record(row, options.value)));
        rows.iter().map(named).collect()
    }

    /// Runs the statement that reads, or the one that also touches; returns the rows that it finds.
    pub(crate) async fn select(
        &self,
        read: &Read,
        keys: &(dyn ToSql + Sync),
        options: &ReadOptions,
    ) -> Result<Vec<Row>> {
        let Some(expiry) = options.touch else {
            return self.driver.query(&read.plain, &[keys, &options.value]).await;
        };
        Ok(self.driver.change(&read.touching, &[keys, &options.value, &millis(expiry)]).await?.rows)
    }

    /// Runs the statement for the condition; returns whether it changed a row.
    pub(crate) async fn change(
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
                // Null for a version of another storage, which no entry here has.
                let expected: &(dyn ToSql + Sync) = match self.layout {
                    Layout::Larder => &version.as_token().map(u64::cast_signed),
                    Layout::Grammy => &version.as_content().map(|content| Value(content)),
                };
                self.driver.change(&statements.at, &[params, &[expected]].concat()).await?
            }
            _ => return Err(Error::unsupported()),
        };
        match answer.changed > 0 {
            false if *condition != Condition::Any => Err(Error::conflict()),
            changed => Ok(changed),
        }
    }

    /// The version that a write of `value` gives the entry, and what goes into the column `version`.
    pub(crate) fn next_version(&self, value: &Bytes) -> (Version, i64) {
        match self.layout {
            Layout::Larder => {
                let token = unique::id64();
                (Version::from_token(token), token.cast_signed())
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
    pub(crate) fn record(&self, row: &Row, with_value: bool) -> Result<Record> {
        let left: Option<i64> = row.try_get(2).map_err(corrupt)?;
        let expiry = left.map_or(Expiry::Never, |millis| Expiry::after_millis(millis.cast_unsigned()));
        if !with_value {
            return Ok(Record::new(Bytes::new()).expires(expiry));
        }
        let Stored(value) = row.try_get(0).map_err(corrupt)?;
        let version = match self.layout {
            Layout::Larder => Version::from_token(row.try_get::<_, i64>(1).map_err(corrupt)?.cast_unsigned()),
            Layout::Grammy => Version::from_content(value.clone()),
        };
        Ok(Record::at(value, version).expires(expiry))
    }

    pub(crate) async fn purge_expired(&self) -> Result<u64> {
        let Some(purge) = &self.queries.purge else { return Ok(0) };
        let mut purged = 0;
        loop {
            let deleted = self.driver.change(purge, &[]).await?.changed;
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

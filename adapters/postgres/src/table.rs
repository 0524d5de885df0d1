//! Every operation, as one statement, straight to the server: what [`PostgresStorage`] wraps in
//! group commit.
//!
//! [`PostgresStorage`]: crate::PostgresStorage

use std::collections::HashMap;

use larder_core::{
    Bytes, Capabilities, Condition, EntryStream, Error, ErrorKind, Expiry, Key, KeyStream, Operation, Record,
    Result, Storage, Version, Write, async_trait,
};
use tokio_postgres::Row;

use crate::{
    NAME,
    driver::Driver,
    layout::Layout,
    queries::{self, DELETE_CHUNK, Queries},
    value::{self, Stored, Value},
};

/// How many keys one statement names.
const CHUNK: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) driver: Driver,
    pub(crate) layout: Layout,
    pub(crate) queries: Queries,
}

/// A time to live as the statements take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It has elapsed: the key is to be absent.
    Over,
    /// Milliseconds; `None` for ever.
    Left(Option<i64>),
}

impl Life {
    pub(crate) fn new(expiry: Expiry) -> Self {
        match expiry.as_millis() {
            Some(0) => Self::Over,
            millis => Self::Left(millis.map(|millis| i64::try_from(millis).unwrap_or(i64::MAX))),
        }
    }
}

/// A version that no other write has, and the same as the column holds it.
pub(crate) fn draw() -> (Version, i64) {
    let version = Version::unique();
    let column = to_column(&version).unwrap_or_default();
    (version, column)
}

fn to_column(version: &Version) -> Option<i64> {
    version.as_token().map(u64::cast_signed)
}

pub(crate) fn corrupt() -> Error {
    Error::new(ErrorKind::Corrupt, "the row is not as this adapter writes it")
}

impl Table {
    /// Refuses what this layout cannot store.
    pub(crate) fn check(&self, value: &[u8], expiry: Expiry, operation: Operation) -> Result<()> {
        if self.layout == Layout::Grammy && expiry != Expiry::Never {
            return Err(Error::new(ErrorKind::Unsupported, "grammY's table has no room for a time to live")
                .with_operation(operation));
        }
        value::check(self.layout, value)
    }

    /// A record from the columns `value` and `version`, which begin at `at`.
    pub(crate) fn record(row: &Row, at: usize) -> Result<Record> {
        let Stored(value) = row.try_get(at).map_err(|_| corrupt())?;
        let version = match row.try_get::<_, Option<i64>>(at + 1).map_err(|_| corrupt())? {
            Some(token) => Version::from_token(token.cast_unsigned()),
            None => Version::from_content(value.clone()),
        };
        Ok(Record::at(value, version))
    }

    fn conflict(&self, operation: Operation) -> Error {
        Error::conflict().with_adapter(NAME).with_operation(operation)
    }

    async fn write_absent(&self, key: &str, value: &Bytes, life: Life) -> Result<Option<Version>> {
        let Life::Left(left) = life else {
            // Absent before and after: there is nothing to store, only something to find.
            let rows = self.driver.query(&self.queries.contains, &[&key]).await?;
            return Ok(rows.is_empty().then(Version::unique));
        };
        let query = &self.queries.write_absent;
        let (version, changed) = match self.layout {
            Layout::Larder(_) => {
                let (version, column) = draw();
                (version, self.driver.execute(query, &[&key, &Value(value), &column, &left]).await?)
            }
            Layout::Grammy => {
                let changed = self.driver.execute(query, &[&key, &Value(value)]).await?;
                (Version::from_content(value.clone()), changed)
            }
        };
        Ok((changed > 0).then_some(version))
    }

    async fn write_at(
        &self,
        key: &str,
        value: &Bytes,
        life: Life,
        expected: &Version,
    ) -> Result<Option<Version>> {
        let Life::Left(left) = life else {
            return Ok(self.delete_at(key, expected).await?.then(Version::unique));
        };
        let query = &self.queries.write_at;
        let (version, changed) = match self.layout {
            Layout::Larder(_) => {
                let Some(expected) = to_column(expected) else { return Ok(None) };
                let (version, column) = draw();
                let params: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
                    &[&key, &Value(value), &column, &left, &expected];
                (version, self.driver.execute(query, params).await?)
            }
            Layout::Grammy => {
                let Some(expected) = expected.as_content() else { return Ok(None) };
                let changed = self.driver.execute(query, &[&key, &Value(value), &Value(expected)]).await?;
                (Version::from_content(value.clone()), changed)
            }
        };
        Ok((changed > 0).then_some(version))
    }

    async fn delete_at(&self, key: &str, expected: &Version) -> Result<bool> {
        let query = &self.queries.delete_at;
        let changed = match (self.layout, to_column(expected), expected.as_content()) {
            (Layout::Larder(_), Some(token), _) => self.driver.execute(query, &[&key, &token]).await?,
            (Layout::Grammy, _, Some(content)) => {
                self.driver.execute(query, &[&key, &Value(content)]).await?
            }
            // A version of some other storage: no entry here is at it.
            _ => 0,
        };
        Ok(changed > 0)
    }
}

#[async_trait]
#[deny(clippy::missing_trait_methods)]
impl Storage for Table {
    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let capabilities = self.layout.capabilities();
        if self.driver.is_fenced() { capabilities.with_fencing() } else { capabilities }
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        let rows = self.driver.query(&self.queries.read, &[&key.as_str()]).await?;
        rows.first().map(|row| Self::record(row, 0)).transpose()
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.check(&value, expiry, Operation::Write)?;
        let key = key.as_str();
        let written = match (Life::new(expiry), self.layout) {
            (Life::Over, _) => self.driver.execute(&self.queries.delete, &[&key]).await,
            (Life::Left(left), Layout::Larder(_)) => {
                let (_, column) = draw();
                self.driver.execute(&self.queries.write, &[&key, &Value(&value), &column, &left]).await
            }
            (_, Layout::Grammy) => self.driver.execute(&self.queries.write, &[&key, &Value(&value)]).await,
        };
        written.map(drop)
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        Ok(self.driver.execute(&self.queries.delete, &[&key.as_str()]).await? > 0)
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        self.check(&value, expiry, Operation::WriteIf)?;
        let life = Life::new(expiry);
        let written = match &condition {
            Condition::Absent => self.write_absent(key.as_str(), &value, life).await?,
            Condition::At(version) => self.write_at(key.as_str(), &value, life, version).await?,
        };
        written.ok_or_else(|| self.conflict(Operation::WriteIf))
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        match self.delete_at(key.as_str(), version).await? {
            true => Ok(()),
            false => Err(self.conflict(Operation::DeleteIf)),
        }
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        let Some(query) = &self.queries.touch else {
            return Err(Error::unsupported().with_adapter(NAME).with_operation(Operation::Touch));
        };
        let key = key.as_str();
        let touched = match Life::new(expiry) {
            Life::Over => self.driver.execute(&self.queries.delete, &[&key]).await?,
            Life::Left(left) => self.driver.execute(query, &[&key, &left]).await?,
        };
        Ok(touched > 0)
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        let Some(query) = &self.queries.ttl else {
            return Err(Error::unsupported().with_adapter(NAME).with_operation(Operation::Ttl));
        };
        let rows = self.driver.query(query, &[&key.as_str()]).await?;
        rows.first().map(|row| remaining(row, 0)).transpose()
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        Ok(!self.driver.query(&self.queries.contains, &[&key.as_str()]).await?.is_empty())
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        let mut found = HashMap::with_capacity(keys.len());
        for chunk in keys.chunks(CHUNK) {
            let names: Vec<&str> = chunk.iter().map(Key::as_str).collect();
            for row in self.driver.query(&self.queries.read_many, &[&names]).await? {
                let key: String = row.try_get(0).map_err(|_| corrupt())?;
                found.insert(key, Self::record(&row, 1)?);
            }
        }
        Ok(keys.iter().map(|key| found.get(key.as_str()).cloned()).collect())
    }

    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        self.write_batches(writes).await
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        self.delete_batches(keys, CHUNK).await
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        self.list_keys(prefix)
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        self.list_entries(prefix)
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        self.clear_range(prefix).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        let Some(query) = &self.queries.purge else {
            return Ok(0);
        };
        let mut purged = 0;
        loop {
            let deleted = self.driver.execute(query, &[]).await?;
            purged += deleted;
            if deleted < DELETE_CHUNK {
                return Ok(purged);
            }
        }
    }

    async fn ping(&self) -> Result<()> {
        self.driver.query(&queries::ping(), &[]).await.map(drop)
    }

    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    async fn close(&self) -> Result<()> {
        self.driver.close();
        Ok(())
    }
}

/// The column of remaining milliseconds.
pub(crate) fn remaining(row: &Row, at: usize) -> Result<Expiry> {
    let millis: Option<i64> = row.try_get(at).map_err(|_| corrupt())?;
    Ok(millis.map_or(Expiry::Never, |millis| Expiry::after_millis(millis.max(1).cast_unsigned())))
}

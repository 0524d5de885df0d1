//! The storage.

use std::{collections::HashMap, slice, sync::Arc};

use larder_core::{
    Action, Applied, Bytes, Change, Condition, DeleteOptions, EntryStream, ErrorKind, Expiry, Info, Key,
    ListOptions, Location, ReadOptions, Record, Result, Storage, TouchOptions, Values, Version, WriteOptions,
    Written, async_trait,
};
use larder_kit::{KeyRange, Ranged, StoredEntry, Sweeper, check_json, ranges, read_chunks, side_by_side};
use sqlx::{Decode, MySql, Row as _, SqlSafeStr, mysql::MySqlRow};

use crate::{
    batch,
    driver::Driver,
    error::from_driver,
    sql::{Call, MAX_ROWS, Sql, token},
};

/// The number of entries that `read_many` reads and touches at once.
const TOUCHES: usize = 8;

/// The identity of the table. The server's own identifier exists only in MySQL, so the time when the table was created
/// distinguishes servers whose other properties are equal.
const LOCATE: &str = "SELECT CONCAT_WS('/', 'mysql:', @@hostname, @@port, @@server_id, @@datadir, table_schema, \
     table_name, create_time) FROM information_schema.tables \
     WHERE table_schema = IFNULL(?, DATABASE()) AND table_name = ?";

/// A storage in a table of a MySQL or MariaDB database.
pub(crate) struct MysqlStorage {
    pub(crate) driver: Arc<Driver>,
    pub(crate) sql: Sql,
    /// The names of the database, if it is not the default of the connections, and of the table.
    pub(crate) names: (Option<String>, String),
    pub(crate) info: Info,
    pub(crate) sweeper: Sweeper,
}

impl MysqlStorage {
    pub(crate) fn driver(&self) -> &Arc<Driver> {
        // The sweeper's runtime may have ended.
        self.sweeper.ensure_running();
        &self.driver
    }

    /// Rejects a value that the column cannot hold.
    pub(crate) fn check(&self, action: &Action) -> Result<()> {
        match action {
            Action::Put(value, _) if self.info.values == Values::JsonText => check_json(value),
            _ => Ok(()),
        }
    }

    /// Makes one change with one statement.
    pub(crate) async fn change(&self, change: &Change) -> Result<Applied> {
        self.check(&change.action)?;
        let version = matches!(change.action, Action::Put(..)).then(Version::unique);
        let token = version.as_ref().and_then(token);
        let done = self.driver().change(|| self.sql.change(change, token)).await?;
        let changed = match (&change.action, &change.condition) {
            (Action::Put(..), Condition::Any) => true,
            // The statement sets this if it finds an entry.
            (Action::Put(..), Condition::Absent) => done.last_insert_id() != u64::MAX,
            _ => done.rows_affected() > 0,
        };
        change.applied(changed, version)
    }

    /// Reads the records that exist. Returns them by key.
    async fn read_together(
        &self,
        keys: &[Key],
        options: &ReadOptions,
    ) -> Result<HashMap<String, Result<Record>>> {
        let rows = self.driver().read(self.sql.read(keys, options.value)).await?;
        rows.iter().map(|row| Ok((column(row, 0)?, record(row, options)))).collect()
    }
}

#[async_trait]
impl Storage for MysqlStorage {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        loop {
            let rows = self.driver().read(self.sql.read(slice::from_ref(key), options.value)).await?;
            let Some(row) = rows.first() else { return Ok(None) };
            let record = record(row, options).map_err(|error| error.with_key(key))?;
            let Some(expiry) = options.touch else { return Ok(Some(record)) };
            // Touched only if it is still as it was read, so that both happen at one time.
            let touch = Change::touch(key.clone(), expiry).on(Condition::At(version(row)?));
            match self.change(&touch).await {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                touched => return touched.map(|_| Some(record.expires(expiry))),
            }
        }
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let put = Change::put(key.clone(), value, options.expiry).on(options.condition.clone());
        Ok(self.change(&put).await?.written())
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let delete = Change::delete(key.clone()).on(options.condition.clone());
        Ok(self.change(&delete).await?.existed())
    }

    fn info(&self) -> Info {
        self.info
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let touch = Change::touch(key.clone(), expiry).on(options.condition.clone());
        Ok(self.change(&touch).await?.existed())
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        if options.touch.is_some() {
            return side_by_side(keys.iter().map(|key| self.read(key, options)), TOUCHES).await;
        }
        read_chunks(keys, MAX_ROWS, 1, |chunk| self.read_together(chunk, options)).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        batch::apply(self, changes).await
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        ranges(self, options, MAX_ROWS)
    }

    async fn purge_expired(&self) -> Result<u64> {
        let mut purged = 0;
        loop {
            let keys = self.driver.read(self.sql.expired()).await?;
            let keys: Vec<Vec<u8>> = keys.iter().map(|row| column(row, 0)).collect::<Result<_>>()?;
            if keys.is_empty() {
                return Ok(purged);
            }
            // Deletes by key, because a range of the index would lock rows between the expired ones.
            let deleted = self
                .driver
                .change(|| self.sql.remove(keys.iter().map(Vec::as_slice), false))
                .await?
                .rows_affected();
            purged += deleted;
            if keys.len() < MAX_ROWS || deleted == 0 {
                return Ok(purged);
            }
        }
    }

    async fn location(&self) -> Result<Option<Location>> {
        let (database, table) = &self.names;
        let locate = Call::prepared(&LOCATE.into_sql_str()).bind(database.as_deref()).bind(table.as_str());
        let rows = self.driver.read(locate).await?;
        rows.first().map(|row| column::<String>(row, 0).map(Location::new)).transpose()
    }

    async fn close(&self) -> Result<()> {
        self.sweeper.stop();
        self.driver.connections.close();
        Ok(())
    }
}

impl Ranged for MysqlStorage {
    async fn read_range(&self, range: KeyRange<'_>) -> Result<Vec<StoredEntry>> {
        let rows = self.driver().read(self.sql.range(range)).await?;
        let options = ReadOptions::new().with_ttl();
        rows.iter().map(|row| Ok((column(row, 0)?, range.values.then(|| record(row, &options))))).collect()
    }
}

/// Returns a column of a row, as text, bytes or a number.
pub(crate) fn column<'r, T: Decode<'r, MySql>>(row: &'r MySqlRow, place: usize) -> Result<T> {
    row.try_get_unchecked(place).map_err(from_driver)
}

/// Returns the record of a row: key, value, version and remaining milliseconds.
pub(crate) fn record(row: &MySqlRow, options: &ReadOptions) -> Result<Record> {
    let mut record = Record::new(Bytes::new());
    if options.value {
        let value: Vec<u8> = column(row, 1)?;
        record = Record::at(value.into(), version(row)?);
    }
    if options.ttl {
        let left: Option<i64> = column(row, 3)?;
        // The row was live when it was read, so its time to live was not zero.
        record = record.expires(Expiry::until(left.map(|millis| millis.max(1)), 0).unwrap_or_default());
    }
    Ok(record)
}

fn version(row: &MySqlRow) -> Result<Version> {
    let token: i64 = column(row, 2)?;
    Ok(Version::from_token(token.cast_unsigned()))
}

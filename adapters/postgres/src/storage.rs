//! The storage.

use std::sync::Arc;

use larder_core::{
    Applied, Bytes, Change, Condition, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions, Location,
    Purge, ReadOptions, Record, Result, Storage, TouchOptions, Values, Version, Versions, WriteOptions,
    Written, async_trait,
};
use larder_kit::{pages, read_chunks};

use crate::{
    batch,
    config::ValueFormat,
    listing::{Walk, clear},
    rows::{Rows, corrupt},
    sql::{DELETE_CHUNK, MAX_KEYS, MAX_VALUE},
    table::PostgresStorage,
};

#[async_trait]
impl Storage for PostgresStorage {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let queries = (&self.sql.read, &self.sql.read_and_touch);
        let rows = self.find(queries, &key.as_str(), options).await?;
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
        self.change(query, key, Some((&value, &version)), *expiry, condition).await?;
        Ok(Written::at(version))
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.change(&self.sql.delete, key, None, Expiry::Never, &options.condition).await
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
        self.change(&self.sql.touch, key, None, expiry, &options.condition).await
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let queries = (&self.sql.read_many, &self.sql.read_and_touch_many);
        let read = async |keys: &[Key]| {
            let names: Vec<&str> = keys.iter().map(Key::as_str).collect();
            Self::records(&self.find(queries, &names, options).await?, options.value)
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
            let rows = self.driver.change(&self.sql.purge, &[&DELETE_CHUNK]).await?;
            let deleted = rows.first().map_or(Ok(0), |row| row.try_get::<_, i64>(0)).map_err(corrupt)?;
            purged += deleted.cast_unsigned();
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

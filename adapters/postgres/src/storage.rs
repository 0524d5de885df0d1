//! The storage.

use std::{fmt, sync::Arc};

use larder_core::{
    Applied, Bytes, Change, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions, Purge, ReadOptions,
    Record, Result, Storage, TouchOptions, Values, Versions, WriteOptions, Written, async_trait,
};
use larder_kit::{Sweeper, pages, read_chunks};

use crate::{
    batch,
    config::{Layout, NAME, ValueFormat},
    driver::Params,
    listing::Walk,
    queries::query,
    table::{Table, millis},
    value::Value,
};

/// How many keys one statement names.
const CHUNK: usize = 1_000;

/// Entries in a table of a PostgreSQL database.
pub struct PostgresStorage {
    pub(crate) table: Arc<Table>,
    pub(crate) sweeper: Sweeper,
}

impl PostgresStorage {
    /// The table. Starts the sweeper again if its runtime has gone.
    fn table(&self) -> &Table {
        self.sweeper.ensure_running();
        &self.table
    }
}

#[async_trait]
impl Storage for PostgresStorage {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let table = self.table();
        let rows = table.select(&table.queries.read, &key.as_str(), options).await?;
        rows.first().map(|row| table.record(row, options.value)).transpose()
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let table = self.table();
        table.check(&value)?;
        let (version, column) = table.next_version(&value);
        let params: Params<'_> = &[&key.as_str(), &Value(&value), &column, &millis(options.expiry)];
        table.change(&table.queries.write, &options.condition, params).await?;
        Ok(Written::at(version))
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let table = self.table();
        table.change(&table.queries.delete, &options.condition, &[&key.as_str()]).await
    }

    fn info(&self) -> Info {
        let info = Info::minimal(NAME).with_persistence().with_sharing();
        // Postgres stops at 1 GiB for a message and for a field; a parsed `jsonb` array or object at
        // 256 MiB. What lies between these limits and ours is room for the rest of the message.
        let info = match self.table.values {
            ValueFormat::Bytea => info.with_values(Values::Bytes).with_max_value(1_000_000_000),
            ValueFormat::Jsonb => info.with_values(Values::Json).with_max_value(250_000_000),
            ValueFormat::Json | ValueFormat::Text => {
                info.with_values(Values::JsonText).with_max_value(1_000_000_000)
            }
        };
        let info = match self.table.layout {
            Layout::Larder => info
                .with_ordered_listing()
                .with_expiry()
                .with_versions(Versions::Unique)
                .with_purge(Purge::Sweep),
            Layout::Grammy => info.with_listing().with_versions(Versions::Content),
        };
        if self.table.driver.fenced { info.with_fencing() } else { info }
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let table = self.table();
        table.change(&table.queries.touch, &options.condition, &[&key.as_str(), &millis(expiry)]).await
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        read_chunks(keys, CHUNK, 1, |chunk| self.table().read_many(chunk, options)).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        batch::apply(self, self.table(), changes).await
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        pages(Walk::new(Arc::clone(&self.table), &options))
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        self.table.clear(prefix).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.table.purge_expired().await
    }

    async fn ping(&self) -> Result<()> {
        self.table.driver.query(&query("SELECT 1", &[]), &[]).await.map(drop)
    }

    async fn close(&self) -> Result<()> {
        self.sweeper.stop();
        self.table.driver.close();
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

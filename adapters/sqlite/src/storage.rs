//! The storage.

use std::{fmt, sync::Arc};

use larder_core::{
    Action, Applied, Bytes, Change, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions, ReadOptions,
    Record, Result, Storage, TouchOptions, WriteOptions, Written, async_trait,
};
use larder_kit::{Batch, Limits, Sweeper, check_json, pages, read_chunks};

use crate::{
    config::ValueFormat,
    listing::Listing,
    sql::MAX_ROWS,
    table::{Table, draw, written},
};

/// How many keys one statement reads at most.
const MAX_KEYS: usize = 512;
/// How much one transaction changes at most.
const LIMITS: Limits = Limits { entries: MAX_ROWS, bytes: 8 << 20 };

/// A storage in an SQLite database.
pub struct SqliteStorage {
    pub(crate) table: Arc<Table>,
    pub(crate) info: Info,
    pub(crate) format: ValueFormat,
    pub(crate) sweeper: Sweeper,
}

impl SqliteStorage {
    /// The table, for a write. Starts the sweeper again if its runtime has gone.
    fn table(&self) -> &Table {
        self.sweeper.ensure_running();
        &self.table
    }

    /// The table, for a read. One that touches is a write.
    fn table_for(&self, options: &ReadOptions) -> &Table {
        if options.touch.is_some() { self.table() } else { &self.table }
    }

    fn check(&self, value: &[u8]) -> Result<()> {
        if self.format == ValueFormat::Json { check_json(value) } else { Ok(()) }
    }
}

#[async_trait]
impl Storage for SqliteStorage {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        self.table_for(options).read(key, options).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.check(&value)?;
        let version = draw();
        let action = Action::Put(value, options.expiry);
        self.table().change(key, action, &options.condition, version).await?;
        Ok(written(version))
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.table().change(key, Action::Delete, &options.condition, 0).await
    }

    fn info(&self) -> Info {
        self.info
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.table().change(key, Action::Touch(expiry), &options.condition, 0).await
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        read_chunks(keys, MAX_KEYS, |chunk| self.table_for(options).read_many(chunk, options)).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let check = |change: &Change| match &change.action {
            Action::Put(value, _) => self.check(value),
            Action::Delete | Action::Touch(_) => Ok(()),
        };
        let mut batch = Batch::checked(changes, LIMITS, check);
        while let Some(round) = batch.next_round() {
            let outcome = self.table().apply(round.changes()).await;
            batch.done(round, outcome);
        }
        batch.into_results()
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        pages(Listing::new(Arc::clone(&self.table), options))
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.table.purge().await
    }

    async fn ping(&self) -> Result<()> {
        self.table.ping().await
    }

    async fn flush(&self) -> Result<()> {
        // A write is acknowledged once it is committed.
        self.table.connections.check_file()
    }

    async fn close(&self) -> Result<()> {
        self.sweeper.stop();
        self.table.connections.close().await
    }
}

impl fmt::Debug for SqliteStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStorage")
            .field("info", &self.info)
            .field("sweeper", &self.sweeper)
            .finish_non_exhaustive()
    }
}

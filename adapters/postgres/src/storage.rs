//! The storage.

use std::sync::Arc;

use larder_core::{
    Applied, Bytes, Change, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions, Location,
    ReadOptions, Record, Result, Storage, TouchOptions, WriteOptions, Written, async_trait,
};
use larder_kit::{pages, read_chunks};

use crate::{
    batch,
    listing::{Walk, clear},
    model::{Model, corrupt},
    sql::{DELETE_CHUNK, MAX_KEYS},
    table::TableStorage,
};

#[async_trait]
impl<M: Model> Storage for TableStorage<M> {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let queries = (&self.sql.read, &self.sql.read_and_touch);
        let rows = self.find(queries, &key.as_str(), options).await?;
        rows.first().map(|row| M::record(row, options.value)).transpose()
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        self.model.check(&value)?;
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
        read_chunks(keys, MAX_KEYS, 1, |chunk| self.read_together(chunk, options)).await
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

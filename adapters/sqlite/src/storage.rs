//! The storage.

use std::{slice, sync::Arc};

use larder_core::{
    Action, Applied, Bytes, Change, DeleteOptions, EntryStream, ErrorKind, Expiry, Info, Key, ListOptions,
    Location, ReadOptions, Record, Result, Storage, TouchOptions, Version, WriteOptions, Written,
    async_trait,
};
use larder_kit::{pages, read_chunks};

use crate::{
    batch,
    listing::Listing,
    purge,
    table::{SqliteStorage, record},
};

/// The maximum number of keys that one statement reads.
const MAX_KEYS: usize = 512;

#[async_trait]
impl Storage for SqliteStorage {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let row = match options.touch {
            None => self.fetch_one(self.sql.read(key, options.value, options.ttl)).await?,
            Some(_) => self.fetch_many(slice::from_ref(key), options).await?.pop(),
        };
        row.map(|row| record(&row, options)).transpose().map_err(|error| error.with_key(key))
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let action = Action::Put(value, options.expiry);
        self.check(&action)?;
        let version = Version::unique();
        self.change(key, action, &options.condition, Some(&version)).await?;
        Ok(Written::at(version))
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.change(key, Action::Delete, &options.condition, None).await
    }

    fn info(&self) -> Info {
        self.info
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.change(key, Action::Touch(expiry), &options.condition, None).await
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let mut results = read_chunks(keys, MAX_KEYS, 1, |chunk| self.read_together(chunk, options)).await;
        for (key, result) in keys.iter().zip(&mut results) {
            // A damaged page fails all rows that are read together, so read each alone.
            if result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Corrupt) {
                *result = self.read(key, options).await;
            }
        }
        results
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        batch::apply(self, changes).await
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        pages(Listing::new(self, options))
    }

    async fn purge_expired(&self) -> Result<u64> {
        purge::all(self).await
    }

    async fn location(&self) -> Result<Option<Location>> {
        Ok(self.location.clone())
    }

    async fn flush(&self) -> Result<()> {
        // Writes are acknowledged after their commit.
        self.connections.check_file()
    }

    async fn close(&self) -> Result<()> {
        self.sweeper.stop();
        self.connections.close().await
    }
}

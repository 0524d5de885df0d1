//! Reads listings page by page. A listing holds no connection between pages.

use std::sync::Arc;

use larder_core::{Entry, ListOptions, ReadOptions, Result};
use larder_kit::{PageSize, Pager, prefix_end, stored_key};
use sqlx::{Row, mysql::MySqlRow};

use crate::{
    error::from_driver,
    storage::{MysqlStorage, record},
};

/// The maximum number of rows in a page.
const MAX_PAGE: usize = 512;
/// The number of rows in the first page of entries, whose size is not known yet.
const FIRST_PAGE: usize = 16;

/// A running listing.
pub(crate) struct Listing {
    storage: Arc<MysqlStorage>,
    options: ListOptions,
    /// The first possible key of the next page; `None` at the end.
    from: Option<Vec<u8>>,
    /// The end of the range of keys that begin with the prefix.
    end: Option<String>,
    size: PageSize,
}

impl Listing {
    pub(crate) fn new(storage: Arc<MysqlStorage>, options: ListOptions) -> Self {
        let after = options.start_after.as_ref().map(|key| next(key.as_bytes())).unwrap_or_default();
        Self {
            from: Some(after.max(options.prefix.clone().into_bytes())),
            end: prefix_end(&options.prefix),
            size: PageSize::new(if options.values { FIRST_PAGE } else { MAX_PAGE }, MAX_PAGE),
            storage,
            options,
        }
    }

    fn entry(&self, row: &MySqlRow, key: Vec<u8>) -> Result<Entry> {
        let key = stored_key(key)?;
        if !self.options.values {
            return Ok(Entry::key(key));
        }
        let record = record(row, &ReadOptions::new().with_ttl()).map_err(|error| error.with_key(&key))?;
        Ok(Entry::new(key, record))
    }
}

impl Pager for Listing {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        let Some(from) = self.from.take() else { return Ok(None) };
        let limit = self.options.page(self.size.entries());
        let page = self.storage.sql.page(self.options.values, &from, self.end.as_deref(), limit);
        let mut entries = Vec::new();
        for row in self.storage.driver().read(page).await? {
            let key: Vec<u8> = row.try_get_unchecked(0).map_err(|error| from_driver(&error))?;
            if entries.len() + 1 == limit {
                self.from = Some(next(&key));
            }
            entries.push(self.entry(&row, key));
        }
        let records = entries.iter().flatten().filter_map(|entry| entry.record.as_ref());
        self.size.adapt(entries.len(), records.map(|record| record.value.len()).sum());
        Ok(Some(entries))
    }
}

/// Returns the key that directly follows this one in byte order.
fn next(key: &[u8]) -> Vec<u8> {
    [key, b"\0"].concat()
}

//! Reads listings page by page.

use std::sync::Arc;

use larder_core::{Entry, Error, ErrorKind, ListOptions, ReadOptions, Result};
use larder_kit::{PageSize, Pager, prefix_end, stored_key};
use sqlx::{Row, SqlStr, sqlite::SqliteRow};

use crate::{
    error::from_driver,
    table::{SqliteStorage, record},
};

/// The maximum number of rows in a page.
const MAX_PAGE: usize = 512;
/// The number of rows in the first page of entries, whose size is not known yet.
const FIRST_PAGE: usize = 16;

/// A running listing.
pub(crate) struct Listing {
    storage: Arc<SqliteStorage>,
    options: ListOptions,
    rows: Rows,
    /// The first possible key of the next page.
    from: Vec<u8>,
    /// The end of the range of keys that begin with the prefix.
    end: Option<String>,
    size: PageSize,
}

/// The rows that a listing reads next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    Texts,
    /// Rows whose keys are blobs or null: no range of texts includes them.
    Others,
    End,
}

/// A key, and its row unless it has expired.
type Found = (Vec<u8>, Result<Option<SqliteRow>>);

impl Listing {
    pub(crate) fn new(storage: Arc<SqliteStorage>, options: ListOptions) -> Self {
        let after = options.start_after.as_ref().map(|key| next(key.as_bytes())).unwrap_or_default();
        Self {
            rows: Rows::Texts,
            from: after.max(options.prefix.clone().into_bytes()),
            end: prefix_end(&options.prefix),
            size: PageSize::new(if options.values { FIRST_PAGE } else { MAX_PAGE }, MAX_PAGE),
            storage,
            options,
        }
    }

    async fn page(&self, sql: &SqlStr, limit: usize) -> Result<Vec<Found>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let call = sqlx::query(sql.clone()).bind(&self.from).bind(self.end.as_deref()).bind(limit);
        let key = |row: &SqliteRow| row.try_get_unchecked::<Option<_>, _>(row.len() - 1).map_err(from_driver);
        let rows = self.storage.fetch(call).await?.into_iter();
        rows.map(|row| Ok((key(&row)?.unwrap_or_default(), Ok(Some(row))))).collect()
    }

    /// Reads a page with a damaged row: takes the keys from the index, and reads each row alone.
    async fn row_by_row(&self, limit: usize) -> Result<Vec<Found>> {
        let sql = &self.storage.sql;
        let mut found = self.page(&sql.index, limit).await?;
        for (key, row) in &mut found {
            let Ok(key) = stored_key(&*key) else { continue };
            *row = match self.storage.fetch_one(sql.read(&key, self.options.values, true)).await {
                Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
                row => row,
            };
        }
        Ok(found)
    }

    fn entry(&self, (key, row): Found) -> Result<Option<Entry>> {
        if self.rows == Rows::Others {
            let message = "the key of a row is not text; the row was skipped";
            return Err(Error::new(ErrorKind::InvalidKey, message).with_stored_name(key));
        }
        let key = stored_key(key)?;
        let Some(row) = row.map_err(|error| error.with_key(&key))? else { return Ok(None) };
        if !self.options.values {
            return Ok(Some(Entry::key(key)));
        }
        let record = record(&row, &ReadOptions::new().with_ttl()).map_err(|error| error.with_key(&key))?;
        Ok(Some(Entry::new(key, record)))
    }
}

impl Pager for Listing {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        let sql = &self.storage.sql;
        let page = match self.rows {
            Rows::Texts if self.options.values => &sql.entries,
            Rows::Texts => &sql.keys,
            Rows::Others => &sql.others,
            Rows::End => return Ok(None),
        };
        let limit = self.options.page(self.size.entries());
        let found = match self.page(page, limit).await {
            Err(error) if self.rows == Rows::Texts && error.kind() == ErrorKind::Corrupt => {
                self.row_by_row(limit).await?
            }
            found => found?,
        };
        let count = found.len();
        let full = found.last().filter(|_| count >= limit).map(|(last, _)| next(last));
        let entries: Vec<_> = found.into_iter().filter_map(|found| self.entry(found).transpose()).collect();
        let records = entries.iter().flatten().filter_map(|entry| entry.record.as_ref());
        self.size.adapt(count, records.map(|record| record.value.len()).sum());
        self.from = full.unwrap_or_else(|| {
            self.rows = if self.rows == Rows::Texts { Rows::Others } else { Rows::End };
            self.options.prefix.clone().into_bytes()
        });
        Ok(Some(entries))
    }
}

/// Returns the key that directly follows this one in byte order.
fn next(key: &[u8]) -> Vec<u8> {
    [key, b"\0"].concat()
}

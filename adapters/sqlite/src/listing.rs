//! Listings, page by page.

use std::sync::Arc;

use larder_core::{Entry, Error, ErrorKind, ListOptions, ReadOptions, Result};
use larder_kit::{PageSize, Pager, prefix_end, stored_key};
use sqlx::{Row, SqlStr, sqlite::SqliteRow};

use crate::{
    error::from_driver,
    sql::Call,
    table::{Table, record},
};

/// How many rows a page has at most.
const MAX_PAGE: usize = 512;
/// How many the first page of entries has, whose size is not known yet.
const FIRST_PAGE: usize = 16;

/// A listing under way.
pub(crate) struct Listing {
    table: Arc<Table>,
    options: ListOptions,
    rows: Rows,
    /// The prefix, then the last key of the page before.
    from: Vec<u8>,
    /// Whether the next page may begin with that key.
    inclusive: bool,
    /// The end of the keys with the prefix.
    end: Option<String>,
    size: PageSize,
}

/// The rows that a listing reads next.
#[derive(Clone, Copy)]
enum Rows {
    Texts,
    /// Their keys are blobs, which no range of texts includes.
    Blobs,
    /// They have no key, and no range includes them.
    Nulls,
    End,
}

/// A key, and its row unless that has expired.
type Found = (Vec<u8>, Result<Option<SqliteRow>>);

impl Listing {
    pub(crate) fn new(table: Arc<Table>, options: ListOptions) -> Self {
        let after = options.start_after.as_ref().filter(|key| key.as_str() >= &*options.prefix);
        Self {
            rows: Rows::Texts,
            from: after.map_or(options.prefix.as_bytes(), |key| key.as_bytes()).to_vec(),
            inclusive: after.is_none(),
            end: prefix_end(&options.prefix),
            size: PageSize::new(if options.values { FIRST_PAGE } else { MAX_PAGE }, MAX_PAGE),
            table,
            options,
        }
    }

    async fn page(&self, sql: &SqlStr, limit: usize) -> Result<Vec<Found>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let call: Call<'_> = sqlx::query(sql.clone()).bind(&self.from).bind(self.end.as_deref()).bind(limit);
        let rows = self.table.fetch(call.bind(self.inclusive)).await?;
        rows.into_iter()
            .map(|row| Ok((row.try_get_unchecked(row.len() - 1).map_err(from_driver)?, Ok(Some(row)))))
            .collect()
    }

    /// Reads a page of which a row is damaged: the keys from their index, and each row on its own.
    async fn row_by_row(&self, one: &SqlStr, limit: usize) -> Result<Vec<Found>> {
        let mut found = self.page(&self.table.sql.index, limit).await?;
        for (key, row) in &mut found {
            *row = match self.table.fetch(sqlx::query(one.clone()).bind(&*key)).await {
                Err(error) if error.kind() != ErrorKind::Corrupt => return Err(error),
                rows => rows.map(|mut rows| rows.pop()),
            };
        }
        Ok(found)
    }

    fn entry(&self, (key, row): Found) -> Result<Option<Entry>> {
        if matches!(self.rows, Rows::Blobs) {
            return Err(not_text().with_stored_name(key));
        }
        let key = stored_key(key)?;
        let Some(row) = row.map_err(|error| error.with_key(&key))? else { return Ok(None) };
        if !self.options.values {
            return Ok(Some(Entry::key(key)));
        }
        let record = record(&row, &ReadOptions::new().with_ttl()).map_err(|error| error.with_key(&key))?;
        Ok(Some(Entry::new(key, record)))
    }

    /// An error for each row that has no key.
    async fn nulls(&self) -> Result<Vec<Result<Entry>>> {
        let rows = self.table.fetch(sqlx::query(self.table.sql.nulls.clone())).await?;
        let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0)).map_err(from_driver)?;
        Ok((0..count).map(|_| Err(not_text())).collect())
    }
}

impl Pager for Listing {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        let sql = &self.table.sql;
        let (page, one) = match self.rows {
            Rows::Texts if self.options.values => (&sql.entries, Some(&sql.entry)),
            Rows::Texts => (&sql.keys, Some(&sql.key)),
            Rows::Blobs => (&sql.blobs, None),
            Rows::Nulls => {
                self.rows = Rows::End;
                return self.nulls().await.map(Some);
            }
            Rows::End => return Ok(None),
        };
        let limit = self.options.page(self.size.entries());
        let found = match (self.page(page, limit).await, one) {
            (Err(error), Some(one)) if error.kind() == ErrorKind::Corrupt => {
                self.row_by_row(one, limit).await?
            }
            (found, _) => found?,
        };
        let count = found.len();
        let last = found.last().map(|(key, _)| key.clone());
        let entries: Vec<_> = found.into_iter().filter_map(|found| self.entry(found).transpose()).collect();
        let records = entries.iter().flatten().filter_map(|entry| entry.record.as_ref());
        let bytes = records.map(|record| record.value.len()).sum();
        if bytes > 0 {
            self.size.adapt(count, bytes);
        }
        match last {
            Some(last) if count == limit => (self.from, self.inclusive) = (last, false),
            _ => {
                self.rows = match self.rows {
                    Rows::Texts => Rows::Blobs,
                    Rows::Blobs if self.options.prefix.is_empty() => Rows::Nulls,
                    _ => Rows::End,
                };
                (self.from, self.inclusive) = (self.options.prefix.as_bytes().to_vec(), true);
            }
        }
        Ok(Some(entries))
    }
}

fn not_text() -> Error {
    Error::new(ErrorKind::InvalidKey, "there is a row whose key is not text; it is left alone")
}

//! Listings, page by page.

use std::sync::Arc;

use larder_core::{Entry, Error, ErrorKind, ListOptions, ReadOptions, Result};
use larder_kit::{PageSize, Pager, prefix_end, stored_key};
use sqlx::{Row, SqlStr, sqlite::SqliteRow};

use crate::{
    error::from_driver,
    sql::{Call, Page},
    table::{MAX_REMOVED, Table, record},
};

/// How many rows a page has at most.
const MAX_PAGE: usize = 512;
/// How many the first page of entries has, whose size is not known yet.
const FIRST_PAGE: usize = 16;

/// The position of a listing in a range of keys.
struct Cursor {
    /// The prefix, then the last key of the page before.
    after: Vec<u8>,
    end: Option<String>,
    begun: bool,
}

impl Cursor {
    fn new(prefix: &str) -> Self {
        Self { after: prefix.into(), end: prefix_end(prefix), begun: false }
    }

    /// Goes on after this key.
    fn advance(&mut self, key: Vec<u8>) {
        self.after = key;
        self.begun = true;
    }

    /// The statement for the next page.
    fn next(&self, page: &Page, limit: usize) -> Call<'_> {
        let sql = if self.begun { &page.next } else { &page.first };
        self.bind(sql, i64::try_from(limit).unwrap_or(i64::MAX))
    }

    fn bind(&self, sql: &SqlStr, limit: i64) -> Call<'_> {
        sqlx::query(sql.clone()).bind(self.after.clone()).bind(self.end.as_deref()).bind(limit)
    }
}

/// A listing under way.
pub(crate) struct Listing {
    table: Arc<Table>,
    options: ListOptions,
    cursor: Cursor,
    size: PageSize,
    rows: Rows,
}

/// The rows that a listing reads next.
enum Rows {
    Texts,
    /// Their keys are blobs, which no range of texts includes.
    Blobs,
    /// They have no key, and no range includes them.
    Nulls,
    End,
}

impl Listing {
    pub(crate) fn new(table: Arc<Table>, options: ListOptions) -> Self {
        let mut cursor = Cursor::new(&options.prefix);
        if let Some(key) = options.start_after.as_ref().filter(|key| key.as_str() >= &*options.prefix) {
            cursor.advance(key.as_bytes().to_vec());
        }
        let size = PageSize::new(if options.values { FIRST_PAGE } else { MAX_PAGE }, MAX_PAGE);
        Self { table, options, cursor, size, rows: Rows::Texts }
    }

    /// Reads a page of which a row is damaged: the keys from their index, and each row on its own. Returns
    /// how many there were.
    async fn row_by_row(&mut self, one: &SqlStr, limit: usize) -> Result<(Vec<Result<Entry>>, usize)> {
        let table = Arc::clone(&self.table);
        let keys = table.fetch(self.cursor.next(&table.sql.index, limit)).await?;
        let mut entries = Vec::with_capacity(keys.len());
        for row in &keys {
            let key = last_column(row)?;
            self.cursor.advance(key.clone());
            match table.fetch(sqlx::query(one.clone()).bind(key.clone())).await {
                Ok(rows) => entries.extend(rows.iter().map(|row| self.entry(key.clone(), row))),
                Err(error) if error.kind() == ErrorKind::Corrupt => {
                    entries.push(stored_key(key).and_then(|key| Err(error.with_key(&key))));
                }
                Err(error) => return Err(error),
            }
        }
        Ok((entries, keys.len()))
    }

    fn entry(&self, key: Vec<u8>, row: &SqliteRow) -> Result<Entry> {
        let key = match self.rows {
            Rows::Texts => stored_key(key)?,
            _ => return Err(not_text().with_stored_name(key)),
        };
        if !self.options.values {
            return Ok(Entry::key(key));
        }
        match record(row, &ReadOptions::new().with_ttl()) {
            Ok(record) => Ok(Entry::new(key, record)),
            Err(error) => Err(error.with_key(&key)),
        }
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
        let table = Arc::clone(&self.table);
        let page = match self.rows {
            Rows::Texts if self.options.values => &table.sql.entries,
            Rows::Texts => &table.sql.keys,
            Rows::Blobs => &table.sql.blobs,
            Rows::Nulls => {
                self.rows = Rows::End;
                return self.nulls().await.map(Some);
            }
            Rows::End => return Ok(None),
        };
        let limit = self.options.page(self.size.entries());
        let (entries, count) = match (table.fetch(self.cursor.next(page, limit)).await, &page.one) {
            (Err(error), Some(one)) if error.kind() == ErrorKind::Corrupt => {
                self.row_by_row(one, limit).await?
            }
            (rows, _) => {
                let rows = rows?;
                let mut entries = Vec::with_capacity(rows.len());
                let mut bytes = 0;
                for row in &rows {
                    let key = last_column(row)?;
                    if row.len() > 1 {
                        bytes += row.try_get_unchecked::<&[u8], _>(0).map_or(0, <[u8]>::len);
                    }
                    self.cursor.advance(key.clone());
                    entries.push(self.entry(key, row));
                }
                if bytes > 0 {
                    self.size.adapt(rows.len(), bytes);
                }
                (entries, rows.len())
            }
        };
        if count < limit {
            self.rows = match self.rows {
                Rows::Texts => Rows::Blobs,
                Rows::Blobs if self.options.prefix.is_empty() => Rows::Nulls,
                _ => Rows::End,
            };
            self.cursor = Cursor::new(&self.options.prefix);
        }
        Ok(Some(entries))
    }
}

impl Table {
    /// Deletes the rows whose keys begin with `prefix`; returns how many.
    pub(crate) async fn clear(&self, prefix: &str) -> Result<u64> {
        let mut cursor = Cursor::new(prefix);
        let mut cleared = 0;
        loop {
            let rows = self.fetch_changed(cursor.bind(&self.sql.clear, MAX_REMOVED)).await?;
            let now = rows.len() as u64;
            cleared += now;
            if now < MAX_REMOVED.unsigned_abs() {
                return Ok(cleared);
            }
            // Entries that are written again under keys that have been cleared stay.
            let keys = rows.iter().map(last_column).collect::<Result<Vec<_>>>()?;
            cursor.advance(keys.into_iter().max().unwrap_or_default());
        }
    }
}

/// The key, in the last column.
fn last_column(row: &SqliteRow) -> Result<Vec<u8>> {
    row.try_get_unchecked(row.len() - 1).map_err(from_driver)
}

fn not_text() -> Error {
    Error::new(ErrorKind::InvalidKey, "there is a row whose key is not text; it is left alone")
}

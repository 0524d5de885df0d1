//! Reads listings page by page. Each page is a separate statement that begins after the last key of the page before. A
//! listing holds no cursor, transaction or connection between pages.

use std::sync::Arc;

use larder_core::{Entry, Error, ErrorKind, ListOptions, Result};
use larder_kit::{Pager, stored_key};
use tokio_postgres::Row;

use crate::{
    model::{Model, corrupt},
    sql::{DELETE_CHUNK, PAGE},
    table::TableStorage,
    value::Stored,
};

/// A running listing.
pub(crate) struct Walk<M> {
    storage: Arc<TableStorage<M>>,
    /// The bound of the keys, if they have one.
    bound: Option<String>,
    values: bool,
    /// The maximum number of rows in a page.
    rows: usize,
    /// The first key of the next page, and whether that key is excluded because the page before returned it; `None` at
    /// the end.
    next: Option<(String, bool)>,
}

impl<M: Model> Walk<M> {
    pub(crate) fn new(storage: Arc<TableStorage<M>>, options: ListOptions) -> Self {
        let (from, bound) = M::range(&options.prefix);
        let next = match &options.start_after {
            Some(key) if key.as_str() >= &*from => (key.to_string(), true),
            _ => (from, false),
        };
        let rows = options.page(PAGE);
        Self { storage, bound, values: options.values, rows, next: Some(next) }
    }
}

impl<M: Model> Pager for Walk<M> {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        let Some((from, after)) = self.next.take() else { return Ok(None) };
        let pages = self.storage.sql.pages(&self.bound);
        let page = if self.values { &pages.entries } else { &pages.keys };
        let most = self.rows as i64;
        let rows = self.storage.driver().query(page, &[&from, &after, &most, &self.bound]).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let entry = |row: &Row| {
            // In a database without an encoding (SQL_ASCII), the bytes may be invalid UTF-8.
            let Stored(key) = row.try_get(0).map_err(corrupt)?;
            let key = stored_key(key)?;
            Ok(if self.values { Entry::new(key, M::record(row, true)?) } else { Entry::key(key) })
        };
        let mut entries: Vec<_> = rows.iter().map(entry).collect();
        match last.try_get(0) {
            // A page of entries may be short because of large values: only an empty one is the last.
            _ if !self.values && rows.len() < self.rows => {}
            Ok(key) => self.next = Some((key, true)),
            // The next page would have to begin after this key, which the server rejects as a parameter.
            Err(_) => entries.push(Err(Error::new(
                ErrorKind::Other,
                "the listing cannot continue: the key of the last row of a page is not valid UTF-8; delete the row, or \
                 change its key",
            ))),
        }
        Ok(Some(entries))
    }
}

/// Deletes the entries whose keys begin with `prefix`. Returns their number.
pub(crate) async fn clear<M: Model>(storage: &TableStorage<M>, prefix: &str) -> Result<u64> {
    let (mut from, bound) = M::range(prefix);
    let pages = storage.sql.pages(&bound);
    let (mut after, mut cleared) = (false, 0);
    loop {
        let rows = storage.driver().change(&pages.clear, &[&from, &after, &DELETE_CHUNK, &bound]).await?;
        let Some(row) = rows.first() else { return Ok(cleared) };
        cleared += row.try_get::<_, i64>(0).map_err(corrupt)?.cast_unsigned();
        // Entries that are written again under cleared keys stay.
        let Some(last) = row.try_get(1).map_err(corrupt)? else { return Ok(cleared) };
        (from, after) = (last, true);
    }
}

//! Listings: one page after the other, each a statement of its own that begins after the last key of
//! the page before. No cursor, no transaction, no connection held in between.

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

/// A listing under way.
pub(crate) struct Walk<M> {
    storage: Arc<TableStorage<M>>,
    /// The bound of the keys, if there is one.
    bound: Option<String>,
    values: bool,
    /// How many rows to ask for at once.
    rows: usize,
    /// Where the next page begins, and whether after that key, which the page before has returned; `None` at
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
            // In a database without an encoding (SQL_ASCII) the bytes need not be UTF-8.
            let Stored(key) = row.try_get(0).map_err(corrupt)?;
            let key = stored_key(key)?;
            Ok(if self.values { Entry::new(key, M::record(row, true)?) } else { Entry::key(key) })
        };
        let mut entries: Vec<_> = rows.iter().map(entry).collect();
        match last.try_get(0) {
            // A page of entries may be short because its values are long: only an empty one is the last.
            _ if !self.values && rows.len() < self.rows => {}
            Ok(key) => self.next = Some((key, true)),
            // The server refuses to take such a key back, as the beginning of the next page.
            Err(_) => entries.push(Err(Error::new(
                ErrorKind::Other,
                "the listing could not go on: the key of the last row of a page is not text in UTF-8; remove \
                 that row, or give it another key",
            ))),
        }
        Ok(Some(entries))
    }
}

/// Deletes the entries whose keys begin with `prefix`; returns how many.
pub(crate) async fn clear<M: Model>(storage: &TableStorage<M>, prefix: &str) -> Result<u64> {
    let (mut from, bound) = M::range(prefix);
    let pages = storage.sql.pages(&bound);
    let (mut after, mut cleared) = (false, 0);
    loop {
        let rows = storage.driver().change(&pages.clear, &[&from, &after, &DELETE_CHUNK, &bound]).await?;
        let Some(row) = rows.first() else { return Ok(cleared) };
        cleared += row.try_get::<_, i64>(0).map_err(corrupt)?.cast_unsigned();
        // Entries that are written again under keys that have been cleared stay.
        let Some(last) = row.try_get(1).map_err(corrupt)? else { return Ok(cleared) };
        (from, after) = (last, true);
    }
}

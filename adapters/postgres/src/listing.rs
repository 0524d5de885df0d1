//! Listings: one page after the other, each a statement of its own that begins after the last key of
//! the page before. No cursor, no transaction, no connection held in between.

use std::sync::Arc;

use larder_core::{Entry, Error, ErrorKind, ListOptions, Result};
use larder_kit::{Pager, prefix_end, stored_key};
use tokio_postgres::Row;

use crate::{
    config::Layout,
    queries::{DELETE_CHUNK, PAGE},
    table::{Table, corrupt},
    value::Stored,
};

/// A listing under way.
pub(crate) struct Walk {
    table: Arc<Table>,
    values: bool,
    /// How many rows to ask for at once.
    rows: usize,
    /// Where the next page begins, and whether after that key, which the page before has returned; `None` at
    /// the end.
    next: Option<(String, bool)>,
    /// The end of the range or (in grammY's layout) the prefix.
    bound: Option<String>,
}

impl Walk {
    pub(crate) fn new(table: Arc<Table>, options: &ListOptions) -> Self {
        let (from, bound) = range(table.layout, &options.prefix);
        let next = match &options.start_after {
            Some(key) if key.as_str() >= &*from => (key.to_string(), true),
            _ => (from, false),
        };
        Self { table, values: options.values, rows: options.page(PAGE), next: Some(next), bound }
    }
}

impl Pager for Walk {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        let Some((from, after)) = self.next.take() else { return Ok(None) };
        let Table { driver, queries, .. } = &*self.table;
        let (page, key_at) = if self.values { (&queries.entries, 3) } else { (&queries.keys, 0) };
        let most = self.rows as i64;
        let rows = driver.query(page.to(&self.bound), &[&from, &after, &most, &self.bound]).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        let entry = |row: &Row| {
            // In a database without an encoding (SQL_ASCII) the bytes need not be UTF-8.
            let Stored(key) = row.try_get(key_at).map_err(corrupt)?;
            let key = stored_key(key)?;
            Ok(if self.values { Entry::new(key, self.table.record(row, true)?) } else { Entry::key(key) })
        };
        let mut entries: Vec<_> = rows.iter().map(entry).collect();
        match last.try_get::<_, String>(key_at) {
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

impl Table {
    /// Deletes the entries whose keys begin with `prefix`; returns how many.
    pub(crate) async fn clear(&self, prefix: &str) -> Result<u64> {
        let (mut from, bound) = range(self.layout, prefix);
        let (mut after, mut cleared) = (false, 0);
        let (page, most) = (self.queries.clear.to(&bound), DELETE_CHUNK as i64);
        loop {
            let rows = self.driver.change(page, &[&from, &after, &most, &bound]).await?.rows;
            let Some(row) = rows.first() else { return Ok(cleared) };
            let count = |at: usize| row.try_get::<_, i64>(at).map_err(corrupt);
            cleared += count(0)?.cast_unsigned();
            match row.try_get::<_, Option<String>>(2).map_err(corrupt)? {
                // Entries that are written again under keys that have been cleared stay.
                Some(last) if count(1)? == most => (from, after) = (last, true),
                _ => return Ok(cleared),
            }
        }
    }
}

/// Where the keys with this prefix begin, and their end or (in grammY's layout) the prefix.
fn range(layout: Layout, prefix: &str) -> (String, Option<String>) {
    match layout {
        Layout::Larder => (prefix.to_owned(), prefix_end(prefix)),
        Layout::Grammy => (String::new(), Some(prefix.to_owned()).filter(|prefix| !prefix.is_empty())),
    }
}

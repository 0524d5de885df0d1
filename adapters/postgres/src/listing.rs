//! Listings: one page after the other, each a statement of its own that begins after the last key of
//! the page before. No cursor, no transaction, no connection held in between.

use std::sync::Arc;

use larder_core::{Entry, Error, ErrorKind, ListOptions, ReadOptions, Result};
use larder_kit::{Pager, prefix_end, stored_key};
use tokio_postgres::Row;

use crate::{
    config::Layout,
    queries::PAGE,
    table::{Table, corrupt, record},
    value::Stored,
};

/// A listing under way.
pub(crate) struct Walk {
    table: Arc<Table>,
    values: bool,
    /// How many rows to ask for at once.
    rows: usize,
    /// The first key of the next page, and one to leave out, which the page before has returned; `None`
    /// at the end.
    next: Option<(String, Option<String>)>,
    /// The end of the range or (in grammY's layout) the prefix.
    bound: Option<String>,
}

impl Walk {
    pub(crate) fn new(table: Arc<Table>, options: &ListOptions) -> Self {
        let prefix = options.prefix.clone();
        let (from, bound) = match table.layout {
            Layout::Larder => (prefix.clone(), prefix_end(&prefix)),
            Layout::Grammy => (String::new(), Some(prefix).filter(|prefix| !prefix.is_empty())),
        };
        let next = match &options.start_after {
            Some(key) if key.as_str() >= &*from => (key.to_string(), Some(key.to_string())),
            _ => (from, None),
        };
        Self { table, values: options.values, rows: options.page(PAGE), next: Some(next), bound }
    }
}

impl Pager for Walk {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        let Some((from, except)) = self.next.take() else {
            return Ok(None);
        };
        let Table { driver, queries, .. } = &*self.table;
        let (page, key_at) = if self.values { (&queries.entries, 3) } else { (&queries.keys, 0) };
        let most = self.rows as i64;
        let rows = match &self.bound {
            Some(bound) => driver.query(&page.bounded, &[&from, &except, &most, bound]).await?,
            None => driver.query(&page.unbounded, &[&from, &except, &most]).await?,
        };
        let Some(last) = rows.last() else {
            return Ok(None);
        };
        let with_ttl = ReadOptions::new().with_ttl();
        let entry = |row: &Row| {
            // In a database without an encoding (SQL_ASCII) the bytes need not be UTF-8.
            let Stored(key) = row.try_get(key_at).map_err(corrupt)?;
            let key = stored_key(key)?;
            Ok(if self.values { Entry::new(key, record(row, &with_ttl)?) } else { Entry::key(key) })
        };
        let mut entries: Vec<_> = rows.iter().map(entry).collect();
        match last.try_get::<_, String>(key_at) {
            // A page of entries may be short because its values are long: only an empty one is the last.
            _ if !self.values && rows.len() < self.rows => {}
            Ok(key) => self.next = Some((key.clone(), Some(key))),
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

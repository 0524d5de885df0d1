//! Listings, page by page.

use futures_util::{Stream, StreamExt, stream};
use larder_core::{Entry, Error, ErrorKind, Expiry, Key, Operation, Result};
use sqlx::{Row, Sqlite, sqlite::SqliteRow};

use crate::{
    NAME,
    database::Database,
    error::from_driver,
    sql::{Page, end_of},
    value::{Column, record},
};

/// How many rows a page has at most.
const MAX_PAGE: usize = 512;
/// How many the first page of entries has, whose size nobody knows yet.
const FIRST_PAGE: usize = 16;
/// How many bytes of values a page should have, by the size of those on the page before.
const PAGE_BYTES: usize = 1024 * 1024;

/// How far a listing has come.
pub(crate) struct Cursor {
    /// The prefix, then the last key of the page before.
    after: Vec<u8>,
    end: Option<String>,
    begun: bool,
    limit: usize,
}

impl Cursor {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { after: prefix.into(), end: end_of(prefix), begun: false, limit: MAX_PAGE }
    }

    /// Where the range begins: what a key is not less than, or greater than once a page is read.
    pub(crate) fn start(&self) -> Vec<u8> {
        self.after.clone()
    }

    /// What the keys of the range are less than. Every text is less than a blob.
    pub(crate) fn end(&self) -> Column {
        self.end.clone().map_or_else(|| Column::Blob(Vec::new()), Column::Text)
    }

    /// Goes on after this key.
    pub(crate) fn advance(&mut self, key: Vec<u8>) {
        self.after = key;
        self.begun = true;
    }
}

impl Database {
    pub(crate) fn list_keys(&self, prefix: &str) -> impl Stream<Item = Result<Key>> + Send + '_ {
        let cursor = Cursor::new(prefix);
        self.list(cursor, &self.sql.keys, Operation::Keys, |key, _| parse(key))
    }

    pub(crate) fn list_entries(&self, prefix: &str) -> impl Stream<Item = Result<Entry>> + Send + '_ {
        let cursor = Cursor { limit: FIRST_PAGE, ..Cursor::new(prefix) };
        self.list(cursor, &self.sql.entries, Operation::Entries, |key, row| {
            let record = record(row, 1)?;
            let left: Option<i64> = row.try_get_unchecked(3).map_err(from_driver)?;
            // The row was live when it was read, so there was time left.
            let expiry = Expiry::until(left.map(|millis| millis.max(1)), 0).unwrap_or_default();
            Ok(Entry::new(parse(key)?, record, expiry))
        })
    }

    fn list<'a, T: Send + 'a>(
        &'a self,
        cursor: Cursor,
        page: &'a Page,
        operation: Operation,
        decode: fn(Vec<u8>, &SqliteRow) -> Result<T>,
    ) -> impl Stream<Item = Result<T>> + Send + 'a {
        stream::unfold(Some(cursor), move |cursor| async move {
            let mut cursor = cursor?;
            let (items, more) = match self.page(&mut cursor, page, operation, decode).await {
                Ok(read) => read,
                Err(error) => (vec![Err(whole(error).with_operation(operation))], false),
            };
            Some((stream::iter(items), more.then_some(cursor)))
        })
        .flatten()
    }

    /// Reads one page, and says whether there may be another. The connection is given back with it.
    async fn page<T>(
        &self,
        cursor: &mut Cursor,
        page: &Page,
        operation: Operation,
        decode: fn(Vec<u8>, &SqliteRow) -> Result<T>,
    ) -> Result<(Vec<Result<T>>, bool)> {
        let sql = if cursor.begun { &page.next } else { &page.first };
        let limit = cursor.limit;
        let query = sqlx::query::<Sqlite>(sql.clone())
            .bind(cursor.start())
            .bind(cursor.end())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX));
        let mut lease = self.connections.reader(operation).await?;
        let outcome = query.fetch_all(lease.connection()?).await;
        let rows = lease.end(outcome)?;
        let mut bytes = 0;
        let mut items = Vec::with_capacity(rows.len());
        for row in &rows {
            let key: Vec<u8> = row.try_get_unchecked(0).map_err(from_driver)?;
            if row.len() > 1 {
                bytes += row.try_get_unchecked::<&[u8], _>(1).map_or(0, <[u8]>::len);
            }
            cursor.advance(key.clone());
            items.push(decode(key, row).map_err(|error| error.with_operation(operation)));
        }
        if bytes > 0 {
            let size = (bytes / rows.len()).max(1);
            cursor.limit = (PAGE_BYTES / size).clamp(1, MAX_PAGE);
        }
        Ok((items, rows.len() == limit))
    }
}

/// An error that ends the listing. `Corrupt` says of a listing that one entry is damaged, after which
/// there are others.
fn whole(error: Error) -> Error {
    if error.kind() != ErrorKind::Corrupt {
        return error;
    }
    let message = "the listing could not go on: the database file is damaged; restore it from a backup";
    Error::new(ErrorKind::Other, message).with_adapter(NAME).with_source(error)
}

fn parse(key: Vec<u8>) -> Result<Key> {
    String::from_utf8(key).ok().and_then(|text| Key::try_from(text).ok()).ok_or_else(|| {
        Error::new(
            ErrorKind::Corrupt,
            "the table has a row whose key Larder cannot have written (empty, too long, or with control characters)",
        )
        .with_adapter(NAME)
    })
}

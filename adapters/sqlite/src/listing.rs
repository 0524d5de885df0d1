//! Listings, page by page.

use futures_util::{Stream, StreamExt, stream};
use larder_core::{Entry, Error, ErrorKind, Expiry, Key, Operation, Result};
use sqlx::{
    Row, SqlStr, Sqlite,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use crate::{
    NAME,
    database::Database,
    error::{from_driver, is_damage},
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

    /// The query for the next page.
    fn query(&self, page: &Page) -> Query<'static, Sqlite, SqliteArguments> {
        let sql = if self.begun { &page.next } else { &page.first };
        let limit = i64::try_from(self.limit).unwrap_or(i64::MAX);
        sqlx::query(sql.clone()).bind(self.start()).bind(self.end()).bind(limit)
    }

    /// Goes on after this key.
    pub(crate) fn advance(&mut self, key: Vec<u8>) {
        self.after = key;
        self.begun = true;
    }
}

/// The position of a listing.
enum Next {
    Page(Cursor),
    /// Rows whose keys are blobs, which no range of texts has in it.
    Blobs(Cursor),
    /// Rows with no key, which no range has in it.
    Nulls,
    End,
}

impl Database {
    pub(crate) fn list_keys<'a>(&'a self, prefix: &'a str) -> impl Stream<Item = Result<Key>> + Send + 'a {
        let cursor = Cursor::new(prefix);
        self.list(prefix, cursor, &self.sql.keys, Operation::Keys, |key, _| parse(key))
    }

    pub(crate) fn list_entries<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Stream<Item = Result<Entry>> + Send + 'a {
        let cursor = Cursor { limit: FIRST_PAGE, ..Cursor::new(prefix) };
        self.list(prefix, cursor, &self.sql.entries, Operation::Entries, |key, row| {
            let key = parse(key)?;
            let read = || {
                let left: Option<i64> = row.try_get(3).map_err(from_driver)?;
                Ok((record(row, 1)?, left))
            };
            let (record, left) = read().map_err(|error: Error| error.with_key(&key))?;
            // The row was live when it was read, so there was time left.
            let expiry = Expiry::until(left.map(|millis| millis.max(1)), 0).unwrap_or_default();
            Ok(Entry::new(key, record, expiry))
        })
    }

    fn list<'a, T: Send + 'a>(
        &'a self,
        prefix: &'a str,
        cursor: Cursor,
        page: &'a Page,
        operation: Operation,
        decode: fn(Vec<u8>, &SqliteRow) -> Result<T>,
    ) -> impl Stream<Item = Result<T>> + Send + 'a {
        stream::unfold(Next::Page(cursor), move |next| async move {
            let (outcome, next) = match next {
                Next::Page(mut cursor) => match self.page(&mut cursor, page, operation, decode).await {
                    Ok((items, true)) => (Ok(items), Next::Page(cursor)),
                    Ok((items, false)) => (Ok(items), Next::Blobs(Cursor::new(prefix))),
                    Err(error) => (Err(error), Next::End),
                },
                Next::Blobs(mut cursor) => {
                    let decode = |key: Vec<u8>, _: &SqliteRow| Err(invalid_key().with_stored_name(key));
                    match self.page(&mut cursor, &self.sql.blobs, operation, decode).await {
                        Ok((items, true)) => (Ok(items), Next::Blobs(cursor)),
                        Ok((items, false)) if prefix.is_empty() => (Ok(items), Next::Nulls),
                        outcome => (outcome.map(|(items, _)| items), Next::End),
                    }
                }
                Next::Nulls => (self.nulls(operation).await, Next::End),
                Next::End => return None,
            };
            let items = outcome.unwrap_or_else(|error| vec![Err(whole(error).with_operation(operation))]);
            Some((stream::iter(items), next))
        })
        .flatten()
    }

    /// An error for every row that has no key.
    async fn nulls<T>(&self, operation: Operation) -> Result<Vec<Result<T>>> {
        let query = sqlx::query_scalar::<Sqlite, i64>(self.sql.nulls.clone());
        let mut lease = self.connections.reader(operation).await?;
        let outcome = query.fetch_one(lease.connection()?).await;
        let count = lease.end(outcome)?;
        Ok((0..count).map(|_| Err(invalid_key().with_operation(operation))).collect())
    }

    /// Reads one page, and says whether there may be another. The connection is given back with it.
    async fn page<T>(
        &self,
        cursor: &mut Cursor,
        page: &Page,
        operation: Operation,
        decode: fn(Vec<u8>, &SqliteRow) -> Result<T>,
    ) -> Result<(Vec<Result<T>>, bool)> {
        let limit = cursor.limit;
        let mut lease = self.connections.reader(operation).await?;
        let outcome = cursor.query(page).fetch_all(lease.connection()?).await;
        if let (Some(one), true) = (&page.one, outcome.as_ref().is_err_and(is_damage)) {
            drop(lease);
            return self.page_row_by_row(cursor, one, operation, decode).await;
        }
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

    /// Reads a page of which a row is damaged: the keys from their index, and each row on its own.
    async fn page_row_by_row<T>(
        &self,
        cursor: &mut Cursor,
        one: &SqlStr,
        operation: Operation,
        decode: fn(Vec<u8>, &SqliteRow) -> Result<T>,
    ) -> Result<(Vec<Result<T>>, bool)> {
        let mut lease = self.connections.reader(operation).await?;
        let outcome = cursor.query(&self.sql.index).fetch_all(lease.connection()?).await;
        let keys = lease.end(outcome)?;
        let mut items = Vec::with_capacity(keys.len());
        for row in &keys {
            let key: Vec<u8> = row.try_get_unchecked(0).map_err(from_driver)?;
            let query = sqlx::query::<Sqlite>(one.clone()).bind(key.clone());
            let mut lease = self.connections.reader(operation).await?;
            let outcome = query.fetch_optional(lease.connection()?).await;
            let damaged = outcome.as_ref().is_err_and(is_damage);
            cursor.advance(key.clone());
            let item = match lease.end(outcome) {
                Ok(Some(row)) => decode(key, &row),
                Ok(None) => continue,
                Err(error) if damaged => parse(key).and_then(|key| Err(error.with_key(&key))),
                Err(error) => return Err(error),
            };
            items.push(item.map_err(|error| error.with_operation(operation)));
        }
        Ok((items, keys.len() == cursor.limit))
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
    let text = str::from_utf8(&key).ok().and_then(|text| Key::new(text).ok());
    text.ok_or_else(|| invalid_key().with_stored_name(key))
}

fn invalid_key() -> Error {
    let message = "the table has a row whose key Larder cannot have written (empty, too long, with control \
                   characters, or not text in UTF-8)";
    Error::new(ErrorKind::InvalidKey, message).with_adapter(NAME)
}

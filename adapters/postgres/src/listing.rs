//! Listings: one page after the other, each a statement of its own that begins after the last key of
//! the page before. No cursor, no transaction, no connection held in between.

use futures_util::{StreamExt, stream};
use larder_core::{Entry, EntryStream, Error, ErrorKind, Key, KeyStream, Result};
use tokio_postgres::Row;

use crate::{
    layout::Layout,
    queries::{PAGE, Ranged},
    table::{Table, corrupt, remaining},
    value::Stored,
};

/// The keys that begin with a prefix, as the statements take them.
struct Range {
    from: String,
    /// The last key seen.
    except: Option<String>,
    /// The end or (in grammY's layout) the prefix.
    bound: Option<String>,
}

impl Range {
    /// `None` where no key can begin so.
    fn new(layout: Layout, prefix: &str) -> Option<Self> {
        if prefix.len() > Key::MAX_BYTES || prefix.contains(char::is_control) {
            return None;
        }
        let (from, bound) = match layout {
            Layout::Larder(_) => (prefix.to_owned(), successor(prefix)),
            Layout::Grammy => (String::new(), (!prefix.is_empty()).then(|| prefix.to_owned())),
        };
        Some(Self { from, except: None, bound })
    }

    /// What is left after `key`.
    fn after(self, key: String) -> Self {
        Self { from: key.clone(), except: Some(key), bound: self.bound }
    }
}

/// The first text after all that begin with `prefix`, in the order of the bytes; `None` if there is
/// none.
fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        // The order of UTF-8 is the order of code points; surrogates are none.
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// How far a listing has come.
enum State {
    At(Range),
    End,
}

impl Table {
    async fn page(&self, queries: &Ranged, range: &Range, only_reads: bool) -> Result<Vec<Row>> {
        let (query, params): (_, &[&(dyn tokio_postgres::types::ToSql + Sync)]) = match &range.bound {
            Some(bound) => (&queries.bounded, &[&range.from, &range.except, bound]),
            None => (&queries.unbounded, &[&range.from, &range.except]),
        };
        if only_reads {
            self.driver.query(query, params).await
        } else {
            self.driver.change(query, params).await
        }
    }

    fn list<'a, T: Send + 'a>(
        &'a self,
        prefix: &'a str,
        queries: &'a Ranged,
        decode: fn(&Row) -> Result<T>,
        full: usize,
    ) -> stream::BoxStream<'a, Result<T>> {
        let start = Range::new(self.layout, prefix).map_or(State::End, State::At);
        stream::unfold(start, move |state| async move {
            let State::At(range) = state else {
                return None;
            };
            let rows = match self.page(queries, &range, true).await {
                Ok(rows) => rows,
                Err(error) => return Some((vec![Err(error)], State::End)),
            };
            let last = rows.last()?;
            let mut items: Vec<_> = rows.iter().map(decode).collect();
            let next = match last.try_get::<_, String>(0) {
                _ if rows.len() < full => State::End,
                Ok(key) => State::At(range.after(key)),
                // The server refuses to take such a key back, as the beginning of the next page.
                Err(_) => {
                    let message = "the listing could not go on: the key of the last row of a page is not text in \
                                   UTF-8; remove that row, or give it another key";
                    items.push(Err(Error::new(ErrorKind::Other, message)));
                    State::End
                }
            };
            Some((items, next))
        })
        .flat_map(stream::iter)
        .boxed()
    }

    pub(crate) fn list_keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        self.list(prefix, &self.queries.keys, key, PAGE)
    }

    pub(crate) fn list_entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        // A page may be short because its values are long: only an empty one is the last.
        self.list(prefix, &self.queries.entries, entry, 0)
    }

    pub(crate) async fn clear_range(&self, prefix: &str) -> Result<u64> {
        let Some(mut range) = Range::new(self.layout, prefix) else {
            return Ok(0);
        };
        // A row with an empty key is not an entry, and stays.
        range.except = Some(String::new());
        let mut cleared = 0;
        loop {
            let rows = self.page(&self.queries.clear, &range, false).await?;
            let Some(row) = rows.first() else {
                return Ok(cleared);
            };
            let gone: i64 = row.try_get(0).map_err(|_| corrupt())?;
            cleared += gone.max(0).cast_unsigned();
            match row.try_get::<_, Option<String>>(2).map_err(|_| corrupt())? {
                Some(last) => range = range.after(last),
                None => return Ok(cleared),
            }
        }
    }
}

fn key(row: &Row) -> Result<Key> {
    // In a database without an encoding (SQL_ASCII) the bytes need not be UTF-8.
    let Stored(bytes) = row.try_get(0).map_err(|_| corrupt())?;
    let key = str::from_utf8(&bytes).ok().and_then(|text| Key::new(text).ok());
    key.ok_or_else(|| {
        let message = "the table has a row whose key Larder cannot have written (empty, too long, with control \
                       characters, or not text in UTF-8)";
        Error::new(ErrorKind::InvalidKey, message).with_stored_name(bytes)
    })
}

fn entry(row: &Row) -> Result<Entry> {
    Ok(Entry::new(key(row)?, Table::record(row, 1)?, remaining(row, 3)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_successor_ends_the_range_of_a_prefix() {
        assert_eq!(successor("app:").as_deref(), Some("app;"));
        assert_eq!(successor("a\u{d7ff}").as_deref(), Some("a\u{e000}"));
        assert_eq!(successor("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(successor("\u{10ffff}"), None);
        assert_eq!(successor(""), None);
        for prefix in ["é", "z", "\u{7f}", "\u{7ff}", "\u{ffff}"] {
            let end = successor(prefix).unwrap();
            assert!(end.as_str() > prefix && end.as_str() > format!("{prefix}\u{10ffff}").as_str());
        }
    }

    #[test]
    fn a_prefix_that_no_key_has_finds_nothing() {
        assert!(Range::new(Layout::Grammy, "a\0").is_none());
        assert!(Range::new(Layout::Grammy, &"a".repeat(513)).is_none());
    }
}

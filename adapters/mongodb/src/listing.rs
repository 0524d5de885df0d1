//! Reads listings page by page.
//!
//! Each page is a separate query that begins after the last key of the page before. Both layouts have an index in the
//! order of the keys. The server holds no state between pages, so a stream may pause for any time, and be dropped at
//! any time.

use std::{mem, sync::Arc};

use larder_core::{Entry, Error, ErrorKind, ListOptions, ReadOptions, Result};
use larder_kit::{Pager, stored_key};
use mongodb::bson::{Bson, RawDocumentBuf, doc};

use crate::{
    driver::{DOCUMENTS, Driver, Query},
    model::Model,
};

/// The maximum number of entries with values in one query.
const ENTRIES: usize = 200;
/// The size at which a page ends early.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// A running listing.
pub(crate) struct Listing<M> {
    driver: Arc<Driver>,
    model: M,
    options: ListOptions,
    position: Position,
}

enum Position {
    /// The next page begins after this key, or at the start.
    Keys(Option<String>),
    /// All keys that are strings have been listed. The next page begins after the document with this `_id`.
    Strays(Option<Bson>),
    End,
}

/// Documents in the order of their keys.
pub(crate) struct Page {
    documents: Vec<RawDocumentBuf>,
    /// The keys, as they are stored.
    pub(crate) names: Vec<Result<String>>,
    /// The key after which the next page begins; `None` on the last page.
    pub(crate) last: Option<String>,
}

impl<M: Model> Listing<M> {
    pub(crate) fn new(driver: Arc<Driver>, model: M, options: ListOptions) -> Self {
        let after = options.start_after.as_ref().map(|key| key.as_str().to_owned());
        Self { driver, model, options, position: Position::Keys(after) }
    }

    /// Reads up to `size` documents after the key `after`. With `primary`, reads from the primary, because other
    /// members may lag behind.
    pub(crate) async fn page(&self, after: Option<&str>, size: usize, primary: bool) -> Result<Page> {
        let mut pipeline = M::find_live(M::by_prefix(&self.options.prefix, after));
        pipeline.extend([doc! { "$sort": { M::KEY: 1 } }, doc! { "$limit": size as i64 }]);
        pipeline.extend(M::projection(&self.wanted()));
        let documents = self.driver.find(Query { pipeline, bytes: PAGE_BYTES, primary }).await?;
        let bytes: usize = documents.iter().map(|document| document.as_bytes().len()).sum();
        let more = documents.len() >= size || bytes >= PAGE_BYTES;
        let mut names = documents.iter().map(|document| M::key_of(document)).collect();
        M::check_page(&mut names, more);
        let unreadable = || Error::new(ErrorKind::Corrupt, "a whole page has no readable key");
        let last = || names.iter().rev().flatten().next().cloned().ok_or_else(unreadable);
        let last = more.then(last).transpose()?;
        Ok(Page { documents, names, last })
    }

    fn wanted(&self) -> ReadOptions {
        let options = ReadOptions::new();
        if self.options.values { options.with_ttl() } else { options.without_value() }
    }

    async fn entries(&mut self, after: Option<&str>) -> Result<Vec<Result<Entry>>> {
        let size = self.options.page(if self.options.values { ENTRIES } else { DOCUMENTS });
        let Page { documents, names, last } = self.page(after, size, false).await?;
        self.position = match last {
            Some(last) => Position::Keys(Some(last)),
            None if self.options.prefix.is_empty() => Position::Strays(None),
            None => Position::End,
        };
        let entries = names.into_iter().zip(documents).map(|(name, document)| {
            let key = stored_key(name?)?;
            if !self.options.values {
                return Ok(Entry::key(key));
            }
            Ok(Entry::new(key, self.model.entry(document, &self.wanted())?))
        });
        Ok(entries.collect())
    }

    /// Returns an error for each document whose key is not a string, in the order of `_id`.
    async fn strays(&mut self, after: Option<Bson>) -> Result<Vec<Result<Entry>>> {
        let field = M::KEY;
        let mut pipeline = vec![doc! { "$match": M::not_a_key() }];
        // An expression, because a plain `$gt` matches only values of the same type as `after`.
        pipeline.extend(
            after.map(|after| doc! { "$match": { "$expr": { "$gt": ["$_id", { "$literal": after }] } } }),
        );
        pipeline.extend([
            doc! { "$sort": { "_id": 1 } },
            doc! { "$limit": DOCUMENTS as i64 },
            doc! { "$project": { "_id": 1, field: 1 } },
        ]);
        let found = self.driver.find(Query::new(pipeline)).await?;
        let last = found.last().and_then(|document| Bson::try_from(document.get("_id").ok()??).ok());
        if last.is_some() && found.len() >= DOCUMENTS {
            self.position = Position::Strays(last);
        }
        let message =
            format!("the field `{field}` of a document is not a string, so the document is not an entry");
        let stray = Error::new(ErrorKind::InvalidKey, message);
        let named = |document: &RawDocumentBuf| match document.get_binary(field) {
            Ok(name) => stray.clone().with_stored_name(name.bytes),
            Err(_) => stray.clone(),
        };
        Ok(found.iter().map(|document| Err(named(document))).collect())
    }
}

impl<M: Model> Pager for Listing<M> {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        match mem::replace(&mut self.position, Position::End) {
            Position::Keys(after) => self.entries(after.as_deref()).await.map(Some),
            Position::Strays(after) => self.strays(after).await.map(Some),
            Position::End => Ok(None),
        }
    }
}

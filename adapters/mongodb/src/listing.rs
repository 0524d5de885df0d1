//! Listings, page by page.
//!
//! Each page is a query of its own, after the last key of the one before (both layouts have an index
//! in the order of the keys): nothing is held on the server in between, so a stream may rest for as
//! long as it likes and be dropped at any point.

use std::{mem, sync::Arc};

use larder_core::{Entry, Error, ErrorKind, Key, ListOptions, ReadOptions, Result};
use larder_kit::Pager;
use mongodb::bson::{Bson, RawDocumentBuf, doc};

use crate::{
    config::Layout,
    driver::{Driver, Query},
    model::Model,
};

/// How many keys one query asks for.
const KEYS: usize = 1_000;
/// How many entries one query asks for.
const ENTRIES: usize = 200;
/// A page ends early once its documents have as many bytes.
const PAGE_BYTES: usize = 8 * 1024 * 1024;

/// A listing under way.
pub(crate) struct Listing {
    driver: Arc<Driver>,
    model: Model,
    options: ListOptions,
    position: Position,
}

enum Position {
    /// The next page begins after this key, or at the beginning.
    Keys(Option<String>),
    /// All keys that are strings have been listed; the next page begins after the document with this
    /// `_id`.
    Strays(Option<Bson>),
    End,
}

/// Documents in the order of their keys.
pub(crate) struct Page {
    pub(crate) documents: Vec<RawDocumentBuf>,
    /// The keys, as they are stored.
    pub(crate) names: Vec<Result<String>>,
    /// Whether more may follow.
    pub(crate) more: bool,
}

impl Page {
    /// The key after which the next page begins; `None` if this is the last page.
    pub(crate) fn last(&self) -> Result<Option<String>> {
        if !self.more {
            return Ok(None);
        }
        let unreadable = || Error::new(ErrorKind::Corrupt, "no key of a whole page can be read");
        self.names.iter().rev().flatten().next().cloned().map(Some).ok_or_else(unreadable)
    }

    /// Whether the key is that of the document before, which grammY's layout allows without its index.
    fn is_doubled(&self, index: usize) -> bool {
        match self.names.get(index.wrapping_sub(1)..=index) {
            Some([Ok(before), Ok(name)]) => before == name,
            _ => false,
        }
    }
}

impl Listing {
    pub(crate) fn new(driver: Arc<Driver>, model: Model, options: ListOptions) -> Self {
        let after = options.start_after.as_ref().map(|key| key.as_str().to_owned());
        Self { driver, model, options, position: Position::Keys(after) }
    }

    /// Reads up to `size` documents after the key `after`, from the primary if a member that lags behind
    /// will not do.
    pub(crate) async fn page(&self, after: Option<&str>, size: usize, primary: bool) -> Result<Page> {
        let model = self.model;
        let mut pipeline = model.find_live(model.by_prefix(&self.options.prefix, after));
        let limit = i64::try_from(size).unwrap_or(i64::MAX);
        pipeline.extend([doc! { "$sort": { model.key_field(): 1 } }, doc! { "$limit": limit }]);
        pipeline.extend(model.projection(&self.wanted()));
        let documents = self.driver.find(Query { pipeline, most: size, bytes: PAGE_BYTES, primary }).await?;
        let bytes: usize = documents.iter().map(|document| document.as_bytes().len()).sum();
        let more = documents.len() >= size || bytes >= PAGE_BYTES;
        let names = documents.iter().map(|document| model.key_of(document)).collect();
        Ok(Page { documents, names, more })
    }

    fn wanted(&self) -> ReadOptions {
        let options = ReadOptions::new();
        if self.options.values { options.with_ttl() } else { options.without_value() }
    }

    async fn entries(&mut self, after: Option<&str>) -> Result<Vec<Result<Entry>>> {
        let size = if self.options.values { ENTRIES } else { KEYS };
        let size = self.options.limit.map_or(size, |limit| limit.get().min(size));
        let mut page = self.page(after, size, false).await?;
        let length = page.names.len();
        if page.more && length > 1 && self.model.layout == Layout::Grammy && !page.is_doubled(length - 1) {
            // It comes again with the next page, and with it others that have its key.
            page.names.pop();
        }
        self.position = match page.last()? {
            Some(last) => Position::Keys(Some(last)),
            None if self.options.prefix.is_empty() => Position::Strays(None),
            None => Position::End,
        };
        let documents = std::mem::take(&mut page.documents);
        let entries = page.names.iter().enumerate().zip(documents).map(|((index, name), document)| {
            if page.is_doubled(index) {
                return Err(Error::new(
                    ErrorKind::Corrupt,
                    "several documents have the same `key`; remove all but one of them",
                ));
            }
            let name = name.as_ref().map_err(Error::clone)?;
            let key = Key::new(name).map_err(|error| error.with_stored_name(name))?;
            if !self.options.values {
                return Ok(Entry::key(key));
            }
            Ok(Entry::new(key, self.model.record(document, &self.wanted())?))
        });
        Ok(entries.collect())
    }

    /// The documents whose key is not a string, in the order of `_id`, each as an error.
    async fn strays(&mut self, after: Option<Bson>) -> Result<Vec<Result<Entry>>> {
        let field = self.model.key_field();
        let mut pipeline = vec![doc! { "$match": self.model.not_a_key() }];
        // An expression, because a plain `$gt` finds only values of the type of `after`.
        pipeline.extend(
            after.map(|after| doc! { "$match": { "$expr": { "$gt": ["$_id", { "$literal": after }] } } }),
        );
        pipeline.extend([
            doc! { "$sort": { "_id": 1 } },
            doc! { "$limit": i64::try_from(KEYS).unwrap_or(i64::MAX) },
            doc! { "$project": { "_id": 1, field: 1 } },
        ]);
        let found = self.driver.find(Query::new(pipeline, KEYS)).await?;
        let last = found.last().and_then(|document| Bson::try_from(document.get("_id").ok()??).ok());
        if last.is_some() && found.len() >= KEYS {
            self.position = Position::Strays(last);
        }
        let message =
            format!("a document has something else than a string in `{field}`, so it is not an entry");
        let stray = Error::new(ErrorKind::InvalidKey, message);
        let named = |document: &RawDocumentBuf| match document.get_binary(field) {
            Ok(name) => stray.clone().with_stored_name(name.bytes),
            Err(_) => stray.clone(),
        };
        Ok(found.iter().map(|document| Err(named(document))).collect())
    }
}

impl Pager for Listing {
    async fn next_page(&mut self) -> Result<Option<Vec<Result<Entry>>>> {
        match mem::replace(&mut self.position, Position::End) {
            Position::Keys(after) => self.entries(after.as_deref()).await.map(Some),
            Position::Strays(after) => self.strays(after).await.map(Some),
            Position::End => Ok(None),
        }
    }
}

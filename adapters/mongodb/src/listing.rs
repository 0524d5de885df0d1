//! Listings, page by page.
//!
//! Each page is a query of its own, beyond the last key of the one before (both layouts have an index
//! in the order of the keys): nothing is held on the server in between, so a stream may rest for as
//! long as it likes and be dropped at any point.

use futures_util::{StreamExt, TryStreamExt, stream};
use larder_core::{Entry, EntryStream, Error, ErrorKind, Expiry, Key, KeyStream, Operation, Result};
use mongodb::{
    action::{Action, Aggregate},
    bson::{Bson, Document, RawDocument, RawDocumentBuf, doc},
    options::{ReadPreference, SelectionCriteria},
};

use crate::{
    Layout, MongoStorage, NAME,
    driver::{self, Page},
    model,
};

/// How many keys one query asks for.
const KEYS_PER_PAGE: u32 = 1_000;
/// How many entries one query asks for. Fewer come if they are large.
const ENTRIES_PER_PAGE: u32 = 200;

pub(crate) fn keys<'a>(storage: &'a MongoStorage, prefix: &'a str) -> KeyStream<'a> {
    let key = |document: RawDocumentBuf| key_of(storage, &document);
    pages(storage, Operation::Keys, prefix, KEYS_PER_PAGE, key)
}

pub(crate) fn entries<'a>(storage: &'a MongoStorage, prefix: &'a str) -> EntryStream<'a> {
    let entry = |document: RawDocumentBuf| {
        let key = key_of(storage, &document)?;
        let expiry = model::left_of(&document)?.map_or(Expiry::Never, Expiry::after_millis);
        Ok(Entry::new(key, storage.model.record(document)?, expiry))
    };
    pages(storage, Operation::Entries, prefix, ENTRIES_PER_PAGE, entry)
}

fn key_of(storage: &MongoStorage, document: &RawDocument) -> Result<Key> {
    Key::try_from(storage.model.key_of(document)?)
}

/// Where a listing stands.
enum State {
    /// The next page begins beyond this key, or at the beginning.
    Next(Option<String>),
    /// All keys that are strings are through; the next page begins beyond the document with this `_id`.
    Strays(Option<Bson>),
    End,
}

fn pages<'a, T: Send + 'a>(
    storage: &'a MongoStorage,
    operation: Operation,
    prefix: &'a str,
    limit: u32,
    item: impl Fn(RawDocumentBuf) -> Result<T> + Send + Sync + Copy + 'a,
) -> stream::BoxStream<'a, Result<T>> {
    // An entry that cannot be read is an error in its place; the listing goes on.
    let named = move |error: Error| error.with_adapter(NAME).with_operation(operation);
    let next_page = move |state: State| async move {
        let (items, state) = match state {
            State::Next(after) => {
                let page = page(storage, operation, prefix, after.as_deref(), limit).await?;
                let more = page.full || page.documents.len() >= limit as usize;
                let (documents, last) = distinct(storage, page.documents, more);
                let state = match last.map_err(named)? {
                    Some(last) if more => State::Next(Some(last)),
                    _ if prefix.is_empty() => State::Strays(None),
                    _ => State::End,
                };
                (documents.into_iter().map(|document| document.and_then(item)).collect::<Vec<_>>(), state)
            }
            State::Strays(after) => {
                let found = strays(storage, operation, after).await?;
                let last = found.last().and_then(|document| Bson::try_from(document.get("_id").ok()??).ok());
                let state = match last {
                    Some(last) if found.len() >= KEYS_PER_PAGE as usize => State::Strays(Some(last)),
                    _ => State::End,
                };
                (found.iter().map(|_| Err(stray(storage.model.key_field()))).collect(), state)
            }
            State::End => return Ok(None),
        };
        let items = items.into_iter().map(move |item| item.map_err(named));
        Ok(Some((stream::iter(items), state)))
    };
    stream::try_unfold(State::Next(None), next_page).try_flatten().boxed()
}

/// The documents of a page, and the last key of it that can be read. A key that several documents of
/// grammY's layout have is an error from the second one on.
fn distinct(
    storage: &MongoStorage,
    mut documents: Vec<RawDocumentBuf>,
    more: bool,
) -> (Vec<Result<RawDocumentBuf>>, Result<Option<String>>) {
    let keys: Vec<_> = documents.iter().map(|document| storage.model.key_of(document)).collect();
    let doubled = |index: usize| match (keys.get(index.wrapping_sub(1)), &keys[index]) {
        (Some(Ok(before)), Ok(key)) => before == key,
        _ => false,
    };
    let mut kept = keys.len();
    if storage.model.layout == Layout::Grammy && more && kept > 1 && !doubled(kept - 1) {
        // It comes again with the next page, and with it others that have its key.
        kept -= 1;
    }
    let last = match keys[..kept].iter().rev().find_map(|key| key.as_ref().ok()) {
        Some(last) => Ok(Some(last.clone())),
        None => keys[..kept].first().map_or(Ok(None), |key| match key {
            Ok(_) => Ok(None),
            Err(error) => Err(error.duplicate()),
        }),
    };
    documents.truncate(kept);
    let doubled: Vec<bool> = (0..kept).map(doubled).collect();
    let documents = documents.into_iter().zip(doubled).map(|(document, doubled)| {
        if doubled {
            Err(Error::new(
                ErrorKind::Corrupt,
                "several documents have the same `key`; remove all but one of them",
            ))
        } else {
            Ok(document)
        }
    });
    (documents.collect(), last)
}

fn stray(field: &str) -> Error {
    Error::new(
        ErrorKind::InvalidKey,
        format!("a document has something else than a string in `{field}`, so it is not an entry"),
    )
}

/// The `_id` of documents whose key is not a string, in the order of `_id`.
async fn strays(
    storage: &MongoStorage,
    operation: Operation,
    after: Option<Bson>,
) -> Result<Vec<RawDocumentBuf>> {
    let collection = storage.driver.raw_collection(operation)?;
    let mut pipeline = vec![doc! { "$match": storage.model.not_a_key() }];
    // An expression, because a plain `$gt` finds only what has the type of `after`.
    pipeline.extend(
        after.map(|after| doc! { "$match": { "$expr": { "$gt": ["$_id", { "$literal": after }] } } }),
    );
    pipeline.extend([
        doc! { "$sort": { "_id": 1 } },
        doc! { "$limit": KEYS_PER_PAGE },
        doc! { "$project": { "_id": 1 } },
    ]);
    let call = async move {
        driver::drain(collection.aggregate(pipeline).batch_size(KEYS_PER_PAGE + 1).with_type().await?).await
    };
    storage.driver.run(operation, call).await
}

/// The next documents beyond the key `after`, in the order of their keys.
pub(crate) async fn page(
    storage: &MongoStorage,
    operation: Operation,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Page> {
    let model = storage.model;
    let collection = storage.driver.raw_collection(operation)?;
    let filter = model.live(model.by_prefix(prefix, after));
    let sort = doc! { model.key_field(): 1 };
    let mut pipeline: Vec<Document> = vec![doc! { "$match": filter }];
    if model.layout == Layout::Grammy {
        // An array with a string in it would be in the range too.
        pipeline.push(doc! { "$match": { "$expr": { "$eq": [{ "$type": "$key" }, "string"] } } });
    }
    pipeline.extend([doc! { "$sort": sort }, doc! { "$limit": limit }]);
    pipeline.push(match (operation, model.layout) {
        (Operation::Keys | Operation::Clear, _) => doc! { "$project": keys_only(model) },
        (_, Layout::Larder) => doc! { "$set": { "left": model::time_left() } },
        (_, Layout::Grammy) => doc! { "$project": { "_id": 0, "key": 1, "value": 1 } },
    });
    // A member that lags behind would not name all that has to go.
    let primary =
        (operation == Operation::Clear).then_some(SelectionCriteria::ReadPreference(ReadPreference::Primary));
    let call = async move {
        let query = collection.aggregate(pipeline).batch_size(limit + 1);
        let query = query.optional(primary, Aggregate::selection_criteria);
        driver::page(query.with_type().await?).await
    };
    storage.driver.run(operation, call).await
}

fn keys_only(model: model::Model) -> Document {
    match model.layout {
        Layout::Larder => doc! { "_id": 1 },
        Layout::Grammy => doc! { "_id": 0, "key": 1 },
    }
}

//! Listings, page by page.
//!
//! Each page is a query of its own, beyond the last key of the one before (both layouts have an index
//! in the order of the keys): nothing is held on the server in between, so a stream may rest for as
//! long as it likes and be dropped at any point.

use futures_util::{StreamExt, TryStreamExt, stream};
use larder_core::{Entry, EntryStream, Expiry, Key, KeyStream, Operation, Result};
use mongodb::{
    action::{Action, Aggregate},
    bson::{Document, RawDocument, RawDocumentBuf, doc},
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
    End,
}

fn pages<'a, T: Send + 'a>(
    storage: &'a MongoStorage,
    operation: Operation,
    prefix: &'a str,
    limit: u32,
    item: impl Fn(RawDocumentBuf) -> Result<T> + Send + Sync + Copy + 'a,
) -> stream::BoxStream<'a, Result<T>> {
    let next_page = move |state: State| async move {
        let State::Next(after) = state else {
            return Ok(None);
        };
        let page = page(storage, operation, prefix, after.as_deref(), limit).await?;
        let more = page.full || page.documents.len() >= limit as usize;
        let last = page.documents.last().map(|document| storage.model.key_of(document)).transpose();
        let state = match last.map_err(|error| error.with_adapter(NAME).with_operation(operation))? {
            Some(last) if more => State::Next(Some(last)),
            _ => State::End,
        };
        let items = page.documents.into_iter().map(move |document| {
            // An entry that cannot be read is an error in its place; the listing goes on.
            item(document).map_err(|error| error.with_adapter(NAME).with_operation(operation))
        });
        Ok(Some((stream::iter(items), state)))
    };
    stream::try_unfold(State::Next(None), next_page).try_flatten().boxed()
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
    let mut pipeline: Vec<Document> =
        vec![doc! { "$match": filter }, doc! { "$sort": sort }, doc! { "$limit": limit }];
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

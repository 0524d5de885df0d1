//! The storage.

use std::{
    collections::HashMap,
    slice,
    sync::{Arc, OnceLock},
};

use futures_util::{StreamExt, stream};
use larder_core::{
    Action, Applied, Bytes, Change, Condition, DeleteOptions, EntryStream, Error, ErrorKind, Expiry, Info,
    Key, ListOptions, Purge, ReadOptions, Record, Result, Storage, TouchOptions, Values, Versions,
    WriteOptions, Written, async_trait,
};
use larder_kit::{Batch, Limits, pages};
use mongodb::{
    action::{Action as _, FindOneAndUpdate},
    bson::{Document, RawDocumentBuf, doc},
    options::UpdateModifications,
    results::UpdateResult,
};

use crate::{
    NAME, bulk,
    config::{Layout, ValueFormat},
    driver::{Driver, Query},
    listing::Listing,
    model::{self, MAX_GROWTH, MAX_VALUE, Model, Put},
};

/// How often an upsert is tried again after another one of the same key came first. Each time the
/// other's document is there to be replaced, so once is enough unless it is deleted in between.
const UPSERT_TRIES: usize = 8;
/// How many keys one command names.
const KEYS: usize = 1_000;
/// How many keys `clear` deletes at once.
const CLEARED: usize = 500;
/// How many commands of a batch are under way at the same time.
const CONCURRENT: usize = 16;

/// A storage in a MongoDB collection; see [`connect`](Self::connect) and
/// [`MongoBuilder`](crate::MongoBuilder).
#[derive(Debug)]
pub struct MongoStorage {
    pub(crate) driver: Arc<Driver>,
    model: Model,
}

impl MongoStorage {
    pub(crate) fn new(driver: Driver, model: Model) -> Self {
        Self { driver: Arc::new(driver), model }
    }

    async fn update(
        &self,
        key: &Key,
        filter: Document,
        update: UpdateModifications,
        upsert: bool,
    ) -> Result<UpdateResult> {
        let collection = self.driver.collection()?;
        let call = async move { collection.update_one(filter, update).upsert(upsert).await };
        self.driver.write(slice::from_ref(key), call).await
    }

    /// The live entry under `key`, which gets a new expiry.
    async fn read_and_touch(
        &self,
        key: &Key,
        options: &ReadOptions,
        expiry: Expiry,
    ) -> Result<Option<Record>> {
        let collection = self.driver.collection()?.clone_with_type::<RawDocumentBuf>();
        let filter = self.model.live_on(key, &Condition::Any)?;
        let update = model::new_expiry(expiry);
        let mut with = *options;
        with.ttl = false;
        let fields = (!options.value).then(|| doc! { "_id": 1 });
        let call = async move {
            collection
                .find_one_and_update(filter, update)
                .optional(fields, FindOneAndUpdate::projection)
                .await
        };
        let found = self.driver.write(slice::from_ref(key), call).await?;
        let record = found.map(|document| self.model.record(document, &with)).transpose()?;
        Ok(record.map(|record| if options.ttl { record.expires(expiry) } else { record }))
    }

    /// The live entries under `keys`, by key.
    async fn find(&self, keys: &[Key], options: &ReadOptions) -> Result<HashMap<String, Result<Record>>> {
        let filter = self.model.by_keys(keys.iter().map(Key::as_str));
        let query = Query::new(self.model.find_live(filter, options), keys.len());
        let found = self.driver.find(query).await?.into_iter();
        found
            .map(|document| Ok((self.model.key_of(&document)?, self.model.record(document, options))))
            .collect()
    }

    /// Applies changes of distinct keys: unconditional writes as one command, and the others each as its
    /// own, because the server only counts the entries that it has deleted or found.
    async fn apply_round(&self, changes: &[Change]) -> Vec<Result<Applied>> {
        let gone = OnceLock::new();
        let written = self.write_in_bulk(changes, &gone).await;
        let gone = &gone;
        let calls = changes.iter().zip(written).map(|(change, written)| async move {
            match written {
                Some(result) => result,
                None => self.apply_one(change, gone).await,
            }
        });
        stream::iter(calls.collect::<Vec<_>>()).buffered(CONCURRENT).collect().await
    }

    /// Sends the unconditional writes. Those without a result are to be written one by one: a single one,
    /// and those that met another upsert of the same key.
    async fn write_in_bulk(
        &self,
        changes: &[Change],
        gone: &OnceLock<Error>,
    ) -> Vec<Option<Result<Applied>>> {
        let mut results: Vec<_> = changes.iter().map(|_| None).collect();
        let (mut places, mut keys, mut puts) = (Vec::new(), Vec::new(), Vec::new());
        for (place, change) in changes.iter().enumerate() {
            if let (Action::Put(value, expiry), Condition::Any) = (&change.action, &change.condition) {
                match self.model.put(&change.key, value, &WriteOptions::new().expiry(*expiry)) {
                    Ok(put) => puts.push(put),
                    Err(refused) => {
                        results[place] = Some(Err(refused));
                        continue;
                    }
                }
                places.push(place);
                keys.push(change.key.clone());
            }
        }
        if puts.len() < 2 {
            return results;
        }
        let sent = bulk::send(&self.driver, &keys, puts).await.unwrap_or_else(|error| {
            if error.is_gone() {
                let _ = gone.set(error.clone());
            }
            keys.iter().map(|_| Err(error.clone())).collect()
        });
        for (place, result) in places.into_iter().zip(sent) {
            if !result.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict) {
                results[place] = Some(result.map(|version| Applied::Put(Written::at(version))));
            }
        }
        results
    }

    async fn apply_one(&self, change: &Change, gone: &OnceLock<Error>) -> Result<Applied> {
        if let Some(error) = gone.get() {
            return Err(error.clone().not_applied());
        }
        let (key, condition) = (&change.key, change.condition.clone());
        let result = match &change.action {
            Action::Put(value, expiry) => {
                let options = WriteOptions::new().expiry(*expiry).condition(condition);
                self.write(key, value.clone(), &options).await.map(Applied::Put)
            }
            Action::Delete => {
                self.delete(key, &DeleteOptions::new().condition(condition)).await.map(Applied::Deleted)
            }
            Action::Touch(expiry) => {
                let options = TouchOptions::new().condition(condition);
                self.touch(key, *expiry, &options).await.map(Applied::Touched)
            }
        };
        if let Err(error) = &result
            && error.is_gone()
        {
            let _ = gone.set(error.clone());
        }
        result
    }
}

/// The result of a deletion or touch that has found an entry that meets the condition, or has not.
fn found(found: bool, condition: &Condition) -> Result<bool> {
    if found || *condition == Condition::Any { Ok(found) } else { Err(Error::conflict()) }
}

#[async_trait]
impl Storage for MongoStorage {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        match options.touch {
            Some(expiry) => self.read_and_touch(key, options, expiry).await,
            None => self.find(slice::from_ref(key), options).await?.remove(key.as_str()).transpose(),
        }
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let condition = &options.condition;
        let mut tries = UPSERT_TRIES;
        loop {
            let Put { filter, update, upsert, version } = self.model.put(key, &value, options)?;
            tries -= 1;
            match self.update(key, filter, update, upsert).await {
                Ok(done) => {
                    let modified = done.modified_count + u64::from(done.upserted_id.is_some());
                    let written = self.model.is_written(condition, done.matched_count, modified);
                    return if written { Ok(Written::at(version)) } else { Err(Error::conflict()) };
                }
                // Of two upserts at once the server may refuse one: then the entry is there, and trying
                // again replaces it. The refused one has not happened.
                Err(error)
                    if error.kind() == ErrorKind::Conflict && *condition == Condition::Any && tries > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let collection = self.driver.collection()?;
        let filter = self.model.live_on(key, &options.condition)?;
        let call = async move { collection.delete_one(filter).await };
        let done = self.driver.write(slice::from_ref(key), call).await?;
        found(done.deleted_count > 0, &options.condition)
    }

    fn info(&self) -> Info {
        let values = match self.model.format {
            ValueFormat::Binary => Values::Bytes,
            ValueFormat::Document => Values::Json,
        };
        let info = Info::minimal(NAME)
            .with_ordered_listing()
            .with_persistence()
            .with_sharing()
            .with_purge(Purge::Store)
            .with_values(values)
            .with_max_value(MAX_VALUE as u64);
        match self.model.layout {
            Layout::Larder => info.with_expiry().with_versions(Versions::Unique),
            Layout::Grammy => info.with_versions(Versions::Content),
        }
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let filter = self.model.live_on(key, &options.condition)?;
        let done = self.update(key, filter, model::new_expiry(expiry), false).await?;
        found(done.matched_count > 0, &options.condition)
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        if options.touch.is_some() {
            let calls: Vec<_> = keys.iter().map(|key| self.read(key, options)).collect();
            return stream::iter(calls).buffered(CONCURRENT).collect().await;
        }
        let mut results = Vec::with_capacity(keys.len());
        for chunk in keys.chunks(KEYS) {
            match self.find(chunk, options).await {
                Ok(found) => {
                    results.extend(chunk.iter().map(|key| found.get(key.as_str()).cloned().transpose()));
                }
                Err(error) => {
                    results.resize_with(keys.len(), || Err(error.clone()));
                    break;
                }
            }
        }
        results
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let bytes = match self.model.format {
            ValueFormat::Binary => bulk::BYTES,
            ValueFormat::Document => 2 * bulk::BYTES / MAX_GROWTH,
        };
        let mut batch = Batch::new(changes, Limits { entries: bulk::WRITES, bytes });
        while let Some(round) = batch.next_round() {
            let results = self.apply_round(round.changes()).await;
            batch.done(round, Ok(results));
        }
        batch.into_results()
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        pages(Listing::new(Arc::clone(&self.driver), self.model, options))
    }

    /// Page by page, each the keys of a listing deleted by name: a deletion that runs on after its caller
    /// has gone then has known keys, and a later write of one of them waits for it. One statement for the
    /// whole prefix would go on deleting entries that are written behind it.
    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        // An abandoned write may be of a key that no listing shows yet.
        self.driver.settle(prefix).await?;
        let options = ListOptions::new().prefix(prefix).keys_only();
        let listing = Listing::new(Arc::clone(&self.driver), self.model, options);
        let (mut deleted, mut after) = (0, None);
        loop {
            let page = listing.page(after.as_deref(), CLEARED, true).await?;
            let names = page.names.into_iter().collect::<Result<Vec<String>>>()?;
            if !names.is_empty() {
                // Names that are not valid keys are deleted too; no write of ours can follow.
                let keys: Vec<Key> = names.iter().filter_map(|name| Key::new(name).ok()).collect();
                let filter = self.model.live(self.model.by_keys(names.iter().map(String::as_str)));
                let collection = self.driver.collection()?;
                let call = async move { collection.delete_many(filter).await };
                deleted += self.driver.write(&keys, call).await?.deleted_count;
            }
            if !page.more {
                return Ok(deleted);
            }
            after = names.into_iter().next_back();
        }
    }

    async fn ping(&self) -> Result<()> {
        self.driver.ping().await
    }

    async fn close(&self) -> Result<()> {
        self.driver.close().await;
        Ok(())
    }
}

//! The storage.

use std::{collections::HashMap, slice, sync::Arc};

use larder_core::{
    Applied, Bytes, Change, Condition, DeleteOptions, EntryStream, ErrorKind, Expiry, Info, Key, ListOptions,
    ReadOptions, Record, Result, Storage, TouchOptions, Values, WriteOptions, Written, async_trait,
};
use larder_kit::{Batch, Limits, pages, read_chunks, side_by_side};
use mongodb::{
    action::{Action as _, FindOneAndUpdate},
    bson::{RawDocumentBuf, doc},
};

use crate::{
    batch,
    driver::{DOCUMENTS, Driver, Query},
    listing::Listing,
    model::{Model, Statement, applied, deleted, new_expiry, updated},
    value::MAX_GROWTH,
};

/// How often an upsert is tried again after another one of the same key came first. Each time the
/// other's document is there to be replaced, so once is enough unless it is deleted in between.
const UPSERT_TRIES: usize = 8;
/// How many keys `clear` deletes at once.
const CLEARED: usize = 500;
/// How many commands of a batch are under way at the same time.
const CONCURRENT: usize = 16;

/// Entries as documents of a collection.
#[derive(Debug)]
pub(crate) struct DocumentStorage<M> {
    pub(crate) driver: Arc<Driver>,
    pub(crate) model: M,
}

impl<M: Model> DocumentStorage<M> {
    /// Makes a change by itself.
    async fn change(&self, change: &Change) -> Result<Applied> {
        let mut tries = UPSERT_TRIES;
        loop {
            let Statement { filter, update, upsert, version } = self.model.statement(change)?;
            let collection = self.driver.collection()?;
            let call = async move {
                Ok(match update {
                    Some(update) => updated(&collection.update_one(filter, update).upsert(upsert).await?),
                    None => deleted(&collection.delete_one(filter).await?),
                })
            };
            tries -= 1;
            let outcome = self.driver.run(slice::from_ref(&change.key), call).await;
            // Of two upserts at once the server may refuse one: then the entry is there, and trying again
            // replaces it. The refused one has not happened.
            let refused = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Conflict);
            if !(refused && change.condition == Condition::Any && tries > 0) {
                return applied(change, version, outcome?);
            }
        }
    }

    /// The live entry under `key`, which gets a new expiry.
    async fn read_and_touch(
        &self,
        key: &Key,
        options: &ReadOptions,
        expiry: Expiry,
    ) -> Result<Option<Record>> {
        let collection = self.driver.collection()?.clone_with_type::<RawDocumentBuf>();
        let filter = M::live(M::keyed(key.as_str()));
        let update = new_expiry(expiry);
        let fields = (!options.value).then(|| doc! { "_id": 1 });
        let call = async move {
            collection
                .find_one_and_update(filter, update)
                .optional(fields, FindOneAndUpdate::projection)
                .await
        };
        let found = self.driver.run(slice::from_ref(key), call).await?;
        found.map(|document| self.model.entry(document, options)).transpose()
    }

    /// The live entries under `keys`, by key.
    async fn find(&self, keys: &[Key], options: &ReadOptions) -> Result<HashMap<String, Result<Record>>> {
        let mut pipeline = M::find_live(M::by_keys(keys));
        pipeline.extend(M::projection(options));
        let mut entries = HashMap::new();
        for document in self.driver.find(Query::new(pipeline)).await? {
            let key = M::key_of(&document)?;
            // Of several documents of one key, which grammY's layout allows without its index, the first
            // is the entry: a write changes that one.
            entries.entry(key).or_insert_with(|| self.model.entry(document, options));
        }
        Ok(entries)
    }

    /// Makes changes of distinct keys.
    async fn apply_round(&self, changes: &[Change]) -> Result<Vec<Result<Applied>>> {
        let results = match changes {
            [_] => vec![None],
            _ => batch::send(&self.driver, self.model, changes).await?,
        };
        let alone = results.iter().zip(changes).filter(|(result, _)| result.is_none());
        let alone = side_by_side(alone.map(|(_, change)| self.change(change)), CONCURRENT).await;
        let mut alone = alone.into_iter();
        Ok(results.into_iter().filter_map(|result| result.or_else(|| alone.next())).collect())
    }
}

#[async_trait]
impl<M: Model> Storage for DocumentStorage<M> {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        match options.touch {
            Some(expiry) => self.read_and_touch(key, options, expiry).await,
            None => self.find(slice::from_ref(key), options).await?.remove(key.as_str()).transpose(),
        }
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let put = Change::put(key.clone(), value, options.expiry).on(options.condition.clone());
        match self.change(&put).await? {
            Applied::Put(written) => Ok(written),
            _ => Ok(Written::default()),
        }
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let delete = Change::delete(key.clone()).on(options.condition.clone());
        Ok(self.change(&delete).await? == Applied::Deleted(true))
    }

    fn info(&self) -> Info {
        self.model.info()
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let touch = Change::touch(key.clone(), expiry).on(options.condition.clone());
        Ok(self.change(&touch).await? == Applied::Touched(true))
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        if options.touch.is_some() {
            return side_by_side(keys.iter().map(|key| self.read(key, options)), CONCURRENT).await;
        }
        read_chunks(keys, DOCUMENTS, CONCURRENT, |chunk| self.find(chunk, options)).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let json = self.info().values == Values::Json;
        let bytes = if json { 2 * batch::BYTES / MAX_GROWTH } else { batch::BYTES };
        let mut batch = Batch::new(changes, Limits { entries: batch::CHANGES, bytes });
        while let Some(round) = batch.next_round() {
            let outcome = self.apply_round(round.changes()).await;
            batch.done(round, outcome);
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
            // Documents that no key names stay.
            let keys: Vec<Key> = page.names.iter().flatten().flat_map(Key::new).collect();
            if !keys.is_empty() {
                let filter = M::live(M::by_keys(&keys));
                let collection = self.driver.collection()?;
                let call = async move { collection.delete_many(filter).await };
                deleted += self.driver.run(&keys, call).await?.deleted_count;
            }
            after = page.last;
            if after.is_none() {
                return Ok(deleted);
            }
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

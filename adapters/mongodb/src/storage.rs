//! The storage.

use std::{collections::HashMap, slice, sync::Arc};

use larder_core::{
    Applied, Bytes, Change, DeleteOptions, EntryStream, ErrorKind, Expiry, Info, Key, ListOptions, Location,
    ReadOptions, Record, Result, Storage, TouchOptions, WriteOptions, Written, async_trait,
};
use larder_kit::{Configure as _, pages, read_chunks, side_by_side};
use mongodb::{
    action::{Action as _, FindOneAndUpdate},
    bson::{Bson, RawDocumentBuf, doc},
};

use crate::{
    batch,
    config::Config,
    driver::{CONCURRENT, DOCUMENTS, Driver, Query},
    listing::Listing,
    model::{Model, new_expiry},
};

/// The number of keys that `clear` deletes at once.
const CLEARED: usize = 500;

/// Entries as documents of a collection.
pub(crate) struct DocumentStorage<M> {
    pub(crate) driver: Arc<Driver>,
    pub(crate) model: M,
}

impl<M: Model> DocumentStorage<M> {
    async fn change(&self, change: &Change) -> Result<Applied> {
        batch::change(&self.driver, self.model, change).await
    }

    /// Reads the live entry under `key`, and sets its expiry.
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

    /// Reads the live entries under `keys`. Returns them by key.
    async fn find(&self, keys: &[Key], options: &ReadOptions) -> Result<HashMap<String, Result<Record>>> {
        let mut pipeline = M::find_live(M::by_keys(keys));
        pipeline.extend(M::projection(options));
        let mut entries = HashMap::new();
        for document in self.driver.find(Query::new(pipeline)).await? {
            let key = M::key_of(&document)?;
            // grammY's layout without its index allows several documents with one key. The first is the entry, because
            // a write changes that one.
            entries.entry(key).or_insert_with(|| self.model.entry(document, options));
        }
        Ok(entries)
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
        Ok(self.change(&put).await?.written())
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let delete = Change::delete(key.clone()).on(options.condition.clone());
        Ok(self.change(&delete).await?.existed())
    }

    fn info(&self) -> Info {
        self.model.info()
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let touch = Change::touch(key.clone(), expiry).on(options.condition.clone());
        Ok(self.change(&touch).await?.existed())
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        if options.touch.is_some() {
            return side_by_side(keys.iter().map(|key| self.read(key, options)), CONCURRENT).await;
        }
        read_chunks(keys, DOCUMENTS, CONCURRENT, |chunk| self.find(chunk, options)).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        batch::apply(&self.driver, self.model, changes).await
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        pages(Listing::new(Arc::clone(&self.driver), self.model, options))
    }

    /// Deletes the keys of a listing by name, page by page. A deletion that continues after its caller has gone then
    /// has known keys, and later writes of these keys wait for it. A single statement for the whole prefix could also
    /// delete entries that are written in the meantime.
    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        // An abandoned write may create a key that no listing contains yet.
        self.driver.wait_for_abandoned(prefix).await?;
        let options = ListOptions::new().prefix(prefix).keys_only();
        let listing = Listing::new(Arc::clone(&self.driver), self.model, options);
        let (mut deleted, mut after) = (0, None);
        loop {
            let page = listing.page(after.as_deref(), CLEARED, true).await?;
            // Documents without a valid key are not deleted.
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

    /// Returns the collection's UUID, which is the same on all members of a deployment.
    async fn location(&self) -> Result<Option<Location>> {
        let listed = match self.driver.listed().await {
            // The user may have permissions on single documents only.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => None,
            listed => listed?,
        };
        let info = listed.as_ref().and_then(|listed| listed.get_document("info").ok());
        Ok(info.and_then(|info| match info.get("uuid")? {
            Bson::Binary(uuid) => {
                Some(Location::new(format!("{}:{}", Config::ADAPTER, uuid.to_uuid().ok()?)))
            }
            _ => None,
        }))
    }

    async fn close(&self) -> Result<()> {
        self.driver.close().await;
        Ok(())
    }
}

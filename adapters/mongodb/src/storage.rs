//! The storage.

use std::{fmt, sync::Arc};

use larder_core::{
    Bytes, Capabilities, Condition, EntryStream, Error, Expiry, Key, KeyStream, Operation, Purge, Record,
    Result, Storage, Values, Version, Versions, Write, async_trait,
};
use mongodb::{
    bson::{Document, RawDocumentBuf, doc},
    error::Result as DriverResult,
    options::UpdateModifications,
    results::UpdateResult,
};

use crate::{
    Form, Layout, MongoBuilder, NAME, batch, clear,
    driver::{self, Driver},
    error, listing,
    model::{self, MAX_VALUE, Model, Value},
};

/// How often an upsert is tried again after another one of the same key came first. Each time the
/// other's document is there to be replaced, so once is enough unless it is deleted in between.
const UPSERT_TRIES: usize = 8;

/// A storage in a MongoDB collection. Cheap to clone; clones share one client.
#[derive(Clone)]
pub struct MongoStorage {
    pub(crate) driver: Arc<Driver>,
    pub(crate) model: Model,
}

impl MongoStorage {
    /// Connects to the URL, with its [options](crate#options), and sets up what is missing.
    ///
    /// ```no_run
    /// # async fn example() -> larder_core::Result<()> {
    /// use larder_mongodb::MongoStorage;
    ///
    /// let storage = MongoStorage::connect("mongodb://localhost:27017/bot?collection=sessions").await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) for a wrong URL, for an index or
    /// collection in the way, and for a collection that holds other data,
    /// [`Unavailable`](larder_core::ErrorKind::Unavailable) if no server can
    /// be reached, its name cannot be resolved included, [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied)
    /// for wrong credentials or a missing permission.
    pub async fn connect(url: &str) -> Result<Self> {
        MongoBuilder::from_url(url)?.connect().await
    }

    /// Connects to what is there, and sets nothing up: see [`MongoBuilder::existing`].
    ///
    /// # Errors
    ///
    /// As [`connect`](Self::connect); also
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if there is no such collection.
    pub async fn connect_existing(url: &str) -> Result<Self> {
        MongoBuilder::from_url(url)?.existing().connect().await
    }

    /// The live document under `key`, or what `projection` makes of it.
    async fn find(
        &self,
        operation: Operation,
        key: &Key,
        projection: Option<Document>,
    ) -> Result<Option<RawDocumentBuf>> {
        let collection = self.driver.raw_collection(operation)?;
        let mut pipeline = self.model.find_live(self.model.by_key(key));
        pipeline.extend(projection.map(|projection| doc! { "$project": projection }));
        let call = async move { driver::first(collection.aggregate(pipeline).with_type().await?).await };
        self.driver.run(operation, call).await
    }

    /// Whether there is a live document under `key`.
    async fn exists(&self, operation: Operation, key: &Key) -> Result<bool> {
        self.find(operation, key, Some(doc! { "_id": 1 })).await.map(|found| found.is_some())
    }

    /// Updates or replaces one document.
    async fn update(
        &self,
        operation: Operation,
        key: &Key,
        filter: Document,
        update: Update,
        upsert: bool,
    ) -> Result<DriverResult<UpdateResult>> {
        let collection = self.driver.collection(operation)?;
        let call = async move {
            match update {
                Update::Replace(document) => collection.replace_one(filter, document).upsert(upsert).await,
                Update::Modify(update) => collection.update_one(filter, update).upsert(upsert).await,
            }
        };
        self.driver.call(operation, std::slice::from_ref(key), call).await
    }

    /// Writes whatever is there. Of two upserts at once the server may refuse one: then the entry is
    /// there, and trying again replaces it. The refused one has not happened, so this is no retry of
    /// a write that may have.
    pub(crate) async fn put(
        &self,
        operation: Operation,
        key: &Key,
        value: Value,
        millis: Option<u64>,
    ) -> Result<()> {
        let mut tries = 1;
        loop {
            let update = self.put_update(value.clone(), millis);
            match self.update(operation, key, self.model.by_key(key), update, true).await? {
                Ok(_) => return Ok(()),
                Err(failed) if error::code(&failed) == Some(error::DUPLICATE_KEY) && tries < UPSERT_TRIES => {
                    tries += 1;
                }
                Err(failed) => return Err(error::from_driver(operation, &failed)),
            }
        }
    }

    pub(crate) fn put_update(&self, value: Value, millis: Option<u64>) -> Update {
        match (self.model.layout, millis) {
            (Layout::Grammy, _) => Update::Modify(doc! { "$set": { "value": value.bson } }.into()),
            (Layout::Larder, None) => Update::Replace(model::replacement(value, &Version::unique())),
            (Layout::Larder, Some(millis)) => {
                Update::Modify(model::replacement_expiring(value, &Version::unique(), millis).into())
            }
        }
    }

    /// Deletes the document that matches; says whether there was one.
    async fn remove(&self, operation: Operation, key: &Key, filter: Document) -> Result<bool> {
        let collection = self.driver.collection(operation)?;
        let call = async move { collection.delete_one(filter).await };
        let outcome = self.driver.call(operation, std::slice::from_ref(key), call).await?;
        outcome
            .map(|result| result.deleted_count > 0)
            .map_err(|failed| error::from_driver(operation, &failed))
    }

    /// grammY's documents have no expiry, and grammY would keep a field of ours when it writes.
    pub(crate) fn check_expiry(&self, operation: Operation, expiry: Expiry) -> Result<()> {
        if self.model.layout == Layout::Grammy && expiry != Expiry::Never {
            return Err(Error::unsupported().with_adapter(NAME).with_operation(operation));
        }
        Ok(())
    }

    async fn write_if_absent(&self, key: &Key, value: Value, expiry: Expiry) -> Result<Version> {
        let operation = Operation::WriteIf;
        let (update, version) = match self.model.layout {
            Layout::Larder => {
                let version = Version::unique();
                (model::replacement_if_absent(value, &version, expiry.as_millis()).into(), version)
            }
            Layout::Grammy => {
                let version = model::content_version(value.bson.clone())?;
                (doc! { "$setOnInsert": { "value": value.bson } }.into(), version)
            }
        };
        let filter = self.model.by_key(key);
        match self.update(operation, key, filter, Update::Modify(update), true).await? {
            // Created, or put in the place of an expired one; a live one is not modified.
            Ok(result) if result.upserted_id.is_some() || result.modified_count > 0 => Ok(version),
            Ok(_) => Err(Error::conflict().with_adapter(NAME).with_operation(operation)),
            Err(failed) if error::code(&failed) == Some(error::DUPLICATE_KEY) => {
                Err(Error::conflict().with_adapter(NAME).with_operation(operation))
            }
            Err(failed) => Err(error::from_driver(operation, &failed)),
        }
    }

    async fn write_if_at(&self, key: &Key, value: Value, expiry: Expiry, seen: &Version) -> Result<Version> {
        let operation = Operation::WriteIf;
        let Some(filter) = self.model.at(key, seen) else {
            return Err(Error::conflict().with_adapter(NAME).with_operation(operation));
        };
        let (update, version) = match self.model.layout {
            Layout::Larder => {
                let version = Version::unique();
                (model::replacement_if_live(value, &version, expiry.as_millis()).into(), version)
            }
            Layout::Grammy => {
                let version = model::content_version(value.bson.clone())?;
                (doc! { "$set": { "value": value.bson } }.into(), version)
            }
        };
        match self.update(operation, key, filter, Update::Modify(update), false).await? {
            // What matches and has expired is not modified. Nothing expires in grammY's layout, where a
            // value that is written again as it was modifies nothing.
            Ok(result) if result.modified_count > 0 => Ok(version),
            Ok(result) if result.matched_count > 0 && self.model.layout == Layout::Grammy => Ok(version),
            Ok(_) => Err(Error::conflict().with_adapter(NAME).with_operation(operation)),
            Err(failed) => Err(error::from_driver(operation, &failed)),
        }
    }

    /// Deletes the live entry under `key` if it is at `version`; says whether it was.
    async fn remove_at(&self, operation: Operation, key: &Key, version: &Version) -> Result<bool> {
        match self.model.at(key, version) {
            Some(filter) => self.remove(operation, key, self.model.live(filter)).await,
            None => Ok(false),
        }
    }
}

/// A change of one document.
pub(crate) enum Update {
    Replace(Document),
    Modify(UpdateModifications),
}

fn named(operation: Operation) -> impl Fn(Error) -> Error {
    move |error| error.with_adapter(NAME).with_operation(operation)
}

#[deny(clippy::missing_trait_methods)]
#[async_trait]
impl Storage for MongoStorage {
    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        let operation = Operation::Read;
        let found = self.find(operation, key, None).await?;
        found.map(|document| self.model.record(document)).transpose().map_err(named(operation))
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        let operation = Operation::Write;
        self.driver.check_open(operation)?;
        self.check_expiry(operation, expiry)?;
        let value = self.model.encode(&value).map_err(named(operation))?;
        if expiry.is_elapsed() {
            return self.remove(operation, key, self.model.by_key(key)).await.map(drop);
        }
        self.put(operation, key, value, expiry.as_millis()).await
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.remove(Operation::Delete, key, self.model.live(self.model.by_key(key))).await
    }

    fn name(&self) -> &'static str {
        NAME
    }

    fn capabilities(&self) -> Capabilities {
        let capabilities = Capabilities::minimal()
            .with_listing()
            .with_persistence()
            .with_sharing()
            .with_purge(Purge::Store)
            .with_values(match self.model.form {
                Form::Binary => Values::Bytes,
                Form::Document => Values::Json,
            })
            .with_max_value(MAX_VALUE as u64);
        match self.model.layout {
            Layout::Larder => capabilities.with_expiry().with_versions(Versions::Unique),
            Layout::Grammy => capabilities.with_versions(Versions::Content),
        }
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        let operation = Operation::WriteIf;
        self.driver.check_open(operation)?;
        self.check_expiry(operation, expiry)?;
        let value = self.model.encode(&value).map_err(named(operation))?;
        match condition {
            Condition::Absent if expiry.is_elapsed() => {
                // There is nothing to write, only to see whether the condition holds.
                if self.exists(operation, key).await? {
                    return Err(Error::conflict().with_adapter(NAME).with_operation(operation));
                }
                Ok(Version::unique())
            }
            Condition::At(seen) if expiry.is_elapsed() => {
                let removed = self.remove_at(operation, key, &seen).await?;
                if removed {
                    Ok(Version::unique())
                } else {
                    Err(Error::conflict().with_adapter(NAME).with_operation(operation))
                }
            }
            Condition::Absent => self.write_if_absent(key, value, expiry).await,
            Condition::At(seen) => self.write_if_at(key, value, expiry, &seen).await,
        }
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        let operation = Operation::DeleteIf;
        self.driver.check_open(operation)?;
        if self.remove_at(operation, key, version).await? {
            Ok(())
        } else {
            Err(Error::conflict().with_adapter(NAME).with_operation(operation))
        }
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        let operation = Operation::Touch;
        self.driver.check_open(operation)?;
        if self.model.layout == Layout::Grammy {
            return Err(Error::unsupported().with_adapter(NAME).with_operation(operation));
        }
        let filter = self.model.live(self.model.by_key(key));
        if expiry.is_elapsed() {
            return self.remove(operation, key, filter).await;
        }
        let update = match expiry.as_millis() {
            Some(millis) => model::expiry_in(millis).into(),
            None => doc! { "$unset": { "expires_at": "" } }.into(),
        };
        match self.update(operation, key, filter, Update::Modify(update), false).await? {
            Ok(result) => Ok(result.matched_count > 0),
            Err(failed) => Err(error::from_driver(operation, &failed)),
        }
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        let operation = Operation::Ttl;
        self.driver.check_open(operation)?;
        if self.model.layout == Layout::Grammy {
            return Err(Error::unsupported().with_adapter(NAME).with_operation(operation));
        }
        let found = self.find(operation, key, Some(doc! { "left": model::time_left() })).await?;
        let left = found.map(|document| model::left_of(&document)).transpose();
        Ok(left.map_err(named(operation))?.map(|left| left.map_or(Expiry::Never, Expiry::after_millis)))
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        self.exists(Operation::Contains, key).await
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        batch::read_many(self, keys).await.map_err(named(Operation::ReadMany))
    }

    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        batch::write_many(self, writes).await.map_err(named(Operation::WriteMany))
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        batch::delete_many(self, keys).await.map_err(named(Operation::DeleteMany))
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        listing::keys(self, prefix)
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        listing::entries(self, prefix)
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        clear::clear(self, prefix).await.map_err(named(Operation::Clear))
    }

    async fn purge_expired(&self) -> Result<u64> {
        // The server's TTL monitor does it.
        self.driver.check_open(Operation::PurgeExpired).map(|()| 0)
    }

    async fn ping(&self) -> Result<()> {
        let operation = Operation::Ping;
        let database = self.driver.database(operation)?;
        self.driver
            .run(operation, async move { database.run_command(doc! { "ping": 1 }).await })
            .await
            .map(drop)
    }

    async fn flush(&self) -> Result<()> {
        // Every write is acknowledged only once it is stored.
        self.driver.check_open(Operation::Flush)
    }

    async fn close(&self) -> Result<()> {
        self.driver.close().await;
        Ok(())
    }
}

impl fmt::Debug for MongoStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoStorage")
            .field("driver", &self.driver)
            .field("layout", &self.model.layout)
            .field("form", &self.model.form)
            .finish()
    }
}

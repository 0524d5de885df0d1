//! The storage.

use std::sync::Arc;

use larder_core::{
    Action, Applied, Bytes, Change, Condition, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions,
    Location, Purge, ReadOptions, Record, Result, Storage, TouchOptions, Version, Versions, WriteOptions,
    Written, async_trait,
};
use larder_kit::{Configure, pages};

use crate::{
    batch,
    config::Config,
    driver::{CHUNK, Driver},
    keyspace::Route,
    listing::Listing,
    request::{Operation, changed, record},
    topology,
};

const INFO: Info = Info::minimal(Config::ADAPTER)
    .with_expiry()
    .with_versions(Versions::Content)
    .with_repeating_listing()
    .with_persistence()
    .with_sharing()
    .with_purge(Purge::Store)
    // The limit of Redis; a server's `proto-max-bulk-len` may be lower.
    .with_max_value(512 * 1024 * 1024);

impl Driver {
    async fn change(&self, key: &Key, action: &Action, condition: &Condition) -> Result<bool> {
        changed(condition, &self.call(key, Operation::Change(action, condition)).await?)
    }
}

/// Returns the touch if the value is not requested: a read would transfer the value.
fn touch_alone(options: &ReadOptions) -> Option<Action> {
    options.touch.filter(|_| !options.value).map(Action::Touch)
}

fn read<'a>(options: &'a ReadOptions, touch: Option<&'a Action>) -> Operation<'a> {
    touch.map_or(Operation::Read(options), |touch| Operation::Change(touch, &Condition::Any))
}

#[async_trait]
impl Storage for Driver {
    fn info(&self) -> Info {
        if self.client.fenced { INFO.with_fencing() } else { INFO }
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let touch = touch_alone(options);
        record(options, self.call(key, read(options, touch.as_ref())).await?)
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let version = Version::from_content(value.clone());
        self.change(key, &Action::Put(value, options.expiry), &options.condition).await?;
        Ok(Written::at(version))
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        self.change(key, &Action::Delete, &options.condition).await
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.change(key, &Action::Touch(expiry), &options.condition).await
    }

    /// Does not use `MGET`, which returns nil for a key of another type: an error must not look like an absent entry.
    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let mut records: Vec<Result<Option<Record>>> = Vec::with_capacity(keys.len());
        let touch = touch_alone(options);
        let operation = read(options, touch.as_ref());
        for chunk in keys.chunks(CHUNK) {
            if let Some(error) = records.last().and_then(|last| last.as_ref().err()?.unsent()) {
                records.resize(keys.len(), Err(error));
                break;
            }
            let replies = self.exchange(chunk.iter().map(|key| (key, operation)).collect()).await;
            records.extend(replies.into_iter().map(|reply| record(options, reply?)));
        }
        records
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        batch::apply(self, changes).await
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        pages(Listing::new(self, &options))
    }

    async fn ping(&self) -> Result<()> {
        self.client.acquire().await?.query(redis::cmd("PING"), Route::Any).await
    }

    async fn location(&self) -> Result<Option<Location>> {
        let database = topology::database(&*self.client.acquire().await?).await?;
        let location = |database| Location::new(format!("{}:{database}", Config::ADAPTER));
        Ok(database.map(|database| location(database).with_prefix(self.keyspace.prefix())))
    }

    async fn close(&self) -> Result<()> {
        self.client.close();
        Ok(())
    }
}

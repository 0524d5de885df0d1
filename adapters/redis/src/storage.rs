//! The storage.

use std::{fmt, sync::Arc};

use larder_core::{
    Action, Applied, Bytes, Change, Condition, DeleteOptions, EntryStream, Expiry, Info, Key, ListOptions,
    Purge, ReadOptions, Record, Result, Storage, TouchOptions, Version, Versions, WriteOptions, Written,
    async_trait,
};
use larder_kit::{Batch, Limits, pages};
use redis::Value;

use crate::{
    driver::{CHUNK, Driver},
    error::{NAME, unexpected_reply},
    keyspace::Route,
    listing::Listing,
    request::{Operation, changed},
};

/// How much of a batch goes out at once.
const LIMITS: Limits = Limits { entries: CHUNK, bytes: 1 << 20 };

const INFO: Info = Info::minimal(NAME)
    .with_expiry()
    .with_versions(Versions::Content)
    .with_repeating_listing()
    .with_persistence()
    .with_sharing()
    .with_purge(Purge::Store)
    // The largest value that any server takes.
    .with_max_value(512 * 1024 * 1024);

/// A storage on Redis or Valkey.
pub struct RedisStorage {
    pub(crate) driver: Arc<Driver>,
}

impl RedisStorage {
    async fn change(&self, key: &Key, action: &Action, condition: &Condition) -> Result<bool> {
        let request = self.driver.request(key, Operation::Change(action, condition));
        let reply = self.driver.exchange(&[request]).await.pop();
        changed(condition, &reply.unwrap_or_else(|| Err(unexpected_reply()))?)
    }
}

#[async_trait]
impl Storage for RedisStorage {
    fn info(&self) -> Info {
        if self.driver.client.fenced { INFO.with_fencing() } else { INFO }
    }

    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let record = self.driver.read_many(std::slice::from_ref(key), options).await.pop();
        record.unwrap_or_else(|| Err(unexpected_reply()))
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

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        self.driver.read_many(keys, options).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let mut batch = Batch::new(changes, LIMITS);
        while let Some(round) = batch.next_round() {
            let requests: Vec<_> = round
                .changes()
                .iter()
                .map(|change| {
                    let operation = Operation::Change(&change.action, &change.condition);
                    self.driver.request(&change.key, operation)
                })
                .collect();
            let replies = self.driver.exchange(&requests).await;
            let applied = round.changes().iter().zip(replies).map(|(change, reply)| applied(change, &reply?));
            let results = applied.collect();
            batch.done(round, Ok(results));
        }
        batch.into_results()
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        pages(Listing::new(&self.driver, &options))
    }

    async fn ping(&self) -> Result<()> {
        self.driver.client.acquire().await?.query(&redis::cmd("PING"), Route::Any).await
    }

    async fn close(&self) -> Result<()> {
        self.driver.client.close();
        Ok(())
    }
}

fn applied(change: &Change, reply: &Value) -> Result<Applied> {
    let done = changed(&change.condition, reply)?;
    Ok(match &change.action {
        Action::Put(value, _) => Applied::Put(Written::at(Version::from_content(value.clone()))),
        Action::Delete => Applied::Deleted(done),
        Action::Touch(_) => Applied::Touched(done),
    })
}

impl fmt::Debug for RedisStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStorage").field("fenced", &self.driver.client.fenced).finish_non_exhaustive()
    }
}

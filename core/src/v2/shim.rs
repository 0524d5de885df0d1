//! Between the two editions, until everything is ported.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future, stream};

use super::{
    Applied, Change, Condition, DeleteOptions, Entry, EntryStream, Info, ListOptions, ReadOptions, Storage,
    Store, TouchOptions, WriteOptions, Written,
};
use crate::{
    Capabilities, Error, ErrorKind, Expiry, Failure, Key, KeyStream, Operation, Record, Result,
    Storage as First, Version, Write,
};

/// A store on a storage of the first edition.
#[doc(hidden)]
pub fn legacy(storage: impl First + 'static) -> Store {
    Store::from(Legacy(crate::share(storage)))
}

impl From<Arc<dyn First>> for Store {
    fn from(storage: Arc<dyn First>) -> Self {
        legacy(storage)
    }
}

impl From<Box<dyn First>> for Store {
    fn from(storage: Box<dyn First>) -> Self {
        legacy(storage)
    }
}

#[derive(Debug)]
struct Legacy(Arc<dyn First>);

impl Legacy {
    /// Fails if the entry is not as `condition` asks for: not atomic with what follows.
    async fn check(&self, key: &Key, condition: &Condition) -> Result<()> {
        if *condition == Condition::Any {
            return Ok(());
        }
        let record = self.0.read(key).await?;
        let version = record.and_then(|record| record.version);
        if condition.holds(version.as_ref()) { Ok(()) } else { Err(Error::conflict()) }
    }

    async fn with_ttl(
        &self,
        key: &Key,
        record: Option<Record>,
        options: &ReadOptions,
    ) -> Result<Option<Record>> {
        let Some(record) = record else { return Ok(None) };
        if let Some(expiry) = options.touch {
            self.0.touch(key, expiry).await?;
        }
        if !options.ttl {
            return Ok(Some(record));
        }
        Ok(self.0.ttl(key).await?.map(|expiry| record.expires(expiry)))
    }
}

#[async_trait]
impl Storage for Legacy {
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        if !options.value && options.touch.is_none() {
            if options.ttl {
                let ttl = self.0.ttl(key).await?;
                return Ok(ttl.map(|expiry| Record::new(Bytes::new()).expires(expiry)));
            }
            return Ok(self.0.contains(key).await?.then(|| Record::new(Bytes::new())));
        }
        let record = self.0.read(key).await?;
        self.with_ttl(key, record, options).await
    }

    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let condition = match &options.condition {
            Condition::Any => {
                return self.0.write(key, value, options.expiry).await.map(|()| Written::default());
            }
            Condition::Absent => crate::Condition::Absent,
            Condition::At(version) => crate::Condition::At(version.clone()),
            Condition::Present => {
                self.check(key, &options.condition).await?;
                return self.0.write(key, value, options.expiry).await.map(|()| Written::default());
            }
        };
        self.0.write_if(key, value, options.expiry, condition).await.map(Written::at)
    }

    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        match &options.condition {
            Condition::Any => self.0.delete(key).await,
            Condition::At(version) => self.0.delete_if(key, version).await.map(|()| true),
            condition => {
                self.check(key, condition).await?;
                self.0.delete(key).await
            }
        }
    }

    fn info(&self) -> Info {
        let old = self.0.capabilities();
        let mut info = Info::minimal(self.0.name());
        info.expiry = old.expiry;
        info.versions = old.versions;
        info.listing = old.listing;
        info.lists_once = old.lists_once;
        info.persistent = old.persistent;
        info.shared = old.shared;
        info.fenced = old.fenced;
        info.purge = old.purge;
        info.values = old.values;
        info.any_key = old.any_key;
        info.max_value = old.max_value;
        info.legacy = true;
        info
    }

    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        self.check(key, &options.condition).await?;
        self.0.touch(key, expiry).await
    }

    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        if options.value
            && !options.ttl
            && options.touch.is_none()
            && let Ok(records) = self.0.read_many(keys).await
        {
            return records.into_iter().map(Ok).collect();
        }
        let mut results = Vec::new();
        for key in keys {
            results.push(self.read(key, options).await);
        }
        results
    }

    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        let found = Arc::new(Mutex::new(None));
        let next = Arc::clone(&found);
        let mut listing = Box::pin(async move {
            let entry = |entry: crate::Entry| Entry::new(entry.key, entry.record.expires(entry.expiry));
            let mut entries = match options.values {
                true => self.0.entries(&options.prefix).map_ok(entry).boxed(),
                false => self.0.keys(&options.prefix).map_ok(Entry::key).boxed(),
            };
            while let Some(entry) = entries.next().await {
                *next.lock().unwrap_or_else(PoisonError::into_inner) = Some(entry);
                // Until it has been taken.
                let mut is_taken = false;
                let taken = move |_: &mut Context<'_>| match std::mem::replace(&mut is_taken, true) {
                    true => Poll::Ready(()),
                    false => Poll::Pending,
                };
                future::poll_fn(taken).await;
            }
        });
        stream::poll_fn(move |context| {
            let ended = listing.as_mut().poll(context).is_ready();
            match found.lock().unwrap_or_else(PoisonError::into_inner).take() {
                None if !ended => Poll::Pending,
                entry => Poll::Ready(entry),
            }
        })
        .boxed()
    }

    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        self.0.clear(prefix).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        self.0.purge_expired().await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }

    async fn flush(&self) -> Result<()> {
        self.0.flush().await
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }
}

/// Of the results of a batch, what the first edition returns.
fn partial<T>(results: Vec<Result<T>>, operation: Operation) -> Result<Vec<T>> {
    let total = results.len();
    let mut done = Vec::new();
    let mut failures = Vec::new();
    for (index, result) in results.into_iter().enumerate() {
        match result {
            Ok(value) => done.push(value),
            Err(error) => failures.push(Failure::new(index, error)),
        }
    }
    let common = failures.first().map(|failure| failure.error.clone());
    match common {
        None => Ok(done),
        Some(error)
            if failures.len() == total
                && !matches!(
                    error.kind(),
                    ErrorKind::InvalidKey | ErrorKind::InvalidValue | ErrorKind::TooLarge
                )
                && failures.iter().all(|failure| failure.error.kind() == error.kind()) =>
        {
            Err(error)
        }
        Some(error) => {
            let adapter = error.adapter().unwrap_or("storage");
            Err(Error::partial(failures, total).with_adapter(adapter).with_operation(operation))
        }
    }
}

#[async_trait]
impl First for Store {
    fn name(&self) -> &'static str {
        self.info().name
    }

    fn capabilities(&self) -> Capabilities {
        let info = self.info();
        let mut old = Capabilities::minimal();
        old.expiry = info.expiry;
        old.versions = info.versions;
        old.listing = info.listing;
        old.lists_once = info.lists_once;
        old.persistent = info.persistent;
        old.shared = info.shared;
        old.fenced = info.fenced;
        old.purge = info.purge;
        old.values = info.values;
        old.any_key = info.any_key;
        old.max_value = info.max_value;
        old
    }

    async fn read(&self, key: &Key) -> Result<Option<Record>> {
        self.read_with(key, &ReadOptions::new()).await
    }

    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
        self.write_with(key, value, &WriteOptions::new().expiry(expiry)).await.map(drop)
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        self.delete_with(key, &DeleteOptions::new()).await
    }

    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: crate::Condition,
    ) -> Result<Version> {
        let condition = match condition {
            crate::Condition::Absent => Condition::Absent,
            crate::Condition::At(version) => Condition::At(version),
        };
        let options = WriteOptions::new().expiry(expiry).condition(condition);
        Ok(self.write_with(key, value, &options).await?.version.unwrap_or_else(Version::unique))
    }

    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        let options = DeleteOptions::new().condition(Condition::At(version.clone()));
        self.delete_with(key, &options).await.map(drop)
    }

    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        self.touch_with(key, expiry, &TouchOptions::new()).await
    }

    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        Self::ttl(self, key).await
    }

    async fn contains(&self, key: &Key) -> Result<bool> {
        Self::contains(self, key).await
    }

    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        Self::read_many(self, keys, &ReadOptions::new()).await.into_iter().collect()
    }

    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        let change = |write: &Write| Change::put(write.key.clone(), write.value.clone(), write.expiry);
        partial(self.apply(writes.iter().map(change).collect()).await, Operation::WriteMany).map(drop)
    }

    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        let results = self.apply(keys.iter().cloned().map(Change::delete).collect()).await;
        let deleted = partial(results, Operation::DeleteMany)?;
        Ok(deleted.into_iter().filter(|applied| *applied == Applied::Deleted(true)).count() as u64)
    }

    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        Self::keys(self, prefix)
    }

    fn entries<'a>(&'a self, prefix: &'a str) -> crate::EntryStream<'a> {
        let entry = |(key, mut record): (Key, Record)| {
            let expiry = record.expiry.take().unwrap_or_default();
            future::ready(Ok(crate::Entry::new(key, record, expiry)))
        };
        Self::entries(self, prefix).and_then(entry).boxed()
    }

    async fn clear(&self, prefix: &str) -> Result<u64> {
        Self::clear(self, prefix).await
    }

    async fn purge_expired(&self) -> Result<u64> {
        Self::purge_expired(self).await
    }

    async fn ping(&self) -> Result<()> {
        Self::ping(self).await
    }

    async fn flush(&self) -> Result<()> {
        Self::flush(self).await
    }

    async fn close(&self) -> Result<()> {
        Self::close(self).await
    }
}

/// Implements the first edition's trait for a storage of the second, which is `Clone`.
#[doc(hidden)]
#[macro_export]
macro_rules! first_edition {
    ($storage:ty) => {
        impl $storage {
            fn first_edition(&self) -> $crate::v2::Store {
                $crate::v2::Store::from(self.clone())
            }
        }

        #[$crate::async_trait]
        impl $crate::Storage for $storage {
            async fn read(&self, key: &$crate::Key) -> $crate::Result<Option<$crate::Record>> {
                $crate::Storage::read(&self.first_edition(), key).await
            }

            async fn write(
                &self,
                key: &$crate::Key,
                value: $crate::Bytes,
                expiry: $crate::Expiry,
            ) -> $crate::Result<()> {
                $crate::Storage::write(&self.first_edition(), key, value, expiry).await
            }

            async fn delete(&self, key: &$crate::Key) -> $crate::Result<bool> {
                $crate::Storage::delete(&self.first_edition(), key).await
            }

            fn name(&self) -> &'static str {
                $crate::Storage::name(&self.first_edition())
            }

            fn capabilities(&self) -> $crate::Capabilities {
                self.first_edition().capabilities()
            }

            async fn write_if(
                &self,
                key: &$crate::Key,
                value: $crate::Bytes,
                expiry: $crate::Expiry,
                condition: $crate::Condition,
            ) -> $crate::Result<$crate::Version> {
                self.first_edition().write_if(key, value, expiry, condition).await
            }

            async fn delete_if(&self, key: &$crate::Key, version: &$crate::Version) -> $crate::Result<()> {
                self.first_edition().delete_if(key, version).await
            }

            async fn touch(&self, key: &$crate::Key, expiry: $crate::Expiry) -> $crate::Result<bool> {
                $crate::Storage::touch(&self.first_edition(), key, expiry).await
            }

            async fn ttl(&self, key: &$crate::Key) -> $crate::Result<Option<$crate::Expiry>> {
                $crate::Storage::ttl(&self.first_edition(), key).await
            }

            async fn contains(&self, key: &$crate::Key) -> $crate::Result<bool> {
                $crate::Storage::contains(&self.first_edition(), key).await
            }

            async fn read_many(&self, keys: &[$crate::Key]) -> $crate::Result<Vec<Option<$crate::Record>>> {
                $crate::Storage::read_many(&self.first_edition(), keys).await
            }

            async fn write_many(&self, writes: &[$crate::Write]) -> $crate::Result<()> {
                self.first_edition().write_many(writes).await
            }

            async fn delete_many(&self, keys: &[$crate::Key]) -> $crate::Result<u64> {
                self.first_edition().delete_many(keys).await
            }

            fn keys<'a>(&'a self, prefix: &'a str) -> $crate::KeyStream<'a> {
                self.first_edition().keys(prefix)
            }

            fn entries<'a>(&'a self, prefix: &'a str) -> $crate::EntryStream<'a> {
                use ::futures_util::{StreamExt, TryStreamExt};
                let entry = |(key, mut record): ($crate::Key, $crate::Record)| {
                    let expiry = record.expiry.take().unwrap_or_default();
                    $crate::Entry::new(key, record, expiry)
                };
                self.first_edition().entries(prefix).map_ok(entry).boxed()
            }

            async fn clear(&self, prefix: &str) -> $crate::Result<u64> {
                self.first_edition().clear(prefix).await
            }

            async fn purge_expired(&self) -> $crate::Result<u64> {
                self.first_edition().purge_expired().await
            }

            async fn flush(&self) -> $crate::Result<()> {
                self.first_edition().flush().await
            }

            async fn close(&self) -> $crate::Result<()> {
                self.first_edition().close().await
            }
        }
    };
}

//! Pointers to a storage are storages.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Capabilities, Condition, EntryStream, Expiry, Key, KeyStream, Record, Result, Storage, Version, Write,
};

macro_rules! forward {
    ($($pointer:ty),+) => {$(
        #[async_trait]
        #[deny(clippy::missing_trait_methods)]
        impl<S: Storage + ?Sized> Storage for $pointer {
            fn name(&self) -> &'static str {
                (**self).name()
            }

            fn capabilities(&self) -> Capabilities {
                (**self).capabilities()
            }

            async fn read(&self, key: &Key) -> Result<Option<Record>> {
                (**self).read(key).await
            }

            async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
                (**self).write(key, value, expiry).await
            }

            async fn delete(&self, key: &Key) -> Result<bool> {
                (**self).delete(key).await
            }

            async fn write_if(
                &self,
                key: &Key,
                value: Bytes,
                expiry: Expiry,
                condition: Condition,
            ) -> Result<Version> {
                (**self).write_if(key, value, expiry, condition).await
            }

            async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
                (**self).delete_if(key, version).await
            }

            async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
                (**self).touch(key, expiry).await
            }

            async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
                (**self).ttl(key).await
            }

            async fn contains(&self, key: &Key) -> Result<bool> {
                (**self).contains(key).await
            }

            async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
                (**self).read_many(keys).await
            }

            async fn write_many(&self, writes: &[Write]) -> Result<()> {
                (**self).write_many(writes).await
            }

            async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
                (**self).delete_many(keys).await
            }

            fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
                (**self).keys(prefix)
            }

            fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
                (**self).entries(prefix)
            }

            async fn clear(&self, prefix: &str) -> Result<u64> {
                (**self).clear(prefix).await
            }

            async fn purge_expired(&self) -> Result<u64> {
                (**self).purge_expired().await
            }

            async fn ping(&self) -> Result<()> {
                (**self).ping().await
            }

            async fn flush(&self) -> Result<()> {
                (**self).flush().await
            }

            async fn close(&self) -> Result<()> {
                (**self).close().await
            }
        }
    )+};
}

forward!(&S, Box<S>, Arc<S>);

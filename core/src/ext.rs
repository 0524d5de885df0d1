//! Conveniences on every storage.

use async_trait::async_trait;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Expiry, Key, Result, Storage, Typed};

/// Typed values, as JSON, on every [`Storage`]. For another codec make a [`Typed`].
#[async_trait]
pub trait StorageExt: Storage {
    /// Reads the value under `key` as a `T`.
    ///
    /// # Errors
    ///
    /// As [`Storage::read`]; [`Codec`](crate::ErrorKind::Codec) if the bytes are not the JSON of a
    /// `T`.
    async fn read_as<T>(&self, key: &Key) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned + Send,
    {
        Typed::new(self).read(key).await
    }

    /// Writes `value` as JSON under `key`.
    ///
    /// # Errors
    ///
    /// As [`Storage::write`]; [`Codec`](crate::ErrorKind::Codec) if JSON cannot hold the value, or if a
    /// `T` could not be read from it again.
    async fn write_as<T>(&self, key: &Key, value: &T, expiry: Expiry) -> Result<()>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
    {
        Typed::new(self).write(key, value, expiry).await
    }

    /// Replaces the value under `key` by what `change` makes of it, losing no update of anybody
    /// else; see [`Typed::update`].
    ///
    /// # Errors
    ///
    /// As [`Typed::update`].
    async fn update_as<T, F>(&self, key: &Key, expiry: Expiry, change: F) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned + Send + Sync,
        F: FnMut(Option<T>) -> Option<T> + Send,
    {
        Typed::new(self).update(key, expiry, change).await
    }
}

impl<S: Storage + ?Sized> StorageExt for S {}

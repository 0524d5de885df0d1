//! Typed values.

use std::{fmt, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};

use super::{Store, claims};
use crate::{
    Codec, Condition, DeleteOptions, Error, ErrorKind, Expiry, Json, Key, Operation, ReadOptions, Result,
    Version, WriteOptions, Written,
};

/// A store whose values are of type `T`, encoded by `C`. Created by [`Store::typed`].
///
/// A value that cannot be decoded again is not written; see [`Codec::encode_readable`]. A decoding error
/// contains the [fingerprint](Key::fingerprint) of the entry's key.
///
/// ```
/// use larder_core::{Expiry, Key, Result, Store};
///
/// async fn remember(store: &Store, chat: &Key) -> Result<()> {
///     let names = store.typed::<Vec<String>>();
///     names.update(chat, Expiry::Never, |known| {
///         let mut known = known.unwrap_or_default();
///         known.push("Rex".to_owned());
///         Some(known)
///     }).await?;
///     Ok(())
/// }
/// ```
pub struct Typed<T, C = Json> {
    store: Store,
    codec: C,
    value: PhantomData<fn() -> T>,
}

impl Store {
    /// Returns the store with values of type `T`, encoded as JSON.
    #[must_use]
    pub fn typed<T>(&self) -> Typed<T> {
        self.typed_with(Json)
    }

    /// Returns the store with values of type `T`, encoded by `codec`.
    #[must_use]
    pub fn typed_with<T, C: Codec>(&self, codec: C) -> Typed<T, C> {
        Typed { store: self.clone(), codec, value: PhantomData }
    }

    /// Reads the JSON value under `key` as a `T`.
    ///
    /// # Errors
    ///
    /// As [`Typed::read`].
    pub async fn read_as<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<T>> {
        self.typed().read(key).await
    }

    /// Writes `value` as JSON under `key`.
    ///
    /// # Errors
    ///
    /// As [`Typed::write`].
    pub async fn write_as<T>(&self, key: &Key, value: &T, expiry: impl Into<Expiry>) -> Result<Written>
    where
        T: Serialize + DeserializeOwned,
    {
        let options = WriteOptions::new().expiry(expiry);
        self.typed().write(key, value, &options).await
    }

    /// Replaces the JSON value under `key` with the result of `change`, without losing concurrent updates.
    /// See [`Typed::update`].
    ///
    /// # Errors
    ///
    /// As [`Typed::update`].
    pub async fn update<T, F>(&self, key: &Key, expiry: impl Into<Expiry>, change: F) -> Result<Option<T>>
    where
        T: Serialize + DeserializeOwned,
        F: FnMut(Option<T>) -> Option<T>,
    {
        self.typed().update(key, expiry, change).await
    }
}

impl<T, C: Codec> Typed<T, C> {
    /// Returns the underlying store.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    fn named(&self, error: Error, operation: Operation, key: &Key) -> Error {
        self.store.name_entry(self.store.named(error, operation), key)
    }
}

impl<T: DeserializeOwned, C: Codec> Typed<T, C> {
    /// Reads and decodes the value under `key`.
    ///
    /// # Errors
    ///
    /// As [`Store::read`]; [`Codec`](ErrorKind::Codec) if the bytes cannot be decoded.
    pub async fn read(&self, key: &Key) -> Result<Option<T>> {
        Ok(self.read_versioned(key).await?.map(|(value, _)| value))
    }

    /// Reads and decodes the value under `key`, and returns it with its version.
    ///
    /// # Errors
    ///
    /// As [`Store::read`]; [`Codec`](ErrorKind::Codec) if the bytes cannot be decoded.
    pub async fn read_versioned(&self, key: &Key) -> Result<Option<(T, Option<Version>)>> {
        let Some(record) = self.store.read_with(key, &ReadOptions::new()).await? else {
            return Ok(None);
        };
        let value =
            self.codec.decode(&record.value).map_err(|error| self.named(error, Operation::Read, key))?;
        Ok(Some((value, record.version)))
    }
}

impl<T: Serialize + DeserializeOwned, C: Codec> Typed<T, C> {
    /// Encodes and writes `value` under `key`.
    ///
    /// # Errors
    ///
    /// As [`Store::write`]; [`Codec`](ErrorKind::Codec) if the value cannot be encoded, or if the bytes cannot be
    /// decoded again. After this error, the stored value is unchanged.
    pub async fn write(&self, key: &Key, value: &T, options: &WriteOptions) -> Result<Written> {
        let encoded = self.codec.encode_readable(value);
        let value = encoded.map_err(|error| self.named(error, Operation::Write, key))?;
        self.store.write_with(key, value, options).await
    }

    /// Replaces the value under `key` with the result of `change`, without losing concurrent updates. Returns the
    /// stored value.
    ///
    /// Reads the value, calls `change`, and writes the result if the entry has not changed since the read.
    /// Otherwise repeats these steps. `change` receives `None` if the entry does not exist, and returns `None`
    /// to delete it. A repetition is necessary only after another writer has succeeded, so the writers together
    /// always make progress.
    ///
    /// # Errors
    ///
    /// - [`Unsupported`](ErrorKind::Unsupported) if entries have no [versions](crate::Info::versions)
    /// - the errors of [`read`](Typed::read) and [`write`](Typed::write), except
    ///   [`Conflict`](ErrorKind::Conflict)
    pub async fn update<F>(&self, key: &Key, expiry: impl Into<Expiry>, mut change: F) -> Result<Option<T>>
    where
        F: FnMut(Option<T>) -> Option<T>,
    {
        let expiry = expiry.into();
        let supported = claims(self.store.info().conditions());
        supported.map_err(|error| self.store.named(error, Operation::Write))?;
        loop {
            let (value, condition) = match self.read_versioned(key).await? {
                None => (None, Condition::Absent),
                Some((value, Some(version))) => (Some(value), Condition::At(version)),
                Some((_, None)) => {
                    let error =
                        Error::new(ErrorKind::Other, "the adapter returned an entry without a version");
                    return Err(self.store.named(error, Operation::Read));
                }
            };
            let changed = change(value);
            let outcome = match &changed {
                Some(value) => {
                    let options = WriteOptions::new().expiry(expiry).condition(condition);
                    self.write(key, value, &options).await.map(drop)
                }
                None if condition == Condition::Absent => Ok(()),
                None => {
                    self.store.delete_with(key, &DeleteOptions::new().condition(condition)).await.map(drop)
                }
            };
            match outcome {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                outcome => return outcome.map(|()| changed),
            }
        }
    }
}

impl<T, C: Clone> Clone for Typed<T, C> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), codec: self.codec.clone(), value: PhantomData }
    }
}

impl<T, C: fmt::Debug> fmt::Debug for Typed<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("store", &self.store).field("codec", &self.codec).finish()
    }
}

//! A storage seen through a codec, as values of one type.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Codec, Condition, Error, ErrorKind, Expiry, Json, Key, Operation, Result, Storage, Version};

/// A storage whose values are `T`s, encoded by `C`.
///
/// A value that could not be read again is not written; see [`Codec::encode_readable`]. A decoding error
/// names the entry by the [fingerprint](Key::fingerprint) of its key.
///
/// ```
/// use larder_core::{Expiry, Key, Result, Storage, Typed};
///
/// async fn remember(storage: &dyn Storage, chat: &Key) -> Result<()> {
///     let names = Typed::<Vec<String>, _>::new(storage);
///     names.update(chat, Expiry::Never, |known| {
///         let mut known = known.unwrap_or_default();
///         known.push("Rex".to_owned());
///         Some(known)
///     }).await?;
///     Ok(())
/// }
/// ```
pub struct Typed<T, S, C = Json> {
    storage: S,
    codec: C,
    value: PhantomData<fn() -> T>,
}

impl<T, S: Storage> Typed<T, S> {
    /// Values of type `T` as JSON in `storage`.
    pub const fn new(storage: S) -> Self {
        Self::with_codec(storage, Json)
    }
}

impl<T, S: Storage, C: Codec> Typed<T, S, C> {
    /// Values of type `T`, encoded by `codec`, in `storage`.
    pub const fn with_codec(storage: S, codec: C) -> Self {
        Self { storage, codec, value: PhantomData }
    }

    /// The storage underneath.
    pub const fn storage(&self) -> &S {
        &self.storage
    }
}

impl<T, S, C> Typed<T, S, C>
where
    T: Serialize + DeserializeOwned + Send,
    S: Storage,
    C: Codec,
{
    /// Reads and decodes the value under `key`.
    ///
    /// # Errors
    ///
    /// As [`Storage::read`]; [`ErrorKind::Codec`] if the bytes do not decode.
    pub async fn read(&self, key: &Key) -> Result<Option<T>> {
        Ok(self.read_versioned(key).await?.map(|(value, _)| value))
    }

    /// Reads and decodes the value under `key`, with the version that was read.
    ///
    /// # Errors
    ///
    /// As [`Storage::read`]; [`ErrorKind::Codec`] if the bytes do not decode.
    pub async fn read_versioned(&self, key: &Key) -> Result<Option<(T, Option<Version>)>> {
        let Some(record) = self.storage.read(key).await? else {
            return Ok(None);
        };
        let value = self
            .codec
            .decode(&record.value)
            .map_err(|error| error.with_adapter(self.storage.name()).with_key(key))?;
        Ok(Some((value, record.version)))
    }

    /// Encodes and writes `value` under `key`.
    ///
    /// # Errors
    ///
    /// As [`Storage::write`]; [`ErrorKind::Codec`] if the value cannot be encoded, or if a `T` could
    /// not be decoded from it again. The stored value then stays.
    pub async fn write(&self, key: &Key, value: &T, expiry: Expiry) -> Result<()> {
        let value = self.encode(key, value);
        self.storage.write(key, value?, expiry).await
    }

    /// Encodes `value` and writes it under `key` if `condition` holds.
    ///
    /// # Errors
    ///
    /// As [`Storage::write_if`]; [`ErrorKind::Codec`] as for [`write`](Typed::write).
    pub async fn write_if(
        &self,
        key: &Key,
        value: &T,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        let value = self.encode(key, value);
        self.storage.write_if(key, value?, expiry, condition).await
    }

    fn encode(&self, key: &Key, value: &T) -> Result<Bytes> {
        self.codec.encode_readable(value).map_err(|error| error.with_key(key))
    }

    /// Replaces the value under `key` by what `change` makes of it, losing no update of anybody
    /// else: it reads, calls `change`, and writes if the entry is still as it was read; otherwise it
    /// does so again. `change` is given `None` if there is no value, and returns `None` to delete
    /// it. Returns what is stored in the end.
    ///
    /// Every turn that fails means that another writer's has succeeded, so the writers together
    /// always get on.
    ///
    /// # Errors
    ///
    /// As [`read`](Typed::read) and [`write_if`](Typed::write_if), but for
    /// [`ErrorKind::Conflict`]; [`ErrorKind::Unsupported`] on a storage with no compare-and-swap.
    pub async fn update<F>(&self, key: &Key, expiry: Expiry, mut change: F) -> Result<Option<T>>
    where
        F: FnMut(Option<T>) -> Option<T> + Send,
    {
        loop {
            let (value, version) = match self.read_versioned(key).await? {
                Some((value, version)) => (Some(value), version),
                None => (None, None),
            };
            // A value with no version: the storage cannot compare, and "absent" would be a lie.
            if value.is_some() && version.is_none() {
                return Err(Error::unsupported()
                    .with_adapter(self.storage.name())
                    .with_operation(Operation::WriteIf));
            }
            let changed = change(value);
            let outcome = match (&changed, version) {
                (Some(value), version) => {
                    self.write_if(key, value, expiry, Condition::from(version)).await.map(drop)
                }
                (None, Some(version)) => self.storage.delete_if(key, &version).await,
                (None, None) => Ok(()),
            };
            match outcome {
                Err(error) if error.kind() == ErrorKind::Conflict => {}
                outcome => return outcome.map(|()| changed),
            }
        }
    }
}

impl<T, S: Clone, C: Clone> Clone for Typed<T, S, C> {
    fn clone(&self) -> Self {
        Self { storage: self.storage.clone(), codec: self.codec.clone(), value: PhantomData }
    }
}

impl<T, S: fmt::Debug, C: fmt::Debug> fmt::Debug for Typed<T, S, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Typed").field("storage", &self.storage).field("codec", &self.codec).finish()
    }
}

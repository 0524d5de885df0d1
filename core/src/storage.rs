//! The trait. Its documentation is the specification.

use std::{future, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{
    StreamExt, TryStreamExt,
    stream::{self, TryChunksError},
};

use crate::{
    Action, Applied, Change, DeleteOptions, Entry, Error, Expiry, Info, Key, ListOptions, Location,
    ReadOptions, Record, Result, TouchOptions, WriteOptions, Written,
};

/// A stream of entries, as a listing finds them.
pub type EntryStream = BoxStream<'static, Result<Entry>>;

/// How many keys the default [`Storage::clear`] deletes with one call.
const CLEAR_CHUNK: usize = 512;

/// Stores bytes under keys. Every adapter implements this trait.
///
/// Callers use [`Store`](crate::Store), which applies the rules that are the same on every adapter. An
/// adapter can therefore rely on the following:
///
/// - No operation begins after [`close`](Storage::close) was called. An operation that began earlier may
///   still call other methods.
/// - An [`Expiry`] is never [elapsed](Expiry::is_elapsed): a write or touch with a time to live of zero
///   arrives as a deletion with the same condition.
/// - A deletion or touch never has [`Condition::Absent`](crate::Condition::Absent): it would change
///   nothing, so it arrives as a read.
/// - Callers use only the methods and options that [`info`](Storage::info) claims, and no value is larger
///   than [`Info::max_value`].
/// - `Store` adds the names of the adapter and the operation to errors.
///
/// # Contract
///
/// The conformance suite (`larder-testkit`) checks these rules on every adapter:
///
/// - **Read your writes.** Once a write has returned `Ok`, every later read through any handle on the same
///   store returns this value or a newer one.
/// - **Acknowledged means stored.** If [`Info::persistent`] is claimed, an acknowledged write survives
///   the end of the process, even a crash. Each adapter documents the settings for surviving a power cut.
/// - **Bytes are bytes.** With [`Values::Bytes`](crate::Values::Bytes), a read returns exactly the bytes that
///   were written, even if they are empty or not UTF-8. The store and the caller share no memory.
/// - **Keys are data**, see [`Key`]. Two different keys are two entries.
/// - **An absent entry is not an error**, and an error is never reported as an absent entry.
/// - **Conditions are atomic.** Of any number of concurrent changes with the same condition, one succeeds; the
///   others are [`Conflict`](crate::ErrorKind::Conflict) errors.
/// - **Listings are complete.** A listing contains every key that exists from its beginning to its end,
///   regardless of concurrent writes. A key that is added or removed during the listing may be missing.
/// - **Listings report entries that they cannot name or read.** An `Err` of kind
///   [`Corrupt`](crate::ErrorKind::Corrupt) or [`InvalidKey`](crate::ErrorKind::InvalidKey) concerns one entry,
///   and the listing continues. Any other error ends it ([`Error::concerns_one_entry`]).
///
/// # Expiry
///
/// Every write sets the entry's [`Expiry`], which replaces the previous one and counts by the store's clock
/// (DynamoDB: the client's). An expired entry is never returned, listed or counted. Conditions treat it as absent,
/// and deleting it returns `false`, whether or not the store has removed it already.
///
/// # Versions
///
/// If [`Info::versions`] is claimed, [`read`](Storage::read) returns a [`Version`](crate::Version) with
/// the value, for use in [`Condition::At`](crate::Condition::At). A touch keeps the version. With
/// [`Versions::Unique`](crate::Versions::Unique), every write changes it, even a write of the same value.
/// With [`Versions::Content`](crate::Versions::Content), equal contents have equal versions, even if the value
/// changed in between.
///
/// # Cancellation
///
/// Every future may be dropped at any point: the entry then has its old or its new value, other callers
/// are not affected, and the storage remains usable. A dropped write may still take effect later. If
/// [`Info::fenced`] is claimed, it never takes effect after a later change of the same key was acknowledged.
///
/// # Errors
///
/// The [kind](Error::kind) of an [`Error`] decides how callers react. Every method can fail with
/// [`Unavailable`](crate::ErrorKind::Unavailable) and [`Timeout`](crate::ErrorKind::Timeout). If the request
/// was certainly not sent, the error is marked as [`not_applied`](Error::not_applied). Adapters do not retry a
/// write that may have reached the store.
///
/// # Minimal implementation
///
/// A minimal adapter implements [`read`](Storage::read), [`write`](Storage::write) and
/// [`delete`](Storage::delete). The default batches and the default [`ping`](Storage::ping) use these three;
/// the default [`clear`](Storage::clear) uses listings. Other operations cannot be built on them correctly.
/// They are unsupported until the adapter overrides them and claims them in [`info`](Storage::info).
///
/// ```
/// use std::{collections::HashMap, sync::{Mutex, PoisonError}};
/// use larder_core::{
///     async_trait, Bytes, DeleteOptions, Key, ReadOptions, Record, Result, Storage, WriteOptions, Written,
/// };
///
/// #[derive(Default)]
/// struct Shelf(Mutex<HashMap<Key, Bytes>>);
///
/// #[async_trait]
/// impl Storage for Shelf {
///     async fn read(&self, key: &Key, _: &ReadOptions) -> Result<Option<Record>> {
///         let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
///         Ok(entries.get(key).cloned().map(Record::new))
///     }
///
///     async fn write(&self, key: &Key, value: Bytes, _: &WriteOptions) -> Result<Written> {
///         let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
///         // The value may be a slice of a larger buffer, which should not be kept alive.
///         entries.insert(key.clone(), Bytes::copy_from_slice(&value));
///         Ok(Written::default())
///     }
///
///     async fn delete(&self, key: &Key, _: &DeleteOptions) -> Result<bool> {
///         let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
///         Ok(entries.remove(key).is_some())
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a storage",
    label = "does not implement `Storage`",
    note = "implement `Storage` with `#[async_trait]`: `read`, `write` and `delete` are required",
    note = "a `Store` is not a `Storage`; call `Store::storage` for the storage that it uses"
)]
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Reads the entry under `key`. Returns `None` if the entry does not exist.
    ///
    /// Value, version, TTL and touch are of the same moment. The record may contain more than `options` ask
    /// for; [`Store`](crate::Store) removes the rest.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if the stored value is damaged or was not written by this adapter.
    /// Other keys are not affected.
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>>;

    /// Writes `value` under `key` if the condition holds, and returns once it is stored. The write is atomic
    /// and takes one round trip.
    ///
    /// # Errors
    ///
    /// - [`Conflict`](crate::ErrorKind::Conflict) if the condition does not hold
    /// - [`InvalidValue`](crate::ErrorKind::InvalidValue) if the store's value format cannot represent `value`
    /// - [`StorageFull`](crate::ErrorKind::StorageFull) if the store has no space left
    ///
    /// After these errors, the old entry is unchanged.
    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written>;

    /// Deletes the entry under `key` if the condition holds. Returns whether the entry existed. The deletion is
    /// atomic and takes one round trip.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if the condition does not hold.
    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool>;

    /// Returns the adapter's name and the native features of this storage, as configured. Constant during the
    /// storage's lifetime.
    fn info(&self) -> Info {
        Info::minimal("storage")
    }

    /// Gives the entry under `key` a new expiry, counted from now, if the condition holds. Returns
    /// whether the entry existed. Does not rewrite the value, and keeps the version.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if the condition does not hold.
    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let _ = (key, expiry, options);
        Err(Error::unsupported())
    }

    /// Reads several entries: one result per key, in the order of `keys`. A key that occurs twice is
    /// read twice. The results are not a snapshot: they may be of different moments.
    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        one_by_one(keys.iter().map(|key| self.read(key, options))).await
    }

    /// Applies several changes: one result per change, in the same order. Changes of one key are applied in
    /// the order of the batch. The batch is not a transaction: each change fails on its own, and readers may
    /// see some of the changes before the others.
    ///
    /// If the store becomes [`Unavailable`](crate::ErrorKind::Unavailable) or does not answer in time, the
    /// changes that were not sent yet fail with the same error, marked as [`not_applied`](Error::not_applied).
    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        one_by_one(changes.into_iter().map(|change| change.apply_to(self))).await
    }

    /// Lists entries. See "Listings" in the contract. The stream reads only when it is polled, uses constant
    /// memory, and may be dropped at any point. If another program has written an entry whose key is not a
    /// valid [`Key`], the stream yields an `Err` of kind [`InvalidKey`](crate::ErrorKind::InvalidKey) for it.
    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        let _ = options;
        stream::once(future::ready(Err(Error::unsupported()))).boxed()
    }

    /// Deletes all entries whose keys begin with `prefix`. Returns the number of deleted entries. Entries that
    /// are written at the same time may or may not be deleted. Entries of other programs that a listing cannot
    /// name are not deleted.
    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        let mut deleted = 0;
        let options = ListOptions::new().prefix(prefix).keys_only();
        let nameable =
            |entry: &Result<Entry>| future::ready(!entry.as_ref().is_err_and(Error::concerns_one_entry));
        let mut chunks = Arc::clone(&self).list(options).filter(nameable).try_chunks(CLEAR_CHUNK);
        while let Some(chunk) = chunks.next().await {
            // The error ends the listing: the entries of this chunk that came before it are not deleted.
            let chunk = chunk.map_err(|TryChunksError(_, error)| error)?;
            let changes = chunk.into_iter().map(|entry| Change::delete(entry.key)).collect();
            for result in self.apply(changes).await {
                deleted += u64::from(result?.existed());
            }
        }
        Ok(deleted)
    }

    /// Removes expired entries to free their space. Returns the number of removed entries. Stores that remove
    /// expired entries themselves ([`Purge::Store`](crate::Purge::Store)) return 0.
    async fn purge_expired(&self) -> Result<u64> {
        Ok(0)
    }

    /// Checks that the store answers.
    async fn ping(&self) -> Result<()> {
        let probe = Key::new("larder:ping")?;
        self.read(&probe, &ReadOptions::new().without_value()).await.map(drop)
    }

    /// Returns the location of the entries, which does not depend on the URL that opened the storage. Two
    /// handles have equal locations if and only if they access the same entries. The default is `None`: the
    /// location is unknown.
    async fn location(&self) -> Result<Option<Location>> {
        Ok(None)
    }

    /// Stores the acknowledged writes that are not stored yet. Adapters that acknowledge a write only once it is
    /// stored (all except a snapshot with an interval) do nothing here.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Flushes, stops background work and releases resources. [`Store`](crate::Store) may call it again after a
    /// failure, and while operations or another close are running. A pool or client that the caller provided
    /// stays open. Dropping the storage stops background work too, but does not wait for it.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// Makes the calls one after the other. Once the store is gone, does not make the remaining calls.
async fn one_by_one<T>(calls: impl Iterator<Item = impl Future<Output = Result<T>>>) -> Vec<Result<T>> {
    let mut results: Vec<Result<T>> = Vec::with_capacity(calls.size_hint().0);
    for call in calls {
        results.push(match results.last().and_then(|last| last.as_ref().err()?.unsent()) {
            Some(error) => Err(error),
            None => call.await,
        });
    }
    results
}

impl Change {
    /// Applies this change with the method of `storage` for single changes: [`write`](Storage::write),
    /// [`delete`](Storage::delete) or [`touch`](Storage::touch).
    ///
    /// # Errors
    ///
    /// The errors of that method.
    pub async fn apply_to<S: Storage + ?Sized>(self, storage: &S) -> Result<Applied> {
        let Self { key, action, condition } = self;
        match action {
            Action::Put(value, expiry) => {
                let options = WriteOptions { expiry, condition };
                storage.write(&key, value, &options).await.map(Applied::Put)
            }
            Action::Delete => storage.delete(&key, &DeleteOptions { condition }).await.map(Applied::Deleted),
            Action::Touch(expiry) => {
                storage.touch(&key, expiry, &TouchOptions { condition }).await.map(Applied::Touched)
            }
        }
    }
}

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

/// What an adapter implements: bytes under keys.
///
/// Callers use [`Store`](crate::Store), which applies the rules that are the same on every adapter. So an
/// adapter can rely on the following:
///
/// - No operation begins after [`close`](Storage::close) was called. One that is under way may still call
///   other methods.
/// - An [`Expiry`] is never [elapsed](Expiry::is_elapsed): a write or touch with a time to live of zero
///   arrives as a deletion on the same condition.
/// - A deletion or touch never arrives with [`Condition::Absent`](crate::Condition::Absent), which
///   changes nothing: it arrives as a read.
/// - No method or option is used that [`info`](Storage::info) does not claim, and no value is larger than
///   [`Info::max_value`].
/// - Errors need to name neither the adapter nor the operation.
///
/// # Contract
///
/// The conformance suite (`larder-testkit`) checks this on every adapter:
///
/// - **Read your writes.** Once a write's future is ready with `Ok`, every later read through any
///   handle on the same store sees it, or something newer.
/// - **Acknowledged means stored.** If [`Info::persistent`] is claimed, an acknowledged write survives
///   the death of the process. Each adapter documents what it takes to survive a power cut.
/// - **Bytes are bytes.** With [`Values::Bytes`](crate::Values::Bytes) a value comes back as it was
///   written, also if it is empty or not UTF-8. The store and the caller share no memory.
/// - **Keys are data**, see [`Key`]. Two different keys are two entries.
/// - **Absent is not an error**, and an error is never reported as absent.
/// - **Conditions are atomic.** Of any number of racing changes on the same condition one succeeds; the
///   others are [`Conflict`](crate::ErrorKind::Conflict) errors.
/// - **Listings miss nothing that stays.** A key that is there from the beginning of a listing to its
///   end is in it, whatever is written during it. Keys that come or go may or may not be.
/// - **Listings report what they cannot name or read.** An `Err` of kind [`Corrupt`](crate::ErrorKind::Corrupt)
///   or [`InvalidKey`](crate::ErrorKind::InvalidKey) concerns one entry and the listing goes on; any other error
///   ends it ([`Error::concerns_one_entry`]).
///
/// # Expiry
///
/// Every write sets the entry's [`Expiry`] and replaces the previous one. The store's clock decides. An
/// expired entry is never returned, listed or counted, conditions see it as absent, and deleting it
/// returns `false`, whether or not it has been removed.
///
/// # Versions
///
/// If [`Info::versions`] is claimed, [`read`](Storage::read) returns a [`Version`](crate::Version) with
/// the value, and [`Condition::At`](crate::Condition::At) takes it. A touch keeps the version. With
/// [`Versions::Unique`](crate::Versions::Unique) any other write changes it, also one of the same value;
/// with [`Versions::Content`](crate::Versions::Content) equal contents have equal versions, whatever
/// happened between.
///
/// # Cancellation
///
/// Every future may be dropped at any point: the entry then has its old or its new value, other callers
/// are not affected, and the storage remains usable. A dropped write may still happen. If
/// [`Info::fenced`] is claimed, it does not happen after a later change of the same key has been
/// acknowledged.
///
/// # Errors
///
/// Every method returns [`Error`] with a kind to decide by, and can fail with
/// [`Unavailable`](crate::ErrorKind::Unavailable) and [`Timeout`](crate::ErrorKind::Timeout). If the request was surely
/// not sent, the error is marked [`not_applied`](Error::not_applied). Adapters do not retry a write that
/// may have reached the store.
///
/// # Minimal implementation
///
/// [`read`](Storage::read), [`write`](Storage::write) and [`delete`](Storage::delete). The batches and
/// [`ping`](Storage::ping) have defaults that are built on them, and [`clear`](Storage::clear) one that is built on listings. What cannot be built on them correctly is
/// unsupported until the adapter overrides it and claims it in [`info`](Storage::info).
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
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Reads the entry under `key`; `None` if there is no entry.
    ///
    /// Value, version, TTL and touch belong to the same moment. The record may hold more than `options` ask
    /// for; [`Store`](crate::Store) leaves it out.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if what is stored was not written by this adapter or is damaged;
    /// other keys are not affected.
    async fn read(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>>;

    /// Writes `value` under `key` if the condition holds, and returns once it is stored. Atomic, and one
    /// round trip.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if the condition does not hold,
    /// [`InvalidValue`](crate::ErrorKind::InvalidValue) if the store's form for values cannot hold this one,
    /// [`StorageFull`](crate::ErrorKind::StorageFull) if there is no room. The old entry then stays as it was.
    async fn write(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written>;

    /// Deletes the entry under `key` if the condition holds; returns whether there was an entry. Atomic,
    /// and one round trip.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if the condition does not hold.
    async fn delete(&self, key: &Key, options: &DeleteOptions) -> Result<bool>;

    /// The adapter's name and what this storage, as configured, does natively. Always the same.
    fn info(&self) -> Info {
        Info::minimal("storage")
    }

    /// Gives the entry under `key` a new expiry, counted from now, if the condition holds; returns
    /// whether there was an entry. Does not rewrite the value; the version stays.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if the condition does not hold.
    async fn touch(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let _ = (key, expiry, options);
        Err(Error::unsupported())
    }

    /// Reads several entries: one result per key, in the order of `keys`. A key that is named twice is
    /// read twice. Not a snapshot.
    async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        one_by_one(keys.iter().map(|key| self.read(key, options))).await
    }

    /// Applies several changes: one result per change, in their order. Changes of one key are applied in
    /// the order of the batch. Not a transaction: a change that fails fails alone, and readers may see
    /// some of the changes before the others.
    ///
    /// If the store becomes [`Unavailable`](crate::ErrorKind::Unavailable) or does not answer in time, the
    /// changes that were not sent yet fail with the same error, [`not_applied`](Error::not_applied).
    async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        one_by_one(changes.into_iter().map(|change| change.apply_to(self))).await
    }

    /// Lists entries. See "Listings" in the contract. The stream reads on only as it is polled, in
    /// constant memory, and may be dropped at any point. An entry whose key is not a valid [`Key`],
    /// written by another program, is an `Err` of kind [`InvalidKey`](crate::ErrorKind::InvalidKey).
    fn list(self: Arc<Self>, options: ListOptions) -> EntryStream {
        let _ = options;
        stream::once(future::ready(Err(Error::unsupported()))).boxed()
    }

    /// Deletes all entries whose keys begin with `prefix`; returns how many there were. Entries that are
    /// written at the same time may or may not be deleted. What another program has written and a
    /// listing cannot name stays.
    async fn clear(self: Arc<Self>, prefix: &str) -> Result<u64> {
        let mut deleted = 0;
        let options = ListOptions::new().prefix(prefix).keys_only();
        let nameable =
            |entry: &Result<Entry>| future::ready(!entry.as_ref().is_err_and(Error::concerns_one_entry));
        let mut chunks = Arc::clone(&self).list(options).filter(nameable).try_chunks(CLEAR_CHUNK);
        while let Some(chunk) = chunks.next().await {
            // A listing ends with the error: what it had found before stays.
            let chunk = chunk.map_err(|TryChunksError(_, error)| error)?;
            let changes = chunk.into_iter().map(|entry| Change::delete(entry.key)).collect();
            for result in self.apply(changes).await {
                deleted += u64::from(result?.existed());
            }
        }
        Ok(deleted)
    }

    /// Removes entries that have expired, to give back their space; returns how many. Stores that do it by
    /// themselves ([`Purge::Store`](crate::Purge::Store)) return 0.
    async fn purge_expired(&self) -> Result<u64> {
        Ok(0)
    }

    /// Checks that the store answers.
    async fn ping(&self) -> Result<()> {
        let probe = Key::new("larder:ping")?;
        self.read(&probe, &ReadOptions::new().without_value()).await.map(drop)
    }

    /// Where the entries are, however the storage was addressed: two handles on the same entries, and only
    /// those, have the same location. `None` (the default) if the store does not tell.
    async fn location(&self) -> Result<Option<Location>> {
        Ok(None)
    }

    /// Stores what the storage still holds back. Adapters that acknowledge a write only once it is stored
    /// (all but a snapshot with an interval) have nothing to do.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Flushes, ends background work and releases what the storage holds. Called again after a failure,
    /// and possibly while operations or another close are under way. A pool or client that the caller handed in stays
    /// open. Dropping the storage ends background work too, but cannot wait for it.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

/// The results of the calls. Once the store is gone, the other calls are not made.
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
    /// Makes the change with the method of `storage` for it alone: [`write`](Storage::write),
    /// [`delete`](Storage::delete) or [`touch`](Storage::touch).
    ///
    /// # Errors
    ///
    /// Those of that method.
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

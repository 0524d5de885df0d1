//! The trait. Its documentation is the specification.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt, future, stream};

use crate::{
    Capabilities, Condition, Entry, Error, ErrorKind, Expiry, Failure, Key, Operation, Record, Result,
    Version, Write,
};

/// A stream of keys, as a listing finds them.
pub type KeyStream<'a> = BoxStream<'a, Result<Key>>;

/// A stream of entries, as a listing finds them.
pub type EntryStream<'a> = BoxStream<'a, Result<Entry>>;

/// How many keys the default [`Storage::clear`] deletes with one call.
const CLEAR_CHUNK: usize = 512;

/// A place where bytes are kept under keys.
///
/// The trait is dyn-compatible: hold a `Box<dyn Storage>`, an `Arc<dyn Storage>` or a `&dyn
/// Storage`; each of them is a `Storage` too.
///
/// # Contract
///
/// What the conformance suite (`larder-testkit`) checks on every adapter:
///
/// - **Read your writes.** Once a write's future is ready with `Ok`, every later read through any
///   handle on the same store sees it, or something newer.
/// - **Acknowledged means stored.** Where [`Capabilities::persistent`] holds, an acknowledged write
///   survives the death of the process. What it takes to survive a power cut each adapter
///   documents, with the option that decides it.
/// - **Bytes are bytes.** With [`Values::Bytes`](crate::Values::Bytes) a value comes back as it was
///   written, empty and non-UTF-8 ones included. Nothing that the caller holds is shared with the
///   store, nor the other way round.
/// - **Keys are data**, see [`Key`]. Two different keys are two entries.
/// - **Absent is not an error**, and an error is never reported as absent.
/// - **A condition is atomic.** Of any number of racing [`write_if`](Storage::write_if) with the
///   same condition one wins; the others are [`Conflict`](crate::ErrorKind::Conflict)s.
/// - **Listings miss nothing that stays.** A key that is there from the beginning of a listing to
///   its end is in it, whatever is written meanwhile. Keys that come or go meanwhile may or may not
///   be. There is no order.
/// - **Listings report what they cannot name or read.** An `Err` of kind
///   [`Corrupt`](crate::ErrorKind::Corrupt) or [`InvalidKey`](crate::ErrorKind::InvalidKey) concerns
///   one entry and the listing goes on; any other error ends it
///   ([`Error::concerns_one_entry`]).
///
/// # Expiry
///
/// Every write says how long the entry lives ([`Expiry`]) and so replaces the expiry that was there
/// before. The store's clock decides. An expired entry is never returned, listed or counted, a
/// `write_if` sees it as absent, and deleting it returns `false`, whether or not it has been swept.
/// A time to live of zero has already elapsed: such a write leaves the key absent. An adapter with
/// no expiry refuses [`Expiry::After`] as unsupported, rather than keep an entry too long.
///
/// # Versions
///
/// Where [`Capabilities::versions`] is not `None`, [`read`](Storage::read) returns a [`Version`]
/// with the value, and `write_if` and [`delete_if`](Storage::delete_if) take it. A
/// [`touch`](Storage::touch) keeps the version. With
/// [`Versions::Unique`](crate::Versions::Unique) any other write changes it, also one of the same
/// value; with [`Versions::Content`](crate::Versions::Content) equal contents have equal versions,
/// whatever happened between.
///
/// # Cancellation
///
/// Every future may be dropped at any point: the entry then has its old or its new value, other
/// callers are not affected, and the storage can be used on. A dropped write may still happen.
/// Where [`Capabilities::fenced`] holds, it does not happen after a later change of the same key has
/// been acknowledged.
///
/// # Errors
///
/// Every method returns [`Error`] with a kind to decide by; each can fail with
/// [`Unavailable`](crate::ErrorKind::Unavailable), [`Timeout`](crate::ErrorKind::Timeout) and, after
/// [`close`](Storage::close), [`Closed`](crate::ErrorKind::Closed). Adapters do not retry a write by
/// themselves once it may have reached the store.
///
/// # Minimal implementation
///
/// [`read`](Storage::read), [`write`](Storage::write) and [`delete`](Storage::delete). The other
/// methods are built on them where that is correct (`contains`, the `_many`, `ping`); where it would
/// not be (an atomic condition cannot be built on reads and writes) they return
/// [`Unsupported`](crate::ErrorKind::Unsupported). An adapter overrides what its store does
/// natively and says so in [`capabilities`](Storage::capabilities).
///
/// ```
/// use std::{collections::HashMap, fmt, sync::{Mutex, PoisonError}};
/// use larder_core::{async_trait, Bytes, Error, Expiry, Key, Operation, Record, Result, Storage};
///
/// #[derive(Default)]
/// struct Shelf(Mutex<HashMap<Key, Bytes>>);
///
/// // A derived `Debug` would print the values.
/// impl fmt::Debug for Shelf {
///     fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
///         f.debug_struct("Shelf").finish_non_exhaustive()
///     }
/// }
///
/// #[async_trait]
/// impl Storage for Shelf {
///     async fn read(&self, key: &Key) -> Result<Option<Record>> {
///         let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
///         Ok(entries.get(key).cloned().map(Record::new))
///     }
///
///     async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()> {
///         if expiry != Expiry::Never {
///             return Err(Error::unsupported().with_adapter("shelf").with_operation(Operation::Write));
///         }
///         let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
///         // A value may be a slice of something larger that is not ours to keep alive.
///         entries.insert(key.clone(), Bytes::copy_from_slice(&value));
///         Ok(())
///     }
///
///     async fn delete(&self, key: &Key) -> Result<bool> {
///         let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
///         Ok(entries.remove(key).is_some())
///     }
/// }
/// ```
///
/// # Wrappers
///
/// A storage that wraps a storage forwards every method, also those with a default: the wrapped
/// adapter may do it natively. `#[deny(clippy::missing_trait_methods)]` on the `impl` makes the
/// compiler say when a method is forgotten.
#[async_trait]
pub trait Storage: fmt::Debug + Send + Sync {
    /// Reads the entry under `key`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Corrupt`](crate::ErrorKind::Corrupt) if what is stored was not written by this adapter or
    /// is damaged; other keys are not affected.
    async fn read(&self, key: &Key) -> Result<Option<Record>>;

    /// Writes `value` under `key`, whatever was there before, and returns once it is stored.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](crate::ErrorKind::TooLarge) beyond [`Capabilities::max_value`],
    /// [`InvalidValue`](crate::ErrorKind::InvalidValue) if the store's form for values cannot hold
    /// this one, [`StorageFull`](crate::ErrorKind::StorageFull) if there is no room,
    /// [`Unsupported`](crate::ErrorKind::Unsupported) for a time to live where there is no expiry.
    /// The old entry then stays as it was.
    async fn write(&self, key: &Key, value: Bytes, expiry: Expiry) -> Result<()>;

    /// Deletes the entry under `key`; says whether there was one.
    async fn delete(&self, key: &Key) -> Result<bool>;

    /// The adapter's short name, for errors and traces, such as `postgres`.
    fn name(&self) -> &'static str {
        "storage"
    }

    /// What this storage, as configured, does natively.
    fn capabilities(&self) -> Capabilities {
        Capabilities::minimal()
    }

    /// Writes `value` under `key` if `condition` holds, and returns the new version. Atomic, and one
    /// round trip. With a time to live of zero a condition that holds leaves the key absent.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if the condition does not hold: nothing is written.
    /// Otherwise as [`write`](Storage::write).
    async fn write_if(
        &self,
        key: &Key,
        value: Bytes,
        expiry: Expiry,
        condition: Condition,
    ) -> Result<Version> {
        let _ = (key, value, expiry, condition);
        Err(Error::unsupported().with_adapter(self.name()).with_operation(Operation::WriteIf))
    }

    /// Deletes the entry under `key` if it is still at `version`. Atomic, and one round trip.
    ///
    /// # Errors
    ///
    /// [`Conflict`](crate::ErrorKind::Conflict) if it is not, or no longer there.
    async fn delete_if(&self, key: &Key, version: &Version) -> Result<()> {
        let _ = (key, version);
        Err(Error::unsupported().with_adapter(self.name()).with_operation(Operation::DeleteIf))
    }

    /// Gives the entry under `key` a new expiry, counted from now, without rewriting its value;
    /// says whether there was an entry. The version stays.
    async fn touch(&self, key: &Key, expiry: Expiry) -> Result<bool> {
        let _ = (key, expiry);
        Err(Error::unsupported().with_adapter(self.name()).with_operation(Operation::Touch))
    }

    /// The time that the entry under `key` has left; `None` if there is no entry,
    /// [`Expiry::Never`] if it does not expire.
    async fn ttl(&self, key: &Key) -> Result<Option<Expiry>> {
        let _ = key;
        Err(Error::unsupported().with_adapter(self.name()).with_operation(Operation::Ttl))
    }

    /// Whether there is an entry under `key`.
    async fn contains(&self, key: &Key) -> Result<bool> {
        Ok(self.read(key).await?.is_some())
    }

    /// Reads several entries: one result per key, in the order of `keys`. A key that is named twice
    /// is read twice. Not a snapshot.
    async fn read_many(&self, keys: &[Key]) -> Result<Vec<Option<Record>>> {
        let mut records = Vec::with_capacity(keys.len());
        for key in keys {
            records.push(self.read(key).await?);
        }
        Ok(records)
    }

    /// Writes several entries. Of two writes of one key the later in the slice stays. Not a
    /// transaction: other readers may see some of the writes before the others.
    ///
    /// # Errors
    ///
    /// [`Partial`](crate::ErrorKind::Partial) says which entries failed; the others are stored. With
    /// any other kind nothing is known to be stored.
    async fn write_many(&self, writes: &[Write]) -> Result<()> {
        let mut failures = Vec::new();
        for (index, write) in writes.iter().enumerate() {
            match self.write(&write.key, write.value.clone(), write.expiry).await {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
                Err(error) => failures.push(Failure::new(index, error)),
            }
        }
        if failures.is_empty() {
            return Ok(());
        }
        Err(Error::partial(failures, writes.len())
            .with_adapter(self.name())
            .with_operation(Operation::WriteMany))
    }

    /// Deletes several entries; returns how many there were. A key that is named twice counts once.
    ///
    /// # Errors
    ///
    /// [`Partial`](crate::ErrorKind::Partial) says which keys failed; the others are deleted.
    async fn delete_many(&self, keys: &[Key]) -> Result<u64> {
        let mut deleted = 0;
        let mut failures = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            match self.delete(key).await {
                Ok(existed) => deleted += u64::from(existed),
                Err(error) if error.kind() == ErrorKind::Closed => return Err(error),
                Err(error) => failures.push(Failure::new(index, error)),
            }
        }
        if failures.is_empty() {
            return Ok(deleted);
        }
        Err(Error::partial(failures, keys.len())
            .with_adapter(self.name())
            .with_operation(Operation::DeleteMany))
    }

    /// Lists the keys that begin with `prefix`, byte for byte; the empty prefix lists all. See
    /// "Listings" in the contract. The stream reads on only as it is polled, in constant memory, and
    /// may be dropped at any point. An entry whose key is not a valid [`Key`], written
    /// by another program, is an `Err` of kind [`InvalidKey`](crate::ErrorKind::InvalidKey).
    fn keys<'a>(&'a self, prefix: &'a str) -> KeyStream<'a> {
        let _ = prefix;
        let error = Error::unsupported().with_adapter(self.name()).with_operation(Operation::Keys);
        stream::once(async move { Err(error) }).boxed()
    }

    /// Lists the entries whose keys begin with `prefix`, values and remaining time included. As
    /// [`keys`](Storage::keys) otherwise. An entry whose value cannot be read is an `Err` of kind
    /// [`Corrupt`](crate::ErrorKind::Corrupt).
    fn entries<'a>(&'a self, prefix: &'a str) -> EntryStream<'a> {
        let entries = self.keys(prefix).try_filter_map(move |key| async move {
            let Some(record) = self.read(&key).await? else {
                return Ok(None);
            };
            let expiry = if self.capabilities().expiry { self.ttl(&key).await? } else { Some(Expiry::Never) };
            Ok(expiry.map(|expiry| Entry::new(key, record, expiry)))
        });
        let until_it_ends = |ended: &mut bool, entry: Result<Entry>| {
            let before = *ended;
            *ended = entry.as_ref().is_err_and(|error| !error.concerns_one_entry());
            future::ready((!before).then_some(entry))
        };
        entries.scan(false, until_it_ends).boxed()
    }

    /// Deletes all entries whose keys begin with `prefix`; returns how many there were. Entries that
    /// are written at the same time may or may not go too. Entries that a listing cannot name stay.
    async fn clear(&self, prefix: &str) -> Result<u64> {
        let mut deleted = 0;
        let nameable = |key: &Result<Key>| future::ready(!key.as_ref().is_err_and(Error::concerns_one_entry));
        let mut chunks = self.keys(prefix).filter(nameable).try_chunks(CLEAR_CHUNK);
        while let Some(chunk) = chunks.next().await {
            // What the failed chunk had gathered is still there, and the error says so.
            let chunk = chunk.map_err(|failed| failed.1)?;
            deleted += self.delete_many(&chunk).await?;
        }
        Ok(deleted)
    }

    /// Removes entries that have expired; returns how many. Nobody ever sees them either way: this
    /// gives back their space. Stores that do it by themselves ([`Purge::Store`](crate::Purge::Store))
    /// return 0.
    async fn purge_expired(&self) -> Result<u64> {
        Ok(0)
    }

    /// Makes sure that the store answers.
    async fn ping(&self) -> Result<()> {
        let probe = Key::new("larder:ping")?;
        self.read(&probe).await.map(drop)
    }

    /// Writes down everything that the storage still holds back. Adapters that acknowledge a write
    /// only once it is stored (all but a snapshot with an interval) have nothing to do.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Flushes, ends background work and gives back what the storage holds. Later calls through any
    /// clone of this handle are [`Closed`](crate::ErrorKind::Closed) errors; a second close does
    /// nothing. A pool or client that the caller handed in stays open. Dropping the last handle ends
    /// background work too, but cannot wait for it.
    ///
    /// The default does nothing: a storage that keeps it goes on working after it has been closed.
    async fn close(&self) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Lists good keys, with an error before the last.
    #[derive(Debug, Default)]
    struct Listing {
        error: Option<ErrorKind>,
        deleted: Mutex<Vec<Key>>,
    }

    #[async_trait]
    impl Storage for Listing {
        async fn read(&self, _: &Key) -> Result<Option<Record>> {
            Ok(Some(Record::new(Bytes::from_static(b"v"))))
        }

        async fn write(&self, _: &Key, _: Bytes, _: Expiry) -> Result<()> {
            Ok(())
        }

        async fn delete(&self, key: &Key) -> Result<bool> {
            self.deleted.lock().unwrap().push(key.clone());
            Ok(true)
        }

        fn keys<'a>(&'a self, _: &'a str) -> KeyStream<'a> {
            let error = self.error.map(|kind| Err(Error::new(kind, "no")));
            let keys = [Some(Key::new("first")), error, Some(Key::new("last"))];
            stream::iter(keys.into_iter().flatten()).boxed()
        }
    }

    async fn listed(error: ErrorKind) -> (usize, Result<u64>) {
        let storage = Listing { error: Some(error), ..Listing::default() };
        (storage.entries("").count().await, storage.clear("").await)
    }

    #[tokio::test]
    async fn error_of_one_entry_ends_no_listing() {
        for kind in [ErrorKind::InvalidKey, ErrorKind::Corrupt] {
            let (entries, cleared) = listed(kind).await;
            assert_eq!((entries, cleared.unwrap()), (3, 2), "{kind}");
        }
    }

    #[tokio::test]
    async fn any_other_error_ends_a_listing() {
        let (entries, cleared) = listed(ErrorKind::Unavailable).await;
        assert_eq!(entries, 2);
        assert_eq!(cleared.unwrap_err().kind(), ErrorKind::Unavailable);
    }
}

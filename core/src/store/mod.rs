//! The handle that callers use.

mod list;
mod request;
#[cfg(feature = "json")]
mod typed;

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use bytes::Bytes;
use tracing::{Instrument, Span, field, level_filters::LevelFilter};

pub use self::request::{DeleteRequest, ReadRequest, TouchRequest, WriteRequest};
#[cfg(feature = "json")]
pub use self::typed::Typed;
use crate::{
    Action, Applied, Change, Condition, DeleteOptions, Error, ErrorKind, Expiry, Info, IntoKey, Key, Layer,
    Location, Operation, ReadOptions, Record, Result, Storage, TouchOptions, WriteOptions, Written,
};

/// An open store. Every adapter's `connect` returns one, and sessions and bridges accept one. Cloning is cheap,
/// and all clones are the same store.
///
/// ```
/// use std::time::Duration;
/// use larder_core::{Result, Store};
///
/// async fn remember(store: &Store) -> Result<()> {
///     store.write("chat:42", "hello").expires_in(Duration::from_secs(60)).await?;
///     let record = store.read("chat:42").await?.expect("written a moment ago");
///     assert_eq!(record.value, "hello");
///
///     // Writes only if the entry has not changed since the read.
///     if let Some(version) = record.version {
///         store.write("chat:42", "world").if_at(version).await?;
///     }
///     store.delete("chat:42").await?;
///     Ok(())
/// }
/// ```
///
/// A `Store` applies the same rules to every adapter:
///
/// - After [`close`](Store::close), every operation fails with [`Closed`](ErrorKind::Closed).
/// - A time to live of zero has already elapsed: such a write or touch removes the entry.
/// - An operation that [`info`](Store::info) does not claim fails with
///   [`Unsupported`](ErrorKind::Unsupported), and a write of a value larger than [`Info::max_value`] fails with
///   [`TooLarge`](ErrorKind::TooLarge).
/// - Errors name the adapter and the operation.
/// - Each operation is a [`tracing`] span at level `DEBUG` named `larder`, with the fields `adapter`,
///   `operation`, `outcome` (`ok`, or the [kind](ErrorKind) of the error) and `size` (the bytes of the
///   value that was read or written, or the number of entries). No field contains a key or a value.
#[derive(Clone)]
pub struct Store {
    shared: Arc<StoreInner>,
}

struct StoreInner {
    storage: Arc<dyn Storage>,
    info: Info,
    /// The beginning of every key. Empty for the whole store.
    namespace: Box<str>,
    /// Shared with the namespaces and layers of this store.
    state: Arc<AtomicU8>,
}

const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const CLOSED: u8 = 2;

impl Store {
    /// Creates a store from an adapter's storage.
    #[must_use]
    pub fn new(storage: impl IntoStore) -> Self {
        storage.into()
    }

    fn on(storage: Arc<dyn Storage>, state: Arc<AtomicU8>, namespace: &str) -> Self {
        let info = storage.info();
        Self { shared: Arc::new(StoreInner { storage, info, namespace: namespace.into(), state }) }
    }

    /// Returns the adapter's name and its native features.
    pub fn info(&self) -> &Info {
        &self.shared.info
    }

    /// Returns the storage, for a [`Layer`]. It does not apply the rules of a `Store`.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.shared.storage
    }

    /// Wraps the store in a layer, through which every operation of the new store goes. The two stores are closed
    /// together. Close the new one: closing the inner store does not close the layer.
    #[must_use]
    pub fn layer(&self, layer: impl Layer) -> Self {
        let storage = layer.layer(Arc::clone(&self.shared.storage));
        Self::on(storage, Arc::clone(&self.shared.state), &self.shared.namespace)
    }

    /// Returns the part of the store whose keys begin with `prefix`. Keys of the namespace do not contain the
    /// prefix. Namespaces can be nested.
    ///
    /// An entry whose whole key is `prefix` cannot be read through the namespace, but [`clear`](Store::clear)
    /// deletes it. [`close`](Store::close), [`flush`](Store::flush) and [`purge_expired`](Store::purge_expired)
    /// apply to the whole store.
    ///
    /// ```
    /// # use larder_core::{Result, Store};
    /// # async fn example(store: Store) -> Result<()> {
    /// let chats = store.namespace("chat:")?;
    /// chats.write("42", "hello").await?;
    /// assert!(store.read("chat:42").await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](ErrorKind::InvalidKey) if no key can begin with the prefix, because it is too long or
    /// contains a control character.
    pub fn namespace(&self, prefix: impl AsRef<str>) -> Result<Self> {
        let namespace = format!("{}{}", self.shared.namespace, prefix.as_ref());
        // At least one byte must be left for the keys.
        Key::new(format!("{namespace}k"))?;
        Ok(Self::on(Arc::clone(&self.shared.storage), Arc::clone(&self.shared.state), &namespace))
    }

    /// Returns the prefix that the keys of this [namespace](Store::namespace) have in the whole store. It is
    /// empty for the whole store.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.shared.namespace
    }

    /// Adds the [fingerprint](Key::fingerprint) of `key` to `error`, unless it has one already. The fingerprint
    /// is that of the key in the whole store, with the prefix of the namespace.
    #[must_use]
    pub fn name_entry(&self, error: Error, key: &Key) -> Error {
        match self.full(key) {
            Ok(key) => error.with_key(&key),
            Err(_) => error,
        }
    }

    /// Reads the entry under `key`. The same as [`read`](Store::read), with one allocation less.
    ///
    /// # Errors
    ///
    /// - [`Unsupported`](ErrorKind::Unsupported) for a TTL or a touch, if the store does not support
    ///   [expiry](Info::expiry)
    /// - [`InvalidValue`](ErrorKind::InvalidValue) for a touch with a time to live of zero
    /// - the errors of [`Storage::read`]
    pub async fn read_with(&self, key: &Key, options: &ReadOptions) -> Result<Option<Record>> {
        let call = async {
            self.check_read(options)?;
            self.finish(self.shared.storage.read(&*self.full(key)?, options).await, options)
        };
        let size = |read: Option<&Option<Record>>| {
            read.and_then(Option::as_ref).map_or(0, |record| record.value.len() as u64)
        };
        self.run(Operation::Read, size, call).await
    }

    /// Writes `value` under `key`. The same as [`write`](Store::write), with one allocation less.
    ///
    /// # Errors
    ///
    /// - [`TooLarge`](ErrorKind::TooLarge) if the value is larger than [`Info::max_value`]
    /// - [`Unsupported`](ErrorKind::Unsupported) for an expiry or a condition that the store does not support
    /// - the errors of [`Storage::write`]
    pub async fn write_with(&self, key: &Key, value: Bytes, options: &WriteOptions) -> Result<Written> {
        let size = value.len() as u64;
        let call = async {
            self.check_condition(&options.condition)?;
            self.check_write(&value, options.expiry)?;
            let key = &*self.full(key)?;
            if options.expiry.is_elapsed() {
                self.delete_on(key, &options.condition).await?;
                return Ok(Written::default());
            }
            self.shared.storage.write(key, value, options).await
        };
        self.run(Operation::Write, |_| size, call).await
    }

    /// Deletes the entry under `key`. The same as [`delete`](Store::delete), with one allocation less.
    ///
    /// # Errors
    ///
    /// - [`Unsupported`](ErrorKind::Unsupported) for a condition that the store does not support
    /// - the errors of [`Storage::delete`]
    pub async fn delete_with(&self, key: &Key, options: &DeleteOptions) -> Result<bool> {
        let call = async {
            self.check_condition(&options.condition)?;
            self.delete_on(&*self.full(key)?, &options.condition).await
        };
        self.run(Operation::Delete, entries, call).await
    }

    /// Gives the entry under `key` a new expiry. The same as [`touch`](Store::touch), with one allocation less.
    ///
    /// # Errors
    ///
    /// - [`Unsupported`](ErrorKind::Unsupported) if the store does not support [expiry](Info::expiry), or for a
    ///   condition that it does not support
    /// - the errors of [`Storage::touch`]
    pub async fn touch_with(&self, key: &Key, expiry: Expiry, options: &TouchOptions) -> Result<bool> {
        let call = async {
            claims(self.shared.info.expiry)?;
            self.check_condition(&options.condition)?;
            let key = &*self.full(key)?;
            match options.condition {
                Condition::Absent => self.expect_absent(key).await,
                _ if expiry.is_elapsed() => self.delete_on(key, &options.condition).await,
                _ => self.shared.storage.touch(key, expiry, options).await,
            }
        };
        self.run(Operation::Touch, entries, call).await
    }

    /// Returns whether the entry under `key` exists.
    ///
    /// # Errors
    ///
    /// As [`Storage::read`].
    pub async fn contains(&self, key: impl IntoKey) -> Result<bool> {
        Ok(self.read(key).without_value().await?.is_some())
    }

    /// Returns the time until the entry under `key` expires: `None` if the entry does not exist,
    /// [`Expiry::Never`] if it does not expire.
    ///
    /// # Errors
    ///
    /// - [`Unsupported`](ErrorKind::Unsupported) if the store does not support [expiry](Info::expiry)
    /// - the errors of [`Storage::read`]
    pub async fn ttl(&self, key: impl IntoKey) -> Result<Option<Expiry>> {
        let record = self.read(key).without_value().with_ttl().await?;
        Ok(record.map(|record| record.expiry.unwrap_or_default()))
    }

    /// Reads several entries: one result per key, in the order of `keys`. See [`Storage::read_many`].
    pub async fn read_many(&self, keys: &[Key], options: &ReadOptions) -> Vec<Result<Option<Record>>> {
        let call = async {
            self.check_read(options)?;
            if self.shared.namespace.is_empty() {
                let results = self.shared.storage.read_many(keys, options).await;
                return Ok(results.into_iter().map(|read| self.finish(read, options)).collect());
            }
            let full: Vec<_> = keys.iter().map(|key| self.full(key).map(Cow::into_owned)).collect();
            let sent: Vec<_> = full.iter().filter_map(|key| key.as_ref().ok().cloned()).collect();
            let mut results = self.shared.storage.read_many(&sent, options).await.into_iter();
            let result = |key: Result<Key>| {
                key?;
                self.finish(results.next().unwrap_or_else(missing), options)
            };
            Ok(full.into_iter().map(result).collect())
        };
        self.run_many(Operation::ReadMany, keys.len(), call).await
    }

    /// Applies several changes: one result per change, in the same order. See [`Storage::apply`].
    pub async fn apply(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        let count = changes.len();
        let call = async { Ok(self.apply_checked(changes).await) };
        self.run_many(Operation::Apply, count, call).await
    }

    /// Removes expired entries to free their space. Returns the number of removed entries. Expired entries are
    /// never returned, even before they are removed.
    ///
    /// # Errors
    ///
    /// As [`Storage::purge_expired`].
    pub async fn purge_expired(&self) -> Result<u64> {
        let size = |removed: Option<&u64>| removed.copied().unwrap_or(0);
        self.run(Operation::PurgeExpired, size, self.shared.storage.purge_expired()).await
    }

    /// Checks that the store answers.
    ///
    /// # Errors
    ///
    /// As [`Storage::ping`].
    pub async fn ping(&self) -> Result<()> {
        self.run(Operation::Ping, |_| 0, self.shared.storage.ping()).await
    }

    /// Returns the location of the entries, which does not depend on the URL that opened the store. Use
    /// [`Location::overlap`] to find out whether another store has the same entries, or some of them. `None` if
    /// the location is unknown.
    ///
    /// # Errors
    ///
    /// As [`Storage::location`].
    pub async fn location(&self) -> Result<Option<Location>> {
        let location = self.run(Operation::Location, |_| 0, self.shared.storage.location()).await?;
        Ok(location.map(|location| location.with_prefix(&self.shared.namespace)))
    }

    /// Stores the acknowledged writes that are not stored yet. Nearly all adapters acknowledge a write only once
    /// it is stored; then this does nothing.
    ///
    /// # Errors
    ///
    /// As [`Storage::flush`].
    pub async fn flush(&self) -> Result<()> {
        self.run(Operation::Flush, |_| 0, self.shared.storage.flush()).await
    }

    /// Flushes, stops background work and releases resources. Every later operation, through any clone, fails with
    /// [`Closed`](ErrorKind::Closed). A second close does nothing, unless the first one failed or was dropped:
    /// then it tries again.
    ///
    /// # Errors
    ///
    /// As [`Storage::close`].
    pub async fn close(&self) -> Result<()> {
        let state = &self.shared.state;
        if state.fetch_max(CLOSING, Ordering::AcqRel) == CLOSED {
            return Ok(());
        }
        self.run(Operation::Close, |_| 0, self.shared.storage.close()).await?;
        state.fetch_max(CLOSED, Ordering::AcqRel);
        Ok(())
    }

    /// Runs `call` in a span, and adds adapter and operation to its error. A closed store rejects every operation
    /// except another close.
    async fn run<T>(
        &self,
        operation: Operation,
        size: impl FnOnce(Option<&T>) -> u64,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if operation != Operation::Close {
            self.check_open(operation)?;
        }
        // Even a disabled span takes a tenth of the time of a read from memory.
        if LevelFilter::current() < LevelFilter::DEBUG {
            return call.await.map_err(|error| self.named(error, operation));
        }
        let span = self.span(operation);
        let result = call.instrument(span.clone()).await.map_err(|error| self.named(error, operation));
        let outcome = result.as_ref().map_or_else(|error| error.kind().as_str(), |_| "ok");
        span.record("outcome", outcome).record("size", size(result.as_ref().ok()));
        result
    }

    /// The same as [`run`](Self::run), with one result for each of `count` items.
    async fn run_many<T>(
        &self,
        operation: Operation,
        count: usize,
        call: impl Future<Output = Result<Vec<Result<T>>>>,
    ) -> Vec<Result<T>> {
        let failed = |error: Error| (0..count).map(|_| Err(error.clone())).collect();
        let mut results = self.run(operation, |_| count as u64, call).await.unwrap_or_else(failed);
        results.resize_with(count, missing);
        results.into_iter().map(|result| result.map_err(|error| self.named(error, operation))).collect()
    }

    fn span(&self, operation: Operation) -> Span {
        tracing::debug_span!(
            "larder",
            adapter = self.shared.info.name,
            operation = operation.as_str(),
            outcome = field::Empty,
            size = field::Empty,
        )
    }

    fn named(&self, error: Error, operation: Operation) -> Error {
        error.with_adapter(self.shared.info.name).with_operation(operation)
    }

    /// Returns the key of a request, unless the store is closed.
    fn checked_key(&self, key: Result<Key>, operation: Operation) -> Result<Key> {
        self.check_open(operation)?;
        key.map_err(|error| self.named(error, operation))
    }

    fn is_open(&self) -> bool {
        self.shared.state.load(Ordering::Acquire) == OPEN
    }

    fn check_open(&self, operation: Operation) -> Result<()> {
        if self.is_open() { Ok(()) } else { Err(self.named(Error::closed(), operation)) }
    }

    /// Removes the parts of a record that `options` do not ask for. Changes the record in place, because each move
    /// of a record takes time.
    #[inline]
    fn finish(&self, mut read: Result<Option<Record>>, options: &ReadOptions) -> Result<Option<Record>> {
        match &mut read {
            Ok(Some(record)) => {
                if !options.value {
                    record.value = Bytes::new();
                }
                if options.ttl {
                    has_ttl(record)?;
                } else {
                    record.expiry = None;
                }
            }
            // A storage that is being closed may have dropped its entries. They are not absent.
            Ok(None) if !self.is_open() => return Err(Error::closed()),
            Ok(None) | Err(_) => {}
        }
        read
    }

    /// Returns the key in the whole store.
    #[inline]
    fn full<'a>(&self, key: &'a Key) -> Result<Cow<'a, Key>> {
        if self.shared.namespace.is_empty() {
            return Ok(Cow::Borrowed(key));
        }
        Key::new(format!("{}{key}", self.shared.namespace)).map(Cow::Owned)
    }

    fn check_read(&self, options: &ReadOptions) -> Result<()> {
        claims(self.shared.info.expiry || !options.ttl && options.touch.is_none())?;
        if options.touch.is_some_and(Expiry::is_elapsed) {
            let message = "a read cannot touch with a time to live of zero; delete the entry instead";
            return Err(Error::new(ErrorKind::InvalidValue, message));
        }
        Ok(())
    }

    fn check_condition(&self, condition: &Condition) -> Result<()> {
        claims(*condition == Condition::Any || self.shared.info.conditions())
    }

    fn check_write(&self, value: &Bytes, expiry: Expiry) -> Result<()> {
        let info = self.info();
        if let Some(max) = info.max_value.filter(|max| value.len() as u64 > *max) {
            let message = format!("the value has {} bytes; this storage accepts at most {max}", value.len());
            return Err(Error::new(ErrorKind::TooLarge, message));
        }
        if expiry != Expiry::Never && !info.expiry {
            let message = "this storage does not support expiry; write without an expiry";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(())
    }

    async fn delete_on(&self, key: &Key, condition: &Condition) -> Result<bool> {
        if *condition == Condition::Absent {
            return self.expect_absent(key).await;
        }
        let options = DeleteOptions::new().condition(condition.clone());
        self.shared.storage.delete(key, &options).await
    }

    /// Runs a deletion or touch of an entry that must be absent. Returns `false`: there is nothing to change.
    async fn expect_absent(&self, key: &Key) -> Result<bool> {
        let options = ReadOptions::new().without_value();
        match self.shared.storage.read(key, &options).await.map_err(Error::not_applied)? {
            None => Ok(false),
            Some(_) => Err(Error::conflict()),
        }
    }

    /// Applies the changes that pass the checks, in as few calls as their order allows.
    async fn apply_checked(&self, changes: Vec<Change>) -> Vec<Result<Applied>> {
        // A put or touch with a time to live of zero becomes a deletion, whose result is converted back here.
        let asked: Vec<_> = changes.iter().map(|change| outcome_of(&change.action)).collect();
        let mut results = vec![None; changes.len()];
        let mut waiting = Vec::new();
        for (place, change) in changes.into_iter().enumerate() {
            match self.check_change(change) {
                Err(error) => results[place] = Some(Err(error)),
                // It changes nothing, but its result depends on the changes before it.
                Ok(change)
                    if change.condition == Condition::Absent && !matches!(change.action, Action::Put(..)) =>
                {
                    self.send(&mut waiting, &mut results).await;
                    let checked = match unsent(&results) {
                        Some(error) => Err(error),
                        None => self.expect_absent(&change.key).await,
                    };
                    results[place] = Some(checked.map(Applied::Deleted));
                }
                Ok(change) => waiting.push((place, change)),
            }
        }
        self.send(&mut waiting, &mut results).await;
        let result = |(asked, result): (fn(bool) -> Applied, _)| match result {
            Some(Ok(Applied::Deleted(existed))) => Ok(asked(existed)),
            Some(result) => result,
            None => missing(),
        };
        asked.into_iter().zip(results).map(result).collect()
    }

    /// Applies the waiting changes, unless the store cannot be reached.
    async fn send(&self, waiting: &mut Vec<(usize, Change)>, results: &mut [Option<Result<Applied>>]) {
        let (places, changes): (Vec<_>, Vec<_>) = waiting.drain(..).unzip();
        let applied = match unsent(results) {
            _ if changes.is_empty() => return,
            Some(error) => vec![Err(error); changes.len()],
            None => self.shared.storage.apply(changes).await,
        };
        for (place, result) in places.into_iter().zip(applied) {
            results[place] = Some(result);
        }
    }

    /// Checks the change, and converts it to the form that the storage receives.
    fn check_change(&self, mut change: Change) -> Result<Change> {
        self.check_condition(&change.condition)?;
        match &change.action {
            Action::Put(value, expiry) => self.check_write(value, *expiry)?,
            Action::Touch(_) => claims(self.shared.info.expiry)?,
            Action::Delete => {}
        }
        if let Action::Put(_, expiry) | Action::Touch(expiry) = change.action
            && expiry.is_elapsed()
        {
            change.action = Action::Delete;
        }
        if let Cow::Owned(key) = self.full(&change.key)? {
            change.key = key;
        }
        Ok(change)
    }
}

/// Returns the error for the unsent changes, if the store cannot be reached.
fn unsent(results: &[Option<Result<Applied>>]) -> Option<Error> {
    results.iter().flatten().find_map(|result| result.as_ref().err()?.unsent())
}

/// Returns the result of a deletion that replaces `action`, as a function of whether the entry existed.
fn outcome_of(action: &Action) -> fn(bool) -> Applied {
    match action {
        Action::Put(..) => |_| Applied::Put(Written::default()),
        Action::Delete => Applied::Deleted,
        Action::Touch(_) => Applied::Touched,
    }
}

/// Returns the number of entries that a deletion or touch has changed.
fn entries(existed: Option<&bool>) -> u64 {
    existed.copied().unwrap_or(false).into()
}

fn claims(claimed: bool) -> Result<()> {
    if claimed { Ok(()) } else { Err(Error::unsupported()) }
}

/// Checks that the record has its remaining time: without it, the entry would look as if it never expired.
fn has_ttl(record: &Record) -> Result<()> {
    let missing =
        || Error::new(ErrorKind::Other, "the adapter returned an entry without its remaining time to live");
    record.expiry.map(drop).ok_or_else(missing)
}

/// The result of an item for which the adapter has not returned one.
fn missing<T>() -> Result<T> {
    Err(Error::new(ErrorKind::Other, "the adapter returned too few results for the batch"))
}

impl<S: Storage> From<S> for Store {
    fn from(storage: S) -> Self {
        Self::from(Arc::new(storage) as Arc<dyn Storage>)
    }
}

/// A [`Store`], or a value that can be converted to one: a `&Store`, a type that implements [`Storage`], or
/// an `Arc<dyn Storage>`.
///
/// Implemented for every type that implements `Into<Store>`. The trait exists for the compiler's message about
/// other types.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store",
    label = "expected a `Store`, or a type that implements `Storage`",
    note = "`larder::open(url).await?` returns a `Store`, and so does `connect(url).await?` of every adapter"
)]
pub trait IntoStore: Into<Store> {}

#[diagnostic::do_not_recommend]
impl<S: Into<Store>> IntoStore for S {}

impl From<Arc<dyn Storage>> for Store {
    fn from(storage: Arc<dyn Storage>) -> Self {
        Self::on(storage, Arc::default(), "")
    }
}

impl From<&Self> for Store {
    fn from(store: &Self) -> Self {
        store.clone()
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("adapter", &self.shared.info.name)
            .field("namespaced", &!self.shared.namespace.is_empty())
            .field("open", &self.is_open())
            .finish()
    }
}

//! Sessions of one kind.

use std::{
    fmt,
    future::{Ready, ready},
    sync::Arc,
};

use futures_util::{
    FutureExt,
    future::{Either, Map},
};
use larder_core::{Error, ErrorKind, Expiry, Key, Operation, ReadOptions, Result, Store, clock::unix_millis};
use larder_owners::{Deadline, Indexed};

use crate::{
    conflicts::Retries,
    key::{IntoSessionKey, RESERVED},
    lazy::LazySession,
    lease::{Lease, Leases},
    outcome::{HandlerFuture, Outcome},
    queue::{Nesting, Queue},
    session::{HandlerState, OpenSession, Session},
    shared::Shared,
    state::{Slot, State},
};

/// Sessions of one kind: a value of type `T` per chat, user or visitor, in any storage.
///
/// Build it once and clone it: clones are cheap and share one queue per key. See the
/// [crate's documentation](crate) for an example.
pub struct Sessions<T> {
    pub(crate) shared: Arc<Shared<T>>,
}

impl<T> Clone for Sessions<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Sessions<T> {
    pub(crate) fn from_shared(shared: Shared<T>) -> Self {
        Self { shared: Arc::new(shared) }
    }

    /// Returns the storage.
    #[must_use]
    pub fn storage(&self) -> &Store {
        self.shared.store()
    }

    /// Returns a number that all clones share, and no other live sessions.
    #[doc(hidden)]
    #[must_use]
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    pub(crate) fn key(&self, key: impl IntoSessionKey) -> Result<Key> {
        key.into().under(&self.shared.prefix)
    }
}

impl<T: Send + Sync + 'static> Sessions<T> {
    /// Changes the session under `key` with a synchronous closure, and saves it: one read, one write. Returns
    /// the closure's result.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder_session::Result<()> {
    /// # let pizzas = larder_session::Sessions::<u32>::builder().build()?;
    /// let count = pizzas.modify(42, |count| {
    ///     *count += 1;
    ///     *count
    /// }).await?;
    /// assert_eq!(count, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// The closure may run more than once: if another process changes the session between the read and the
    /// write, the session is read again and the closure runs again on the new value
    /// ([`ConflictPolicy`](crate::ConflictPolicy) chooses something else). Nothing is written if the value
    /// does not change. A session that did not exist is written even then. To compare them, the value is
    /// encoded before and after the closure.
    ///
    /// Updates of one key run one after another, in the order of their calls.
    ///
    /// | for | use |
    /// |---|---|
    /// | a change without `.await` | `modify` |
    /// | a change that can fail, and saves nothing then | [`try_modify`](Self::try_modify) |
    /// | a change with `.await` in it; deleting the session | [`update`](Self::update) |
    /// | a handler that must not run twice | [`update_once`](Self::update_once) |
    /// | a session that is rarely needed | [`update_lazy`](Self::update_lazy) |
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update).
    pub async fn modify<R>(
        &self,
        key: impl IntoSessionKey,
        mut change: impl FnMut(&mut T) -> R,
    ) -> Result<R> {
        self.try_modify(key, |value| Ok(change(value))).await
    }

    /// Like [`modify`](Self::modify), with a closure that can fail. Its `Err` is returned, and nothing is
    /// saved.
    ///
    /// The error type is any type that can hold an [`Error`]. If the compiler cannot infer it, return
    /// [`ok(value)`](crate::ok()) instead of `Ok(value)`, or annotate the closure's return type.
    ///
    /// ```
    /// use larder_session::{Error, Sessions};
    ///
    /// #[derive(Debug)]
    /// enum Failure {
    ///     TooPoor,
    ///     Storage(Error),
    /// }
    ///
    /// impl From<Error> for Failure {
    ///     fn from(error: Error) -> Self {
    ///         Self::Storage(error)
    ///     }
    /// }
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder_session::Result<()> {
    /// # let accounts = Sessions::<u64>::builder().build()?;
    /// let paid = accounts.try_modify("ann", |balance| {
    ///     *balance = balance.checked_sub(10).ok_or(Failure::TooPoor)?;
    ///     Ok(*balance)
    /// }).await;
    /// assert!(matches!(paid, Err(Failure::TooPoor)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The closure's; otherwise those of [`update`](Self::update).
    pub async fn try_modify<R, E: From<Error>>(
        &self,
        key: impl IntoSessionKey,
        mut change: impl FnMut(&mut T) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut retries = Retries::new(self.shared.conflicts);
        let mut state = self.load(key).await?;
        loop {
            let value = change(state.value_mut())?;
            match state.save_or_reload(&mut retries, None).await? {
                None => return Ok(value),
                Some(reloaded) => state = reloaded,
            }
        }
    }

    /// Runs an asynchronous `handler` on the session under `key` and saves its changes: one read, the
    /// handler, one write. A change without `.await` is shorter with [`modify`](Self::modify).
    ///
    /// ```
    /// # async fn fetch_price() -> larder_session::Result<u32> { Ok(7) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder_session::Result<()> {
    /// # let bills = larder_session::Sessions::<u32>::builder().build()?;
    /// bills.update(42, async |mut bill| {
    ///     *bill += fetch_price().await?;
    ///     larder_session::ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Updates of one key run one after another, in the order of their calls. A compare-and-swap detects
    /// changes by other processes when the session is saved. By default the handler then runs again on the
    /// new value; [`ConflictPolicy`](crate::ConflictPolicy) chooses something else.
    ///
    /// Nothing is written if nothing has changed, if the handler returns an `Err`, or after
    /// [`Session::discard`]. A session that did not exist is written with its initial value.
    /// [`Session::clear`] deletes it, and so does a value that is encoded as nothing: `None`, where `T` is an
    /// `Option`.
    ///
    /// The handler returns `()` or a `Result`. It takes the session by value, and returning gives it back. It
    /// can borrow from its surroundings, but not mutably, because it may run more than once.
    ///
    /// An update within an update of the same session would wait for itself. It fails with
    /// [`Unsupported`](larder_core::ErrorKind::Unsupported):
    ///
    /// - Through another `Sessions` on the same [`Store`], the inner update fails before it runs.
    /// - Through another handle on the same store, the inner update is saved, and the outer one fails when it
    ///   detects that its own handler has changed the session (with
    ///   [`ConflictPolicy::Fail`](crate::ConflictPolicy::Fail), or in [`update_once`](Self::update_once), this
    ///   is an ordinary conflict).
    /// - In a task that the handler spawns and awaits, the inner update looks like any other update. It waits
    ///   until the [queue timeout](crate::SessionsBuilder::queue_timeout).
    ///
    /// # Errors
    ///
    /// The handler's own; [`InvalidKey`](larder_core::ErrorKind::InvalidKey) without a key;
    /// [`Conflict`](larder_core::ErrorKind::Conflict), depending on the policy;
    /// [`Codec`](larder_core::ErrorKind::Codec) if the stored value is not a valid `T`, or if the new value
    /// could not be decoded again (nothing is saved then);
    /// [`VersionTooNew`](larder_core::ErrorKind::VersionTooNew) if a newer program has stored the session (it
    /// stays unchanged); [`Unsupported`](larder_core::ErrorKind::Unsupported) within an update of the same
    /// session; those of reading and writing.
    pub async fn update<O, F>(
        &self,
        key: impl IntoSessionKey,
        handler: impl FnMut(Session<T>) -> F,
    ) -> Result<O::Value, O::Error>
    where
        O: Outcome,
        F: HandlerFuture<Output = O>,
    {
        self.update_with(Retries::new(self.shared.conflicts), key, handler).await
    }

    /// Like [`update`](Self::update), with a handler that never runs twice: for one that sends messages, or
    /// that consumes its captures.
    ///
    /// ```
    /// # async fn send(message: String) -> larder_session::Result<()> { Ok(()) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder_session::Result<()> {
    /// # let greeted = larder_session::Sessions::<bool>::builder().build()?;
    /// let greeting = "Hello!".to_owned();
    /// greeted.update_once(42, async |mut greeted| {
    ///     if !*greeted {
    ///         send(greeting).await?;
    ///         *greeted = true;
    ///     }
    ///     larder_session::ok(())
    /// }).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// If another process changes the session while the handler runs, the update fails with
    /// [`Conflict`](larder_core::ErrorKind::Conflict), and the handler's changes are lost although its
    /// messages were sent. To exclude that, hold a [lease](Self::lock) in every process. Better, if possible:
    /// change the session with [`modify`](Self::modify) and send the message afterwards.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update). A conflict is an error with every policy except
    /// [`LastWriteWins`](crate::ConflictPolicy::LastWriteWins).
    pub async fn update_once<O, F>(
        &self,
        key: impl IntoSessionKey,
        handler: impl FnOnce(Session<T>) -> F,
    ) -> Result<O::Value, O::Error>
    where
        O: Outcome,
        F: HandlerFuture<Output = O>,
    {
        self.update_with(Retries::none(), key, once(handler)).await
    }

    async fn update_with<O, F>(
        &self,
        mut retries: Retries,
        key: impl IntoSessionKey,
        mut handler: impl FnMut(Session<T>) -> F,
    ) -> Result<O::Value, O::Error>
    where
        O: Outcome,
        F: HandlerFuture<Output = O>,
    {
        let mut state = self.load(key).await?;
        loop {
            let claim = (Arc::clone(&self.shared.queue), state.slot.key.clone());
            let held = HandlerState::new(state);
            let handled = handler(held.session()?);
            let (outcome, nested) = Queue::holding([&claim], handled).await;
            let value = outcome.into_result()?;
            match held.into_state()?.save_or_reload(&mut retries, Some(&nested)).await? {
                None => return Ok(value),
                Some(reloaded) => state = reloaded,
            }
        }
    }

    /// Waits for the permit of the session under `key`, and reads it.
    async fn load(&self, key: impl IntoSessionKey) -> Result<State<T>> {
        let permit = self.shared.queue.enter(&self.key(key)?, &Nesting::Refused).await?;
        State::load(&self.shared, permit, Nesting::Refused).await
    }

    /// Like [`update`](Self::update), but reads and writes nothing unless the handler accesses the session;
    /// see [`LazySession`].
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update). A missing key is an error only when the handler accesses the
    /// session.
    pub async fn update_lazy<O, F>(
        &self,
        key: impl IntoSessionKey,
        mut handler: impl FnMut(LazySession<T>) -> F,
    ) -> Result<O::Value, O::Error>
    where
        O: Outcome,
        F: HandlerFuture<Output = O>,
    {
        let key = key.into();
        let claim = self.key(&key).ok().map(|key| (Arc::clone(&self.shared.queue), key));
        let nesting = Nesting::own();
        let mut retries = Retries::new(self.shared.conflicts);
        loop {
            let session = LazySession::new(Arc::clone(&self.shared), self.key(&key), nesting.clone(), None);
            let _ending = Ending(&session);
            let handled = handler(session.clone());
            let (outcome, nested) = Queue::holding(&claim, handled).await;
            let value = outcome.into_result()?;
            match session.save().await {
                Ok(()) => return Ok(value),
                Err(error) => retries.next(error, Some(&nested)).await?,
            }
        }
    }

    /// Reads the session under `key`. The caller changes it and [saves](OpenSession::save) it. Until then,
    /// other updates of the session wait. An update that the caller itself starts in the meantime waits until
    /// the [queue timeout](crate::SessionsBuilder::queue_timeout).
    ///
    /// Prefer [`modify`](Self::modify) or [`update`](Self::update), which run again after a conflict.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update), except the handler's.
    pub async fn open(&self, key: impl IntoSessionKey) -> Result<OpenSession<T>> {
        OpenSession::new(self.load(key).await?)
    }

    /// Opens the session under `key` without reading it; the first access reads it. The caller
    /// [saves](LazySession::save) it. [`update_lazy`](Self::update_lazy) saves by itself.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder_session::Result<()> {
    /// # let pizzas = larder_session::Sessions::<u32>::builder().build()?;
    /// let count = pizzas.open_lazy(42);
    /// count.modify(|count| *count += 1).await?;
    /// count.save().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_lazy(&self, key: impl IntoSessionKey) -> LazySession<T> {
        LazySession::open(Arc::clone(&self.shared), self.key(key))
    }

    /// Calls `look` with the session under `key`, or with the initial value if it does not exist. Does not
    /// wait for updates and does not change the value. With a sliding lifetime it extends the session.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder_session::Result<()> {
    /// # let baskets = larder_session::Sessions::<Vec<u32>>::builder().build()?;
    /// let items = baskets.with("ann", |basket| basket.len()).await?;
    /// assert_eq!(items, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`get`](Self::get).
    pub async fn with<R>(&self, key: impl IntoSessionKey, look: impl FnOnce(&T) -> R) -> Result<R> {
        let session = self.get(key).await?;
        Ok(look(&session.unwrap_or_else(|| (self.shared.initial)())))
    }

    /// Reads the session under `key`. Returns `None` if it does not exist. Does not wait for updates and does
    /// not change the value. With a sliding lifetime it extends the session.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update), except the handler's and conflicts.
    pub async fn get(&self, key: impl IntoSessionKey) -> Result<Option<T>> {
        let found = self.shared.resolver.find_with(&self.key(key)?, &self.shared.reading()).await?;
        let Some(record) = found.record else {
            return Ok(None);
        };
        let deadline = Deadline::after(record.expiry.unwrap_or_default());
        let Some(decoded) = self.shared.decode(&found.key, &record.value).await? else {
            return Ok(None);
        };
        let indexed = Indexed { owner: self.shared.owner_of(&decoded.value), deadline };
        self.shared.extend(&found.key, record.version, decoded.marks.end, &indexed).await?;
        Ok(Some(decoded.value))
    }

    /// Replaces the session under `key` without reading it. The result is a new session: an absolute lifetime
    /// starts again. Waits for earlier updates.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update), except the handler's and conflicts.
    pub async fn set(&self, key: impl IntoSessionKey, value: T) -> Result<()> {
        let session = LazySession::new(Arc::clone(&self.shared), self.key(key), Nesting::Refused, None);
        session.set(value)?;
        session.save().await
    }

    /// Deletes the session under `key`. Returns whether it existed. Redirects to it stay. Waits for earlier
    /// updates.
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update), except the handler's and conflicts. The stored value is not
    /// decoded, so an unreadable session can be deleted.
    pub async fn delete(&self, key: impl IntoSessionKey) -> Result<bool> {
        let key = self.key(key)?;
        let _permit = self.shared.queue.enter(&key, &Nesting::Refused).await?;
        let mut slot = Slot::unknown(key.clone());
        let stored = match slot.look(&self.shared).await {
            // A damaged marker does not say whether the session has moved.
            Err(error) if error.kind() == ErrorKind::Corrupt => return self.storage().delete(&key).await,
            looked => looked?,
        };
        let was = self.shared.indexed(&slot.key, stored.as_deref()).await;
        let saving = self.shared.before_save(&slot.key, &was, &Indexed::NONE).await?;
        slot.overwrite(&self.shared, None, None).await?;
        self.shared.after_save(saving).await;
        Ok(stored.is_some())
    }

    /// Returns the TTL of the session under `key`, by the store's clock. Returns `None` if the session does
    /// not exist.
    ///
    /// # Errors
    ///
    /// Those of reading; [`Unsupported`](larder_core::ErrorKind::Unsupported) if the storage has no expiry.
    pub async fn ttl(&self, key: impl IntoSessionKey) -> Result<Option<Expiry>> {
        let info = self.storage().info();
        let mut options = ReadOptions::new();
        options.ttl = info.expiry;
        let Some(record) = self.shared.resolver.find_with(&self.key(key)?, &options).await?.record else {
            return Ok(None);
        };
        let left = record
            .expiry
            .ok_or_else(|| Error::unsupported().with_adapter(info.name).with_operation(Operation::Read))?;
        // The end in the value counts only if the entry has no expiry.
        let end = self.shared.content.format.end(&record.value).filter(|_| left == Expiry::Never);
        Ok(Expiry::until(end, unix_millis()).map(|end| end.earlier(left)))
    }

    /// Moves the session under `old` to `new` and leaves a redirect at `old`: for a chat whose id changes,
    /// such as a Telegram group that becomes a supergroup.
    ///
    /// From the start of the move, updates under either key reach the same session, in any order and in any
    /// process, even if the moving process dies halfway. The session keeps its value and its TTL. The
    /// redirect is written even without a session. Moving again, further, or back is allowed. The move waits
    /// for earlier updates under `old` in this process, so none of them has to run again.
    ///
    /// During the move, the stored session is a third larger. If it is then too large for the store, the move
    /// fails with [`TooLarge`](larder_core::ErrorKind::TooLarge): the session stays at `old`, and both keys
    /// lead to it.
    ///
    /// Requirements:
    ///
    /// - The storage has compare-and-swap.
    /// - All programs update these sessions through this crate, with the same prefix.
    /// - The move starts before the first update under the new key, or
    ///   [`merge`](crate::SessionsBuilder::merge) merges the session that such an update creates. All
    ///   processes use the same `merge`.
    ///
    /// # Errors
    ///
    /// [`Conflict`](larder_core::ErrorKind::Conflict) if both keys have a session and there is no `merge`;
    /// nothing is changed. [`Unsupported`](larder_core::ErrorKind::Unsupported) without compare-and-swap.
    /// Those of reading and writing; a second call continues the move.
    pub async fn move_key(&self, old: impl IntoSessionKey, new: impl IntoSessionKey) -> Result<()> {
        let (old, new) = (self.key(old)?, self.key(new)?);
        let _permit = match self.shared.queue.enter(&old, &Nesting::Refused).await {
            // The session's own handler moves it.
            Err(error) if error.kind() == ErrorKind::Unsupported => None,
            permit => Some(permit?),
        };
        self.shared.resolver.move_session(&old, &new).await
    }

    /// Returns the leases of these sessions, to use other options than [`lock`](Self::lock).
    #[must_use]
    pub fn leases(&self) -> Leases {
        Leases::new(self.storage()).with_prefix(format!("{RESERVED}lease:"))
    }

    /// Acquires the lease of the session under `key`, and waits while any process holds it: for handlers that
    /// must not run concurrently. See [`Lease`].
    ///
    /// A lease excludes other leases, not updates. It locks the current key of the session: a lease acquired
    /// before a [move](Self::move_key) does not exclude one acquired after it.
    ///
    /// # Errors
    ///
    /// Those of [`Leases::lock`].
    pub async fn lock(&self, key: impl IntoSessionKey) -> Result<Lease> {
        // Both ids of a moved chat have one lease.
        let found = self.shared.resolver.find(&self.key(key)?).await?;
        self.leases().lock(&found.key).await
    }
}

type HandlerResult<O> = Result<<O as Outcome>::Value, <O as Outcome>::Error>;
type OnceFuture<O, F> = Either<Map<F, fn(O) -> HandlerResult<O>>, Ready<HandlerResult<O>>>;

/// Adapts a handler that can be called once. [`Retries::none`] calls it no more often.
pub(crate) fn once<S, O: Outcome, F: HandlerFuture<Output = O>>(
    handler: impl FnOnce(S) -> F,
) -> impl FnMut(S) -> OnceFuture<O, F> {
    let mut handler = Some(handler);
    move |session| match handler.take() {
        Some(handler) => Either::Left(handler(session).map(O::into_result as fn(O) -> _)),
        None => Either::Right(ready(Err(Error::conflict().into()))),
    }
}

/// Ends the session with its update, even if that fails, panics or is dropped.
struct Ending<'s, T: Send + Sync + 'static>(&'s LazySession<T>);

impl<T: Send + Sync + 'static> Drop for Ending<'_, T> {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<T> fmt::Debug for Sessions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("storage", self.storage())
            .field("prefix", &self.shared.prefix)
            .field("lifetime", &self.shared.content.lifetime)
            .field("conflicts", &self.shared.conflicts)
            .finish_non_exhaustive()
    }
}

//! Sessions of one kind.

use std::{fmt, sync::Arc};

use larder_core::{Error, ErrorKind, Expiry, Key, Operation, ReadOptions, Result, Store, clock::unix_millis};

use crate::{
    conflicts::Reruns,
    key::{RESERVED, SessionKey},
    lazy::LazySession,
    lease::{Lease, Leases},
    outcome::Outcome,
    queue::{Nesting, Queue},
    session::{Lent, OpenSession, Session},
    shared::Shared,
    state::{Place, State},
};

/// Sessions of one kind: a value of type `T` per chat, user or visitor, in any storage.
///
/// Built once, cheap to clone; all clones share one queue per key. See the [crate's
/// documentation](crate) for an example.
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

    /// The storage underneath.
    #[must_use]
    pub fn storage(&self) -> &Store {
        self.shared.store()
    }

    /// The same number for all clones, and for no other sessions that there are at the time.
    #[doc(hidden)]
    #[must_use]
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    pub(crate) fn key(&self, key: impl Into<SessionKey>) -> Result<Key> {
        key.into().under(&self.shared.prefix)
    }
}

impl<T: Send + Sync + 'static> Sessions<T> {
    /// Runs `handler` on the session under `key` and saves what it changes: one read, the handler, one
    /// write.
    ///
    /// Updates of one key take turns, in the order in which they came; those of other processes are
    /// noticed by compare-and-swap when the session is saved, and [`Conflicts`](crate::Conflicts)
    /// says what happens then. By default the handler is run again, on what the other has written.
    ///
    /// Nothing is written if nothing has changed, or if the handler returns an `Err`. A session that
    /// did not exist is written with its initial value. [`Session::clear`] deletes it, and so does a
    /// value that is encoded as nothing: `None`, where `T` is an `Option`.
    ///
    /// The handler returns `()` or a `Result`. It is given the session by value and gives it back by
    /// returning; it can borrow from around it, but not mutably, since it may run more than once.
    ///
    /// An update within an update of the same session is an
    /// [`Unsupported`](larder_core::ErrorKind::Unsupported) error: it would wait for itself. Through
    /// another `Sessions` on the same [`Store`] the inner one is refused before it runs.
    /// Through another handle on the same store the inner one is saved, and the outer one fails when it
    /// finds that its own handler has overtaken it (with [`Conflicts::Fail`](crate::Conflicts::Fail) as
    /// with any other conflict). An inner update in a task that the handler spawns
    /// and awaits cannot be told from another update: it waits until the
    /// [patience](crate::SessionsBuilder::patience) of the sessions ends.
    ///
    /// ```
    /// # async fn example() -> larder_session::Result<()> {
    /// # let sessions = larder_session::Sessions::<u32>::builder().build()?;
    /// # let chat_id = 42_i64;
    /// sessions.update(chat_id, async |mut pizzas| *pizzas += 1).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The handler's own; [`InvalidKey`](larder_core::ErrorKind::InvalidKey) if there is no key;
    /// [`Conflict`](larder_core::ErrorKind::Conflict) as the policy says;
    /// [`Codec`](larder_core::ErrorKind::Codec) if what is stored is no `T`, or if what would be stored
    /// could not be read as one again (nothing is saved then), and
    /// [`VersionTooNew`](larder_core::ErrorKind::VersionTooNew) if a newer program has stored it (it stays as it is);
    /// [`Unsupported`](larder_core::ErrorKind::Unsupported) within an update of the same session; those of
    /// reading and writing.
    pub async fn update<O, F>(
        &self,
        key: impl Into<SessionKey>,
        mut handler: impl FnMut(Session<T>) -> F,
    ) -> Result<O::Value, O::Error>
    where
        O: Outcome,
        F: Future<Output = O>,
    {
        let mut reruns = Reruns::new(self.shared.conflicts);
        let turn = self.shared.queue.enter(&self.key(key)?, &Nesting::Refused).await?;
        let mut state = State::load(&self.shared, turn, Nesting::Refused).await?;
        loop {
            let claim = (Arc::clone(&self.shared.queue), state.place.key.clone());
            let lent = Lent::new(state);
            let handled = handler(lent.lend()?);
            let (outcome, nested) = Queue::holding([&claim], handled).await;
            let value = outcome.into_result()?;
            state = lent.into_state()?;
            match state.save().await {
                Ok(()) => return Ok(value),
                Err(error) => reruns.again(error, &nested).await?,
            }
            state = state.reload().await?;
        }
    }

    /// As [`update`](Self::update), but nothing is read or written unless the handler touches the
    /// session; see [`LazySession`].
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update); where there is no key, only touching the session is an error.
    pub async fn update_lazy<O, F>(
        &self,
        key: impl Into<SessionKey>,
        mut handler: impl FnMut(LazySession<T>) -> F,
    ) -> Result<O::Value, O::Error>
    where
        O: Outcome,
        F: Future<Output = O>,
    {
        let key = key.into();
        let claim = self.key(&key).ok().map(|key| (Arc::clone(&self.shared.queue), key));
        let nesting = Nesting::own();
        let mut reruns = Reruns::new(self.shared.conflicts);
        loop {
            let session = LazySession::new(Arc::clone(&self.shared), self.key(&key), nesting.clone(), None);
            let _ending = Ending(&session);
            let handled = handler(session.clone());
            let (outcome, nested) = Queue::holding(&claim, handled).await;
            let value = outcome.into_result()?;
            match session.save().await {
                Ok(()) => return Ok(value),
                Err(error) => reruns.again(error, &nested).await?,
            }
        }
    }

    /// Opens the session under `key`, to be changed and [saved](OpenSession::save) by hand. Updates
    /// of it wait meanwhile, also those that the holder itself begins: those wait until their patience ends.
    /// [`update`](Self::update) is the better choice where the code between can be a handler.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), but for the handler's.
    pub async fn open(&self, key: impl Into<SessionKey>) -> Result<OpenSession<T>> {
        let turn = self.shared.queue.enter(&self.key(key)?, &Nesting::Refused).await?;
        OpenSession::new(State::load(&self.shared, turn, Nesting::Refused).await?)
    }

    /// The session under `key`, to be read only if it is touched. [Save](LazySession::save) it by hand,
    /// or take [`update_lazy`](Self::update_lazy).
    pub fn lazy(&self, key: impl Into<SessionKey>) -> LazySession<T> {
        LazySession::new(Arc::clone(&self.shared), self.key(key), Nesting::Refused, None)
    }

    /// Reads the session under `key`; `None` if there is none. Waits for no update.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), but for the handler's and conflicts.
    pub async fn get(&self, key: impl Into<SessionKey>) -> Result<Option<T>> {
        let found = self.shared.resolver.find(&self.key(key)?).await?;
        let Some(record) = found.record else {
            return Ok(None);
        };
        let Some(decoded) = self.shared.decode(&found.key, &record.value).await? else {
            return Ok(None);
        };
        let owner = self.shared.owner_of(&decoded.value);
        self.shared.extend(&found.key, record.version, decoded.marks.end, owner.as_deref()).await?;
        Ok(Some(decoded.value))
    }

    /// Replaces the session under `key`, whatever it was, without reading it: it is a new one, and so is
    /// the end of an absolute lifetime. Takes its turn among the updates.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), but for the handler's and conflicts.
    pub async fn set(&self, key: impl Into<SessionKey>, value: T) -> Result<()> {
        let session = self.lazy(key);
        session.set(value)?;
        session.save().await
    }

    /// Deletes the session under `key`; says whether there was one. The redirects that lead to it
    /// stay. Takes its turn among the updates.
    ///
    /// # Errors
    ///
    /// As [`update`](Self::update), but for the handler's and conflicts. What is stored may be
    /// anything: a session that cannot be read any more can be deleted.
    pub async fn delete(&self, key: impl Into<SessionKey>) -> Result<bool> {
        let key = self.key(key)?;
        let _turn = self.shared.queue.enter(&key, &Nesting::Refused).await?;
        let mut place = Place::unknown(key.clone());
        let stored = match place.look(&self.shared).await {
            // It cannot even be told whether it has moved.
            Err(error) if error.kind() == ErrorKind::Corrupt => return self.storage().delete(&key).await,
            looked => looked?,
        };
        let owner = self.indexed_owner(&place.key, stored.as_deref()).await;
        place.overwrite(&self.shared, None).await?;
        self.shared.forget_owner(owner.as_deref(), &place.key).await;
        Ok(stored.is_some())
    }

    /// The time that the session under `key` has left, by the store's clock; `None` if there is no
    /// session.
    ///
    /// # Errors
    ///
    /// Those of reading; [`Unsupported`](larder_core::ErrorKind::Unsupported) if the storage has no
    /// expiry.
    pub async fn ttl(&self, key: impl Into<SessionKey>) -> Result<Option<Expiry>> {
        let info = self.storage().info();
        let mut options = ReadOptions::new();
        options.ttl = info.expiry;
        let Some(record) = self.shared.resolver.find_with(&self.key(key)?, &options).await?.record else {
            return Ok(None);
        };
        let left = record
            .expiry
            .ok_or_else(|| Error::unsupported().with_adapter(info.name).with_operation(Operation::Read))?;
        // An end that is stored with it counts only where the store knows none.
        let end = self.shared.content.format.end(&record.value).filter(|_| left == Expiry::Never);
        Ok(Expiry::until(end, unix_millis()).map(|end| end.earlier(left)))
    }

    /// Moves the session under `old` to `new` and leaves a redirect at `old`: for a chat that gets
    /// another id, such as a Telegram group that becomes a supergroup.
    ///
    /// Once this has begun, updates meet in one session whichever of the two keys they come under, in
    /// whatever order, in this process or another, also if the process that moves dies in between.
    /// The session keeps its content and the time that it has left. Where there is no session, the
    /// redirect is written too. Moving again is no error, nor is moving on or back. It takes its turn
    /// among the updates that come under `old` in this process, so that none of them has to run again.
    ///
    /// While it is under way the session is stored a third larger. One that the store has no room for
    /// then is [`TooLarge`](larder_core::ErrorKind::TooLarge): it stays where it is, and both keys lead
    /// to it.
    ///
    /// The conditions: the storage has compare-and-swap; everybody who updates these sessions does so
    /// through this crate with the same prefix; and either the move begins before the first update
    /// comes under the new key, or [`merge`](crate::SessionsBuilder::merge) says what becomes of the session
    /// that such an update has made. A `merge` has to be the same in every process.
    ///
    /// # Errors
    ///
    /// [`Conflict`](larder_core::ErrorKind::Conflict) if there is a session at both keys and no
    /// `merge`: nothing is changed. [`Unsupported`](larder_core::ErrorKind::Unsupported) without
    /// compare-and-swap. Those of reading and writing: call it again, and it goes on.
    pub async fn move_key(&self, old: impl Into<SessionKey>, new: impl Into<SessionKey>) -> Result<()> {
        let (old, new) = (self.key(old)?, self.key(new)?);
        let _turn = match self.shared.queue.enter(&old, &Nesting::Refused).await {
            // It is this session's own handler that moves it.
            Err(error) if error.kind() == ErrorKind::Unsupported => None,
            turn => Some(turn?),
        };
        self.shared.resolver.move_session(&old, &new).await
    }

    /// The leases on these sessions, for other options than [`lock`](Self::lock)'s.
    #[must_use]
    pub fn leases(&self) -> Leases {
        Leases::new(self.storage()).with_prefix(format!("{RESERVED}lease:"))
    }

    /// Waits until nobody holds a lease on the session under `key`, in any process, and takes one: for
    /// handlers that must not run twice at a time. See [`Lease`].
    ///
    /// A lease keeps other holders of leases out, not updates. It is on the key where the session is
    /// now: one that was taken before a [move](Self::move_key) does not keep out one that is taken after
    /// it.
    ///
    /// # Errors
    ///
    /// As [`Leases::lock`].
    pub async fn lock(&self, key: impl Into<SessionKey>) -> Result<Lease> {
        // Under either id of a chat that has moved it is one lease.
        let found = self.shared.resolver.find(&self.key(key)?).await?;
        self.leases().lock(&found.key).await
    }
}

/// Ends the session of an update with it, also of one that fails, panics or is dropped.
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

//! The session that a handler or a caller of `open` holds.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use larder_core::{Error, ErrorKind, Key, Result};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{queue::Identity, state::State};

/// A session during an update. It dereferences to the value.
///
/// Changes are saved when the handler returns; see [`Sessions::update`](crate::Sessions::update). To replace
/// the value, assign to it: `*session = value`.
///
/// All functions of this type are associated functions, so that they do not hide methods of `T`:
/// `session.clear()` empties a `Vec`, `Session::clear(&mut session)` deletes the session.
///
/// ```
/// use larder_session::{Session, Sessions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> larder_session::Result<()> {
/// # let baskets = Sessions::<Vec<u32>>::builder().build()?;
/// baskets.update("ann", async |mut basket| basket.push(7)).await?;
///
/// baskets.update("ann", async |mut basket| basket.clear()).await?;
/// assert_eq!(baskets.get("ann").await?, Some(vec![]));
///
/// baskets.update("ann", async |mut basket| Session::clear(&mut basket)).await?;
/// assert_eq!(baskets.get("ann").await?, None);
/// # Ok(())
/// # }
/// ```
pub struct Session<T>(OwnedMutexGuard<State<T>>);

impl<T> Session<T> {
    /// Deletes the session when the update is saved. Until then the value is the initial value. If the
    /// handler changes it after this call, the result is saved as a new session.
    pub fn clear(session: &mut Self) {
        session.0.clear();
    }

    /// Abandons the update without an error: nothing of it is saved. Later changes are accepted, but not
    /// saved either; with a [`LazySession`](crate::LazySession) they are an error. In a
    /// [`Multi`](crate::Multi), this abandons only this fragment: the others are saved.
    ///
    /// ```
    /// use larder_session::{Session, Sessions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder_session::Result<()> {
    /// # let accounts = Sessions::<i64>::builder().build()?;
    /// # accounts.set("ann", 10).await?;
    /// accounts.update("ann", async |mut balance| {
    ///     *balance -= 50;
    ///     if *balance < 0 {
    ///         Session::discard(&mut balance);
    ///     }
    /// }).await?;
    /// assert_eq!(accounts.get("ann").await?, Some(10));
    /// # Ok(())
    /// # }
    /// ```
    pub fn discard(session: &mut Self) {
        session.0.discard();
    }

    /// Returns whether the session did not exist before, so the value started as the initial value.
    #[must_use]
    pub fn is_new(session: &Self) -> bool {
        session.0.is_new()
    }

    /// Returns the key in the storage, with the prefix.
    #[must_use]
    pub fn storage_key(session: &Self) -> &Key {
        &session.0.slot.key
    }

    pub(crate) fn state(session: &mut Self) -> &mut State<T> {
        &mut session.0
    }

    pub(crate) fn identity(session: &Self) -> Identity {
        session.0.identity()
    }

    /// Saves the changes, and does not warn if that fails: the caller gets the error.
    pub(crate) async fn save(session: &mut Self) -> Result<()> {
        let saved = session.0.save().await;
        session.0.warns_of_loss = false;
        saved
    }
}

impl<T> Drop for Session<T> {
    fn drop(&mut self) {
        if self.0.warns_of_loss {
            warn_of_loss(|| self.0.has_changed());
        }
    }
}

/// Logs that a session was dropped with unsaved changes.
pub(crate) fn warn_of_loss(has_changed: impl FnOnce() -> bool) {
    // After a panic the loss is expected. `has_changed` calls `Serialize`, whose panic would then abort the
    // process.
    if !std::thread::panicking() && has_changed() {
        tracing::warn!(
            "an open session was dropped with unsaved changes, which are lost: call `save`, or `discard` if that is \
             intended"
        );
    }
}

impl<T> Deref for Session<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.value()
    }
}

impl<T> DerefMut for Session<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.value_mut()
    }
}

/// Prints no value.
impl<T> fmt::Debug for Session<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("is_new", &Self::is_new(self)).finish_non_exhaustive()
    }
}

/// The state that a handler's [`Session`] locks. Dropping the [`Session`] unlocks it.
pub struct HandlerState<T>(Arc<Mutex<State<T>>>);

impl<T> fmt::Debug for HandlerState<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandlerState").finish_non_exhaustive()
    }
}

impl<T> HandlerState<T> {
    pub(crate) fn new(state: State<T>) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn session(&self) -> Result<Session<T>> {
        Arc::clone(&self.0).try_lock_owned().map(Session).map_err(|_| kept())
    }

    /// Returns the state after the handler.
    pub(crate) fn into_state(self) -> Result<State<T>> {
        Arc::try_unwrap(self.0).map(Mutex::into_inner).map_err(|_| kept())
    }
}

fn kept() -> Error {
    Error::new(
        ErrorKind::Other,
        "the handler returned but kept its session (moved it into a spawned task, for example); nothing was saved",
    )
}

/// A session opened by [`Sessions::open`](crate::Sessions::open). It dereferences to the value, and
/// [`OpenSession::save`] saves it.
///
/// Updates of the same session wait until it is saved or dropped. Dropping it with unsaved changes logs a
/// warning; see [`OpenSession::discard`].
///
/// As with [`Session`], all functions are associated functions.
///
/// ```
/// use larder_session::{OpenSession, Sessions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> larder_session::Result<()> {
/// # let baskets = Sessions::<Vec<u32>>::builder().build()?;
/// let mut basket = baskets.open("ann").await?;
/// basket.push(7);
/// OpenSession::save(basket).await?;
/// assert_eq!(baskets.get("ann").await?, Some(vec![7]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "nothing is saved without `OpenSession::save`"]
pub struct OpenSession<T>(Session<T>);

impl<T> OpenSession<T> {
    pub(crate) fn new(mut state: State<T>) -> Result<Self> {
        state.warns_of_loss = true;
        HandlerState::new(state).session().map(Self)
    }

    pub(crate) fn into_session(self) -> Session<T> {
        self.0
    }

    /// Saves the changes as an update does, and lets the next update run.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if another process has changed the session since it was opened, except with
    /// [`ConflictPolicy::LastWriteWins`](crate::ConflictPolicy::LastWriteWins). There is no handler to run
    /// again. Otherwise those of [`Sessions::update`](crate::Sessions::update).
    pub async fn save(mut session: Self) -> Result<()> {
        Session::save(&mut session.0).await
    }

    /// Drops the session without its changes and without a warning.
    pub fn discard(mut session: Self) {
        Session::discard(&mut session.0);
    }

    /// Deletes the session when it is saved; see [`Session::clear`].
    pub fn clear(session: &mut Self) {
        Session::clear(&mut session.0);
    }

    /// Returns whether the session did not exist before, so the value started as the initial value.
    #[must_use]
    pub fn is_new(session: &Self) -> bool {
        Session::is_new(&session.0)
    }

    /// Returns the key in the storage, with the prefix.
    #[must_use]
    pub fn storage_key(session: &Self) -> &Key {
        Session::storage_key(&session.0)
    }
}

impl<T> Deref for OpenSession<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for OpenSession<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

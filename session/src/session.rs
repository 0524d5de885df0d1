//! The session in a handler's hands.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    sync::Arc,
};

use larder_core::{Error, ErrorKind, Key, Result};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{queue::Identity, state::State};

/// A session while it is being updated: it dereferences to the value.
///
/// What is changed is saved when the handler is done; see [`Sessions::update`](crate::Sessions::update).
pub struct Session<T>(OwnedMutexGuard<State<T>>);

impl<T> Session<T> {
    /// Deletes the session when the update is saved. Until then the value is the initial one; if that
    /// is changed, it is a new session.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Replaces the value.
    pub fn set(&mut self, value: T) {
        *self.0.value_mut() = value;
    }

    /// Whether there was no session yet, and the value is the initial one.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.0.is_new()
    }

    pub(crate) fn identity(&self) -> Identity {
        self.0.identity()
    }

    /// The storage's key of the session, prefix included.
    #[must_use]
    pub fn storage_key(&self) -> &Key {
        &self.0.place.key
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
        f.debug_struct("Session").field("is_new", &self.is_new()).finish_non_exhaustive()
    }
}

/// The state of a session that a handler is given, and gives back by dropping it.
pub struct Lent<T>(Arc<Mutex<State<T>>>);

impl<T> fmt::Debug for Lent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lent").finish_non_exhaustive()
    }
}

impl<T> Lent<T> {
    pub(crate) fn new(state: State<T>) -> Self {
        Self(Arc::new(Mutex::new(state)))
    }

    pub(crate) fn lend(&self) -> Result<Session<T>> {
        Arc::clone(&self.0).try_lock_owned().map(Session).map_err(|_| kept())
    }

    /// The state, when the handler is done.
    pub(crate) fn into_state(self) -> Result<State<T>> {
        Arc::try_unwrap(self.0).map(Mutex::into_inner).map_err(|_| kept())
    }
}

fn kept() -> Error {
    Error::new(
        ErrorKind::Other,
        "the handler has kept its session beyond its end (in a task that it started, say); nothing was saved",
    )
}

/// A session that was opened with [`Sessions::open`](crate::Sessions::open), to be saved by hand.
///
/// Updates of the same session wait until it is saved or dropped.
#[derive(Debug)]
#[must_use = "nothing is saved without `save`"]
pub struct OpenSession<T>(Session<T>);

impl<T> OpenSession<T> {
    pub(crate) fn new(state: State<T>) -> Result<Self> {
        Lent::new(state).lend().map(Self)
    }

    pub(crate) fn into_session(self) -> Session<T> {
        self.0
    }

    pub(crate) const fn from_session(session: Session<T>) -> Self {
        Self(session)
    }

    /// Saves what has changed, as the end of an update does, and lets the next one go on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if another process has changed the session meanwhile (but with
    /// [`Conflicts::LastWriteWins`](crate::Conflicts::LastWriteWins)): there is no handler to run
    /// again. Otherwise those of [`Sessions::update`](crate::Sessions::update).
    pub async fn save(mut self) -> Result<()> {
        self.0.0.save().await
    }
}

impl<T> Deref for OpenSession<T> {
    type Target = Session<T>;

    fn deref(&self) -> &Session<T> {
        &self.0
    }
}

impl<T> DerefMut for OpenSession<T> {
    fn deref_mut(&mut self) -> &mut Session<T> {
        &mut self.0
    }
}

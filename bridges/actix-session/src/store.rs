//! The session store.

use actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use larder_core::{Error, ErrorKind, IntoStore, Result, Store};

use crate::{
    error::{not_loaded, not_saved, not_updated},
    sessions::{Sessions, State, expiry},
};

/// Keeps the sessions of actix-session in a Larder storage.
///
/// Clones share the storage. [The crate's page](crate) describes the behaviour and the stored data.
///
/// ```
/// use actix_session::SessionMiddleware;
/// use actix_web::cookie::Key;
/// use larder_actix_session::LarderStore;
/// use larder_memory::MemoryStorage;
///
/// let store = LarderStore::new(MemoryStorage::new())?.with_prefix("shop:")?;
/// let middleware = SessionMiddleware::new(store, Key::generate());
/// # let _ = middleware;
/// # Ok::<(), larder_actix_session::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LarderStore {
    sessions: Sessions,
    revives: bool,
}

impl LarderStore {
    /// Creates a session store in `storage`, with keys that begin with `session:`. `storage` is a [`Store`],
    /// such as `larder::open` and the adapters return, or a storage that converts to one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the storage does not support expiry (sessions would never expire) or
    /// compare-and-swap (two sessions could get one key, and deleted sessions could return).
    ///
    /// ```
    /// # use larder_actix_session::LarderStore;
    /// # use larder_memory::MemoryStorage;
    /// let store = LarderStore::new(MemoryStorage::new())?;
    /// # Ok::<(), larder_actix_session::Error>(())
    /// ```
    pub fn new(storage: impl IntoStore) -> Result<Self> {
        let store = storage.into();
        let info = store.info();
        let lacks = match (info.expiry, info.conditions()) {
            (true, true) => return Ok(Self { sessions: Sessions::new(store, "session:")?, revives: true }),
            (false, _) => "expiry",
            (true, false) => "compare-and-swap",
        };
        let message = format!("the storage does not support {lacks}, which sessions need: use another");
        Err(Error::new(ErrorKind::Unsupported, message).with_adapter(info.name))
    }

    /// Sets the prefix of the keys, so that several services can share a storage. Default: `session:`. End it
    /// with a character such as `:` that no session key contains. It may be empty, as in actix-session's own
    /// stores.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the prefix contains control characters or is too long for a session key
    /// to fit.
    ///
    /// ```
    /// # use larder_actix_session::LarderStore;
    /// # use larder_memory::MemoryStorage;
    /// let store = LarderStore::new(MemoryStorage::new())?.with_prefix("shop:")?;
    /// assert!(store.with_prefix("line\nbreak").is_err());
    /// # Ok::<(), larder_actix_session::Error>(())
    /// ```
    pub fn with_prefix(self, prefix: impl AsRef<str>) -> Result<Self> {
        Ok(Self { sessions: Sessions::new(self.sessions.store, prefix.as_ref())?, ..self })
    }

    /// Makes an update fail, with response 500, if the session no longer exists. By default, such an update
    /// creates a new session with the old state. With this option a logout is final, also for requests that
    /// are already running.
    ///
    /// ```
    /// # use larder_actix_session::LarderStore;
    /// # use larder_memory::MemoryStorage;
    /// let store = LarderStore::new(MemoryStorage::new())?.without_revival();
    /// # Ok::<(), larder_actix_session::Error>(())
    /// ```
    #[must_use]
    pub fn without_revival(self) -> Self {
        Self { revives: false, ..self }
    }

    /// Returns the storage, for example to list sessions or to close it.
    ///
    /// ```
    /// # use larder_actix_session::LarderStore;
    /// # use larder_memory::MemoryStorage;
    /// let store = LarderStore::new(MemoryStorage::new())?;
    /// assert_eq!(store.storage().info().name, "memory");
    /// # Ok::<(), larder_actix_session::Error>(())
    /// ```
    #[must_use]
    pub const fn storage(&self) -> &Store {
        &self.sessions.store
    }

    /// Replaces the session. Returns `false` if it does not exist.
    async fn replaced(&self, session_key: &SessionKey, state: &State, ttl: &time::Duration) -> Result<bool> {
        match self.sessions.key(session_key) {
            Some(key) => self.sessions.replace(&key, state, expiry(ttl)).await,
            None => Ok(false),
        }
    }
}

impl SessionStore for LarderStore {
    async fn load(&self, session_key: &SessionKey) -> Result<Option<State>, LoadError> {
        let Some(key) = self.sessions.key(session_key) else { return Ok(None) };
        Ok(self.sessions.find(&key).await.map_err(not_loaded)?.map(|(state, _)| state))
    }

    async fn save(&self, state: State, ttl: &time::Duration) -> Result<SessionKey, SaveError> {
        self.sessions.create(&state, expiry(ttl)).await.map_err(not_saved)
    }

    async fn update(
        &self,
        session_key: SessionKey,
        state: State,
        ttl: &time::Duration,
    ) -> Result<SessionKey, UpdateError> {
        if self.replaced(&session_key, &state, ttl).await.map_err(not_updated)? {
            return Ok(session_key);
        }
        if !self.revives {
            return Err(not_updated(self.sessions.gone()));
        }
        self.sessions.create(&state, expiry(ttl)).await.map_err(not_updated)
    }

    async fn update_ttl(&self, session_key: &SessionKey, ttl: &time::Duration) -> anyhow::Result<()> {
        if let Some(key) = self.sessions.key(session_key) {
            self.sessions.store.touch(&key, expiry(ttl)).await?;
        }
        Ok(())
    }

    /// Called by the middleware at a login (`renew`) and a logout (`purge`), after the request has loaded the
    /// session. Deletes without another check, so it also deletes a value that was written since.
    async fn delete(&self, session_key: &SessionKey) -> anyhow::Result<()> {
        if let Some(key) = self.sessions.key(session_key) {
            self.sessions.store.delete(&key).await?;
        }
        Ok(())
    }
}

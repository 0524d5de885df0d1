//! The session store.

use actix_session::storage::{LoadError, SaveError, SessionKey, SessionStore, UpdateError};
use larder_core::{Error, ErrorKind, IntoStore, Result, Store};

use crate::{
    error::{not_loaded, not_saved, not_updated},
    keys::{Form, Keys},
    sessions::{Sessions, expiry},
    stored::State,
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
            (true, true) => return Ok(Self { sessions: Sessions::new(store)?, revives: true }),
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
    pub fn with_prefix(mut self, prefix: impl AsRef<str>) -> Result<Self> {
        self.sessions.keys = Keys::new(prefix.as_ref(), self.sessions.keys.form)?;
        Ok(self)
    }

    /// Stores sessions under their plain session keys, as actix-session's own stores do, so that both can read
    /// the other's sessions. By default, the storage has only a hash of each session key. **Whoever can read the
    /// storage or a backup of it can then take over every session.**
    ///
    /// ```
    /// # use larder_actix_session::LarderStore;
    /// # use larder_memory::MemoryStorage;
    /// let store = LarderStore::new(MemoryStorage::new())?.with_plain_ids();
    /// # Ok::<(), larder_actix_session::Error>(())
    /// ```
    #[must_use]
    pub fn with_plain_ids(mut self) -> Self {
        self.sessions.keys.form = Form::Plain;
        self
    }

    /// Also finds sessions that were stored under their plain session keys, and moves each one to its hashed key
    /// when it is updated. Visitors stay logged in. Remove this setting after the longest lifetime of a session: a
    /// plain key of a stolen backup is accepted until then. [The crate's page](crate#move-to-hashed-keys) has the
    /// cost.
    ///
    /// ```
    /// # use larder_actix_session::LarderStore;
    /// # use larder_memory::MemoryStorage;
    /// let store = LarderStore::new(MemoryStorage::new())?.migrating_plain_ids();
    /// # Ok::<(), larder_actix_session::Error>(())
    /// ```
    #[must_use]
    pub fn migrating_plain_ids(mut self) -> Self {
        self.sessions.keys.form = Form::Migrating;
        self
    }

    /// Sets the maximum size of a stored session, in bytes. Default: 1 MiB. To save or update a larger session fails
    /// with `SaveError::Serialization` or `UpdateError::Serialization`, and nothing is written. A session that is
    /// already larger can still be loaded.
    ///
    /// ```
    /// # use larder_actix_session::LarderStore;
    /// # use larder_memory::MemoryStorage;
    /// let store = LarderStore::new(MemoryStorage::new())?.with_max_size(16 * 1024);
    /// # Ok::<(), larder_actix_session::Error>(())
    /// ```
    #[must_use]
    pub fn with_max_size(mut self, bytes: usize) -> Self {
        self.sessions.max_size = bytes;
        self
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
}

impl SessionStore for LarderStore {
    async fn load(&self, session_key: &SessionKey) -> Result<Option<State>, LoadError> {
        let Some(place) = self.sessions.keys.accept(session_key) else { return Ok(None) };
        self.sessions.load(&place).await.map_err(not_loaded)
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
        let replaced = match self.sessions.keys.accept(&session_key) {
            Some(place) => self.sessions.replace(&place, &state, expiry(ttl)).await.map_err(not_updated)?,
            None => false,
        };
        if replaced {
            return Ok(session_key);
        }
        if !self.revives {
            return Err(not_updated(self.sessions.gone()));
        }
        self.sessions.create(&state, expiry(ttl)).await.map_err(not_updated)
    }

    async fn update_ttl(&self, session_key: &SessionKey, ttl: &time::Duration) -> anyhow::Result<()> {
        if let Some(place) = self.sessions.keys.accept(session_key) {
            self.sessions.touch(&place, expiry(ttl)).await?;
        }
        Ok(())
    }

    /// Called by the middleware at a login (`renew`) and a logout (`purge`), after the request has loaded the
    /// session. Deletes without another check, so it also deletes a value that was written since.
    async fn delete(&self, session_key: &SessionKey) -> anyhow::Result<()> {
        if let Some(place) = self.sessions.keys.accept(session_key) {
            self.sessions.delete(&place).await?;
        }
        Ok(())
    }
}

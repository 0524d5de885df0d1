//! The session store.

use std::time::Duration;

use actix_session::storage::{
    LoadError, SaveError, SessionKey, SessionStore, UpdateError, generate_session_key,
};
use larder_core::{Expiry, IntoStore, Result, Store};
use larder_web_sessions::{DRAWS, OwnedSession, Sessions};

use crate::{
    error::{not_loaded, not_saved, not_updated},
    stored::{Session, State},
};

/// The length of actix-session's keys.
const LENGTH: usize = 64;
/// The name under which a loaded session has its handle. It is not stored.
const HANDLE: &str = "larder.handle";

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
    sessions: Sessions<State>,
    revives: bool,
}

impl LarderStore {
    /// Creates a session store in `storage`, with keys that begin with `session:`. `storage` is a [`Store`],
    /// such as `larder::open` and the adapters return, or a storage that converts to one.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the storage does not support expiry (sessions would never
    /// expire) or compare-and-swap (two sessions could get one key, and deleted sessions could return).
    ///
    /// ```
    /// # use larder_actix_session::LarderStore;
    /// # use larder_memory::MemoryStorage;
    /// let store = LarderStore::new(MemoryStorage::new())?;
    /// # Ok::<(), larder_actix_session::Error>(())
    /// ```
    pub fn new(storage: impl IntoStore) -> Result<Self> {
        Ok(Self { sessions: Sessions::new(storage)?, revives: true })
    }

    /// Sets the prefix of the keys, so that several services can share a storage. Default: `session:`. End it
    /// with a character such as `:` that no session key contains. It may be empty, as in actix-session's own
    /// stores.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey) if the prefix contains control characters or is too long for a
    /// session key to fit.
    ///
    /// ```
    /// # use larder_actix_session::LarderStore;
    /// # use larder_memory::MemoryStorage;
    /// let store = LarderStore::new(MemoryStorage::new())?.with_prefix("shop:")?;
    /// assert!(store.with_prefix("line\nbreak").is_err());
    /// # Ok::<(), larder_actix_session::Error>(())
    /// ```
    pub fn with_prefix(self, prefix: impl AsRef<str>) -> Result<Self> {
        let sessions = self.sessions.with_prefix(prefix.as_ref(), &"k".repeat(LENGTH))?;
        Ok(Self { sessions, ..self })
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
    pub fn with_plain_ids(self) -> Self {
        Self { sessions: self.sessions.with_plain_ids(), ..self }
    }

    /// Also finds sessions that were stored under their plain session keys, and moves each one to its hashed key
    /// when it is updated. Visitors stay logged in. Remove this setting after the longest lifetime of a session. A
    /// session keeps its session key when it moves: a key in a copy of the storage from before the move is accepted
    /// until its session ends. To rule this out, delete all sessions. [The crate's page](crate#move-to-hashed-keys) has
    /// the cost.
    ///
    /// ```
    /// # use larder_actix_session::LarderStore;
    /// # use larder_memory::MemoryStorage;
    /// let store = LarderStore::new(MemoryStorage::new())?.migrating_plain_ids();
    /// # Ok::<(), larder_actix_session::Error>(())
    /// ```
    #[must_use]
    pub fn migrating_plain_ids(self) -> Self {
        Self { sessions: self.sessions.migrating_plain_ids(), ..self }
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
    pub fn with_max_size(self, bytes: usize) -> Self {
        Self { sessions: self.sessions.with_max_size(bytes), ..self }
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
        self.sessions.storage()
    }

    /// Sets a function that returns the owner of a session, and maintains an index of owners: with it,
    /// [`sessions_of`](Self::sessions_of) lists the sessions of a user, and
    /// [`delete_by_owner`](Self::delete_by_owner) logs the user out everywhere. The function gets the state of the
    /// session, names and JSON values, and must always return the same owner for the same state. `None`: the session
    /// has no owner, because nobody has signed in, for example.
    ///
    /// Sessions with owners do not revive: see [`without_revival`](Self::without_revival).
    /// [The crate's page](crate#log-out-everywhere) has the costs, and an example for actix-identity.
    ///
    /// ```
    /// # use larder_actix_session::LarderStore;
    /// # use larder_memory::MemoryStorage;
    /// let store = LarderStore::new(MemoryStorage::new())?
    ///     .with_owner(|state| serde_json::from_str(state.get("user")?).ok())
    ///     .with_device(|state| serde_json::from_str(state.get("device")?).ok())
    ///     .with_max_per_owner(5);
    /// # Ok::<(), larder_actix_session::Error>(())
    /// ```
    #[must_use]
    pub fn with_owner(self, owner: impl Fn(&State) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { sessions: self.sessions.with_owner(owner), revives: false }
    }

    /// Sets a function that returns the name of the device of a session, for [`sessions_of`](Self::sessions_of). The
    /// index stores at most 256 characters of it, at the sign-in and whenever it notes the last use. Needs
    /// [`with_owner`](Self::with_owner).
    #[must_use]
    pub fn with_device(self, device: impl Fn(&State) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { sessions: self.sessions.with_device(device), ..self }
    }

    /// Sets the maximum number of sessions per owner. After a sign-in, the oldest ones are deleted. At least one
    /// stays. Default: no limit. Needs [`with_owner`](Self::with_owner).
    #[must_use]
    pub fn with_max_per_owner(self, most: usize) -> Self {
        Self { sessions: self.sessions.with_max_per_owner(most), ..self }
    }

    /// Returns the sessions of `owner`, in the order of their sign-ins. Two batches of reads, however many
    /// sessions the storage has.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](larder_core::ErrorKind::Unsupported) without [`with_owner`](Self::with_owner); those of
    /// reading; [`Codec`](larder_core::ErrorKind::Codec) if another program has stored something under a key
    /// of the index.
    pub async fn sessions_of(&self, owner: &str) -> Result<Vec<OwnedSession>> {
        self.sessions.sessions_of::<Session>(owner).await
    }

    /// Deletes all sessions of `owner`, to log out a user everywhere. Returns their number. A request that is running
    /// cannot save its session afterwards, and gets the response 500. (A session that moves at the same time can count
    /// twice.)
    ///
    /// # Errors
    ///
    /// Those of [`sessions_of`](Self::sessions_of): the first one, after the other sessions were deleted. A second call
    /// continues.
    pub async fn delete_by_owner(&self, owner: &str) -> Result<u64> {
        self.sessions.delete_of::<Session>(owner, |_| true).await
    }

    /// Deletes all sessions of `owner` but the one with this [`handle`], to log out a user everywhere else. Returns
    /// their number.
    ///
    /// # Errors
    ///
    /// Those of [`delete_by_owner`](Self::delete_by_owner).
    pub async fn delete_others_by_owner(&self, owner: &str, handle: &str) -> Result<u64> {
        self.sessions.delete_of::<Session>(owner, |other| other != handle).await
    }

    /// Deletes the session of `owner` with this [handle](OwnedSession::handle), to log out one device. Returns whether
    /// it existed. A session of another owner is not deleted.
    ///
    /// # Errors
    ///
    /// Those of [`delete_by_owner`](Self::delete_by_owner).
    pub async fn delete_session_of(&self, owner: &str, handle: &str) -> Result<bool> {
        Ok(self.sessions.delete_of::<Session>(owner, |other| other == handle).await? > 0)
    }

    /// Saves a new session under a free key.
    async fn create(&self, session: &Session, expiry: Expiry) -> Result<SessionKey> {
        for _ in 0..DRAWS {
            let key = generate_session_key();
            if self.sessions.insert(key.as_ref(), session, || expiry).await? {
                return Ok(key);
            }
        }
        Err(self.sessions.no_free_id())
    }

    /// Returns the session to store.
    fn session(&self, mut state: State) -> Session {
        if self.sessions.have_owners() {
            state.remove(HANDLE);
        }
        Session(state)
    }
}

/// Returns the handle of the session of a request, as [`OwnedSession::handle`] does: to mark this session in a list, or
/// to spare it in [`delete_others_by_owner`](LarderStore::delete_others_by_owner). `None` if the session is new, or if
/// the store has no [`with_owner`](LarderStore::with_owner).
///
/// actix-session does not tell a request the key of its session. So the store adds the handle to a loaded state, as
/// `larder.handle`, and removes it before the state is stored. After `renew`, it is the handle of the former session
/// until the next request.
#[must_use]
pub fn handle(session: &actix_session::Session) -> Option<String> {
    session.get(HANDLE).ok().flatten()
}

impl SessionStore for LarderStore {
    async fn load(&self, session_key: &SessionKey) -> Result<Option<State>, LoadError> {
        let Some(id) = accepted(session_key) else { return Ok(None) };
        let found: Option<Session> = self.sessions.find(id).await.map_err(not_loaded)?;
        Ok(found.map(|Session(mut state)| {
            if self.sessions.have_owners() {
                // Base64 needs no escape.
                state.insert(HANDLE.to_owned(), format!("\"{}\"", larder_web_sessions::handle(id)));
            }
            state
        }))
    }

    async fn save(&self, state: State, ttl: &time::Duration) -> Result<SessionKey, SaveError> {
        self.create(&self.session(state), expiry(ttl)).await.map_err(not_saved)
    }

    async fn update(
        &self,
        session_key: SessionKey,
        state: State,
        ttl: &time::Duration,
    ) -> Result<SessionKey, UpdateError> {
        let (session, expiry) = (self.session(state), expiry(ttl));
        let replaced = match accepted(&session_key) {
            Some(id) => self.sessions.replace(id, &session, || expiry).await.map_err(not_updated)?,
            None => false,
        };
        if replaced {
            return Ok(session_key);
        }
        if !self.revives {
            return Err(not_updated(self.sessions.gone()));
        }
        self.create(&session, expiry).await.map_err(not_updated)
    }

    async fn update_ttl(&self, session_key: &SessionKey, ttl: &time::Duration) -> anyhow::Result<()> {
        if let Some(id) = accepted(session_key) {
            self.sessions.touch::<Session>(id, expiry(ttl)).await?;
        }
        Ok(())
    }

    /// Called by the middleware at a login (`renew`) and a logout (`purge`), after the request has loaded the
    /// session. Deletes without another check, so it also deletes a value that was written since.
    async fn delete(&self, session_key: &SessionKey) -> anyhow::Result<()> {
        if let Some(id) = accepted(session_key) {
            self.sessions.remove::<Session>(id).await?;
        }
        Ok(())
    }
}

/// Returns the session key, or `None` if actix-session cannot have generated it.
fn accepted(session_key: &SessionKey) -> Option<&str> {
    let text = session_key.as_ref();
    let generated = text.len() == LENGTH && text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    generated.then_some(text)
}

/// A TTL of zero or less means that the session has expired.
fn expiry(ttl: &time::Duration) -> Expiry {
    Expiry::After(Duration::try_from(*ttl).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ttl_is_never_negative() {
        assert!(expiry(&time::Duration::seconds(-1)).is_elapsed());
        assert_eq!(expiry(&time::Duration::microseconds(1_001)).as_millis(), Some(2));
    }
}

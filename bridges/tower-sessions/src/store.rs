//! The session store.

use std::{collections::HashMap, fmt::Display};

use larder_core::{IntoStore, Result, Store};
use larder_web_sessions::{OwnedSession, Sessions};
use serde_json::Value;

use crate::stored::Session;

/// An id of the maximum length: each has this length.
const LONGEST: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// Keeps the sessions of tower-sessions in a Larder storage.
///
/// Clones share the storage. [The crate's page](crate) describes the behaviour and the stored data.
///
/// ```
/// use larder_memory::MemoryStorage;
/// use larder_tower_sessions::LarderStore;
/// use tower_sessions::SessionManagerLayer;
///
/// let store = LarderStore::new(MemoryStorage::new())?.with_prefix("shop:")?;
/// let layer = SessionManagerLayer::new(store);
/// # let _ = layer;
/// # Ok::<(), larder_tower_sessions::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct LarderStore {
    pub(crate) sessions: Sessions<HashMap<String, Value>>,
}

impl LarderStore {
    /// Creates a session store in `storage`, with keys that begin with `session:`. `storage` is a [`Store`],
    /// such as `larder::open` and the adapters return, or a storage that converts to one.
    ///
    /// # Errors
    ///
    /// [`Unsupported`](crate::ErrorKind::Unsupported) if the storage does not support expiry (sessions would never
    /// expire) or compare-and-swap (two sessions could get one id, and deleted sessions could return).
    ///
    /// ```
    /// # use larder_memory::MemoryStorage;
    /// # use larder_tower_sessions::LarderStore;
    /// let store = LarderStore::new(MemoryStorage::new())?;
    /// # Ok::<(), larder_tower_sessions::Error>(())
    /// ```
    pub fn new(storage: impl IntoStore) -> Result<Self> {
        Sessions::new(storage).map(|sessions| Self { sessions })
    }

    /// Sets the prefix of the keys, so that several services can share a storage. Default: `session:`. End it
    /// with a character such as `:` that no id contains. It may be empty.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](crate::ErrorKind::InvalidKey) if the prefix contains control characters or is longer than 468
    /// bytes.
    ///
    /// ```
    /// # use larder_memory::MemoryStorage;
    /// # use larder_tower_sessions::LarderStore;
    /// let store = LarderStore::new(MemoryStorage::new())?.with_prefix("shop:")?;
    /// assert!(store.with_prefix("line\nbreak").is_err());
    /// # Ok::<(), larder_tower_sessions::Error>(())
    /// ```
    pub fn with_prefix(self, prefix: impl AsRef<str>) -> Result<Self> {
        let sessions = self.sessions.with_prefix(prefix.as_ref(), LONGEST)?;
        Ok(Self { sessions })
    }

    /// Sets the maximum size of a stored session, in bytes. Default: 1 MiB. To create or save a larger session fails
    /// with `session_store::Error::Encode`, and nothing is written. A session that is already larger can still be
    /// loaded.
    ///
    /// ```
    /// # use larder_memory::MemoryStorage;
    /// # use larder_tower_sessions::LarderStore;
    /// let store = LarderStore::new(MemoryStorage::new())?.with_max_size(16 * 1024);
    /// # Ok::<(), larder_tower_sessions::Error>(())
    /// ```
    #[must_use]
    pub fn with_max_size(self, bytes: usize) -> Self {
        Self { sessions: self.sessions.with_max_size(bytes) }
    }

    /// Stores sessions under their plain ids, which also are in the values. **Whoever can read the storage or a
    /// backup of it can then take over every session.** Use this only to share sessions with a program that needs
    /// the plain ids.
    ///
    /// ```
    /// # use larder_memory::MemoryStorage;
    /// # use larder_tower_sessions::LarderStore;
    /// let store = LarderStore::new(MemoryStorage::new())?.with_plain_ids();
    /// # Ok::<(), larder_tower_sessions::Error>(())
    /// ```
    #[must_use]
    pub fn with_plain_ids(self) -> Self {
        Self { sessions: self.sessions.with_plain_ids() }
    }

    /// Also finds sessions that were stored under their plain ids, and moves each one to its hashed id when it is
    /// saved. Visitors stay logged in. Remove this setting after the longest lifetime of a session. A session keeps its
    /// id when it moves: an id in a copy of the storage from before the move is accepted until its session ends. To rule
    /// this out, delete all sessions.
    ///
    /// This costs one more round trip to delete a session, one more to load a session that has not moved, two more
    /// to load an id that is unknown and four more to save a session that moves. Other operations cost the same.
    ///
    /// A program [with plain ids](Self::with_plain_ids) does not find a session that has moved.
    ///
    /// ```
    /// # use larder_memory::MemoryStorage;
    /// # use larder_tower_sessions::LarderStore;
    /// let store = LarderStore::new(MemoryStorage::new())?.migrating_plain_ids();
    /// # Ok::<(), larder_tower_sessions::Error>(())
    /// ```
    #[must_use]
    pub fn migrating_plain_ids(self) -> Self {
        Self { sessions: self.sessions.migrating_plain_ids() }
    }

    /// Returns the storage, for example to list sessions or to close it.
    ///
    /// ```
    /// # use larder_memory::MemoryStorage;
    /// # use larder_tower_sessions::LarderStore;
    /// let store = LarderStore::new(MemoryStorage::new())?;
    /// assert_eq!(store.storage().info().name, "memory");
    /// # Ok::<(), larder_tower_sessions::Error>(())
    /// ```
    #[must_use]
    pub const fn storage(&self) -> &Store {
        self.sessions.storage()
    }

    /// Sets a function that returns the owner of a session, and maintains an index of owners: with it,
    /// [`sessions_of`](Self::sessions_of) lists the sessions of a user, and
    /// [`delete_by_owner`](Self::delete_by_owner) logs the user out everywhere. The function gets the data of the
    /// session, and must always return the same owner for the same data. `None`: the session has no owner, because
    /// nobody has signed in, for example.
    ///
    /// [The crate's page](crate#log-out-everywhere) has the costs, and an example for axum-login.
    ///
    /// ```
    /// # use larder_memory::MemoryStorage;
    /// # use larder_tower_sessions::LarderStore;
    /// let store = LarderStore::new(MemoryStorage::new())?
    ///     .with_owner(|data| Some(data.get("user")?.as_str()?.to_owned()))
    ///     .with_device(|data| Some(data.get("device")?.as_str()?.to_owned()))
    ///     .with_max_per_owner(5);
    /// # Ok::<(), larder_tower_sessions::Error>(())
    /// ```
    #[must_use]
    pub fn with_owner(
        self,
        owner: impl Fn(&HashMap<String, Value>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self { sessions: self.sessions.with_owner(owner) }
    }

    /// Sets a function that returns the name of the device of a session, for [`sessions_of`](Self::sessions_of). The
    /// index stores at most 256 characters of it, at the sign-in and whenever it notes the last use. Needs
    /// [`with_owner`](Self::with_owner).
    #[must_use]
    pub fn with_device(
        self,
        device: impl Fn(&HashMap<String, Value>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self { sessions: self.sessions.with_device(device) }
    }

    /// Sets the maximum number of sessions per owner. After a sign-in, the oldest ones are deleted. At least one
    /// stays. Default: no limit. Needs [`with_owner`](Self::with_owner).
    #[must_use]
    pub fn with_max_per_owner(self, most: usize) -> Self {
        Self { sessions: self.sessions.with_max_per_owner(most) }
    }

    /// Returns the handle of the session with this id: `LarderStore::handle(id)` for the id that `Session::id`
    /// returns. It is the same as [`OwnedSession::handle`].
    ///
    /// ```
    /// # use larder_tower_sessions::LarderStore;
    /// use tower_sessions::session::Id;
    ///
    /// assert_eq!(LarderStore::handle(Id(7)), "SxTQl3IniAXTrA4Aug1jh0Mj-6Dp4Hb5UtYRaG0-h2s");
    /// ```
    #[must_use]
    pub fn handle(id: impl Display) -> String {
        larder_web_sessions::handle(&id.to_string())
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
        self.sessions.sessions_of::<Session<'_>>(owner).await
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
        self.sessions.delete_of::<Session<'_>>(owner, |_| true).await
    }

    /// Deletes all sessions of `owner` but the one with this [handle](Self::handle), to log out a user everywhere
    /// else. Returns their number.
    ///
    /// # Errors
    ///
    /// Those of [`delete_by_owner`](Self::delete_by_owner).
    pub async fn delete_others_by_owner(&self, owner: &str, handle: &str) -> Result<u64> {
        self.sessions.delete_of::<Session<'_>>(owner, |other| other != handle).await
    }

    /// Deletes the session of `owner` with this [handle](OwnedSession::handle), to log out one device. Returns whether
    /// it existed. A session of another owner is not deleted.
    ///
    /// # Errors
    ///
    /// Those of [`delete_by_owner`](Self::delete_by_owner).
    pub async fn delete_session_of(&self, owner: &str, handle: &str) -> Result<bool> {
        Ok(self.sessions.delete_of::<Session<'_>>(owner, |other| other == handle).await? > 0)
    }
}

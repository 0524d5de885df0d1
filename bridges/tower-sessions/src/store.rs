//! The session store.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use larder_core::{Error, ErrorKind, IntoStore, Key, Result, Store};
use sha2::{Digest as _, Sha256};

use crate::{operations::Place, seen::Seen};

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
    pub(crate) store: Store,
    prefix: Arc<str>,
    ids: Ids,
    pub(crate) max_size: usize,
    pub(crate) seen: Arc<Seen>,
}

/// The maximum size of a stored session, unless the program sets another: 1 MiB.
const MAX_SIZE: usize = 1 << 20;

/// The keys of sessions. The key of a hashed id begins with `#` after the prefix. A plain id has only letters,
/// digits, `-` and `_`, so any other character is free for other kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    Hashed,
    /// Hashed, and plain for sessions that have not moved yet.
    Migrating,
    Plain,
}

impl LarderStore {
    /// Creates a session store in `storage`, with keys that begin with `session:`. `storage` is a [`Store`],
    /// such as `larder::open` and the adapters return, or a storage that converts to one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unsupported`] if the storage does not support expiry (sessions would never expire) or
    /// compare-and-swap (two sessions could get one id, and deleted sessions could return).
    ///
    /// ```
    /// # use larder_memory::MemoryStorage;
    /// # use larder_tower_sessions::LarderStore;
    /// let store = LarderStore::new(MemoryStorage::new())?;
    /// # Ok::<(), larder_tower_sessions::Error>(())
    /// ```
    pub fn new(storage: impl IntoStore) -> Result<Self> {
        let store = storage.into();
        let info = store.info();
        let lacks = match (info.expiry, info.conditions()) {
            (true, true) => {
                let prefix = Arc::from("session:");
                let seen = Arc::new(Seen::new());
                return Ok(Self { store, prefix, ids: Ids::Hashed, max_size: MAX_SIZE, seen });
            }
            (false, _) => "expiry",
            (true, false) => "compare-and-swap",
        };
        let message = format!("the storage does not support {lacks}, which sessions need: use another");
        Err(Error::new(ErrorKind::Unsupported, message).with_adapter(info.name))
    }

    /// Sets the prefix of the keys, so that several services can share a storage. Default: `session:`. End it
    /// with a character such as `:` that no id contains. It may be empty.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the prefix contains control characters or is longer than 468 bytes.
    ///
    /// ```
    /// # use larder_memory::MemoryStorage;
    /// # use larder_tower_sessions::LarderStore;
    /// let store = LarderStore::new(MemoryStorage::new())?.with_prefix("shop:")?;
    /// assert!(store.with_prefix("line\nbreak").is_err());
    /// # Ok::<(), larder_tower_sessions::Error>(())
    /// ```
    pub fn with_prefix(self, prefix: impl AsRef<str>) -> Result<Self> {
        let prefix = prefix.as_ref();
        // The longest key. Its length does not depend on the id.
        hashed(prefix, "")?;
        Ok(Self { prefix: Arc::from(prefix), ..self })
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
        Self { max_size: bytes, ..self }
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
        Self { ids: Ids::Plain, ..self }
    }

    /// Also finds sessions that were stored under their plain ids, and moves each one to its hashed id when it is
    /// saved. Visitors stay logged in. Remove this setting after the longest lifetime of a session: a plain id of a
    /// stolen backup is accepted until then.
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
        Self { ids: Ids::Migrating, ..self }
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
        &self.store
    }

    /// Returns the place in which the session is written.
    pub(crate) fn place<'a>(&self, id: &'a str) -> Result<Place<'a>> {
        match self.ids {
            Ids::Plain => plain(&self.prefix, id),
            Ids::Hashed | Ids::Migrating => hashed(&self.prefix, id),
        }
    }

    /// Returns the place in which the session may still be.
    pub(crate) fn old_place<'a>(&self, id: &'a str) -> Result<Option<Place<'a>>> {
        match self.ids {
            Ids::Migrating => plain(&self.prefix, id).map(Some),
            Ids::Hashed | Ids::Plain => Ok(None),
        }
    }
}

fn plain<'a>(prefix: &str, id: &'a str) -> Result<Place<'a>> {
    Ok(Place { key: Key::new(format!("{prefix}{id}"))?, id: Some(id) })
}

fn hashed<'a>(prefix: &str, id: &str) -> Result<Place<'a>> {
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(id));
    Ok(Place { key: Key::new(format!("{prefix}#{hash}"))?, id: None })
}

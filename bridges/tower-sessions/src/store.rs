//! The session store.

use std::sync::Arc;

use larder_core::{Error, ErrorKind, IntoStore, Key, Result, Store};

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
            (true, true) => return Ok(Self { store, prefix: Arc::from("session:") }),
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
    /// [`ErrorKind::InvalidKey`] if the prefix contains control characters or is too long for an id to fit.
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
        // An id has 22 characters.
        key(prefix, &"i".repeat(22))?;
        Ok(Self { prefix: Arc::from(prefix), ..self })
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

    pub(crate) fn key(&self, id: &str) -> Result<Key> {
        key(&self.prefix, id)
    }
}

fn key(prefix: &str, id: &str) -> Result<Key> {
    Key::new(format!("{prefix}{id}"))
}

//! The session store.

use std::sync::Arc;

use larder_core::{
    Condition, Error, ErrorKind, IntoStore, Key, Operation, Record as Entry, Result, Store, Version,
    WriteOptions, async_trait,
};
use tower_sessions_core::{
    ExpiredDeletion, SessionStore,
    session::{Id, Record},
    session_store,
};

use crate::{
    error::{not_encoded, store_error},
    stored,
};

/// The maximal number of ids to try for a new session. A random id is free unless an attacker has planted it;
/// a storage where this many are taken is broken.
const DRAWS: usize = 8;

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
    store: Store,
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
        key(prefix, &Id(0))?;
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

    fn key(&self, id: &Id) -> session_store::Result<Key> {
        key(&self.prefix, id).map_err(|error| store_error(&error))
    }

    async fn read(&self, key: &Key) -> session_store::Result<Option<Entry>> {
        self.store.read(key).await.map_err(|error| store_error(&error))
    }

    async fn write(&self, key: &Key, record: &Record, condition: Condition) -> Result<(), Rejected> {
        let value = stored::encode(record).map_err(|error| Rejected::Failed(not_encoded(&error)))?;
        // Computed for each attempt: the session expires at its date, however long the attempts take.
        let options = WriteOptions::new().expiry(stored::expiry(record.expiry_date)).condition(condition);
        match self.store.write_with(key, value, &options).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Conflict => Err(Rejected::Conflict(error)),
            Err(error) => Err(Rejected::Failed(store_error(&error))),
        }
    }

    /// Returns the error for a stored value that is not a session of this store.
    fn not_ours(&self, id: &Id, error: Error) -> session_store::Error {
        let error = error.with_adapter(self.store.info().name).with_operation(Operation::Read);
        match key(&self.prefix, id) {
            Ok(key) => store_error(&error.with_key(&key)),
            Err(_) => store_error(&error),
        }
    }

    /// Returns the version of the stored session.
    fn version(&self, id: &Id, entry: Option<Entry>) -> session_store::Result<Version> {
        let name = self.store.info().name;
        let Some(entry) = entry else {
            let gone = Error::new(
                ErrorKind::Conflict,
                "the session is gone: it was deleted or has expired, and nothing was saved",
            );
            return Err(store_error(&gone.with_adapter(name).with_operation(Operation::Write)));
        };
        stored::check(&entry.value, id).map_err(|error| self.not_ours(id, error))?;
        entry.version.ok_or_else(|| {
            store_error(&Error::unsupported().with_adapter(name).with_operation(Operation::Write))
        })
    }
}

/// Why a record was not written.
enum Rejected {
    /// The condition failed.
    Conflict(Error),
    Failed(session_store::Error),
}

impl From<Rejected> for session_store::Error {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Conflict(error) => store_error(&error),
            Rejected::Failed(error) => error,
        }
    }
}

fn key(prefix: &str, id: &Id) -> Result<Key> {
    Key::new(format!("{prefix}{id}"))
}

#[async_trait]
impl SessionStore for LarderStore {
    async fn create(&self, record: &mut Record) -> session_store::Result<()> {
        let mut drawn = 1;
        loop {
            match self.write(&self.key(&record.id)?, record, Condition::Absent).await {
                Err(Rejected::Conflict(_)) if drawn < DRAWS => {
                    record.id = Id::default();
                    drawn += 1;
                }
                outcome => return outcome.map_err(Into::into),
            }
        }
    }

    async fn save(&self, record: &Record) -> session_store::Result<()> {
        let key = self.key(&record.id)?;
        // If an attempt fails, another save has succeeded, or the session is gone.
        loop {
            let version = self.version(&record.id, self.read(&key).await?)?;
            match self.write(&key, record, Condition::At(version)).await {
                Err(Rejected::Conflict(_)) => {}
                outcome => return outcome.map_err(Into::into),
            }
        }
    }

    async fn load(&self, id: &Id) -> session_store::Result<Option<Record>> {
        match self.read(&self.key(id)?).await? {
            Some(entry) => {
                stored::decode(&entry.value, id).map(Some).map_err(|error| self.not_ours(id, error))
            }
            None => Ok(None),
        }
    }

    async fn delete(&self, id: &Id) -> session_store::Result<()> {
        self.store.delete(&self.key(id)?).await.map(drop).map_err(|error| store_error(&error))
    }
}

#[async_trait]
impl ExpiredDeletion for LarderStore {
    async fn delete_expired(&self) -> session_store::Result<()> {
        self.store.purge_expired().await.map(drop).map_err(|error| store_error(&error))
    }
}

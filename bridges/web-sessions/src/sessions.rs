//! The sessions, and their settings.

use std::{fmt, sync::Arc};

use larder_core::{Bytes, Error, ErrorKind, Expiry, IntoStore, Operation, Result, Store};
use larder_owners::{Deadline, Indexed, Owner, Owners};

use crate::{
    place::{Ids, Keys},
    seen::Seen,
};

/// The maximum size of a stored session, unless the program sets another: 1 MiB.
pub const MAX_SIZE: usize = 1 << 20;

/// The maximum number of ids to try for a new session. A random id is free unless an attacker has planted it; a store
/// where this many are taken is broken.
pub const DRAWS: usize = 8;

/// A session of a framework.
pub trait Session: Sized {
    /// The data that the application stores in a session.
    type Data;

    /// Returns the data.
    fn data(&self) -> &Self::Data;

    /// Encodes the session. `id` is its id if the key of the entry contains it; then the value may too. The value must
    /// not be a JSON array.
    ///
    /// # Errors
    ///
    /// [`Codec`](ErrorKind::Codec) if the session cannot be encoded.
    fn encode(&self, id: Option<&str>) -> Result<Bytes>;

    /// Decodes a session. `id` is that of [`encode`](Self::encode).
    ///
    /// # Errors
    ///
    /// [`Codec`](ErrorKind::Codec) or another kind, if the value is not a session.
    fn decode(value: &[u8], id: Option<&str>) -> Result<Self>;
}

type Name<D> = Arc<dyn Fn(&D) -> Option<String> + Send + Sync>;

/// The sessions of a web framework in a store. `D` is the data of a session. Cloning is cheap.
///
/// See the [crate's documentation](crate).
pub struct Sessions<D> {
    pub(crate) store: Store,
    pub(crate) keys: Keys,
    max_size: usize,
    pub(crate) seen: Arc<Seen>,
    pub(crate) owners: Owners,
    /// Without it, the index is not used.
    pub(crate) owner: Option<Name<D>>,
    device: Option<Name<D>>,
}

/// Checks that a store can hold sessions.
///
/// # Errors
///
/// [`ErrorKind::Unsupported`] if the store does not support expiry (sessions would never expire) or compare-and-swap
/// (two sessions could get one id, and deleted sessions could return).
pub fn check(store: &Store) -> Result<()> {
    let info = store.info();
    let lacks = match (info.expiry, info.conditions()) {
        (true, true) => return Ok(()),
        (false, _) => "expiry",
        (true, false) => "compare-and-swap",
    };
    let message = format!("the storage does not support {lacks}, which sessions need: use another");
    Err(Error::new(ErrorKind::Unsupported, message).with_adapter(info.name))
}

/// Checks the size of a session before it is written to `store`. `option` is the name of the option for the maximum.
///
/// # Errors
///
/// [`ErrorKind::TooLarge`] if the session has more than `max` bytes.
pub fn check_size(store: &Store, value: &[u8], max: usize, option: &str) -> Result<()> {
    let size = value.len();
    if size <= max {
        return Ok(());
    }
    let message = format!(
        "the session has {size} bytes, but the maximum is {max}: store less in it, or set `{option}`"
    );
    Err(Error::new(ErrorKind::TooLarge, message)
        .with_adapter(store.info().name)
        .with_operation(Operation::Write))
}

impl<D> Sessions<D> {
    /// Creates sessions with hashed ids in `storage`, with keys that begin with `session:`.
    ///
    /// # Errors
    ///
    /// Those of [`check`].
    pub fn new(storage: impl IntoStore) -> Result<Self> {
        let store = storage.into();
        check(&store)?;
        let keys = Keys { prefix: Arc::from("session:"), ids: Ids::Hashed };
        let owners = Owners::new(&store, &*keys.prefix)?;
        let seen = Arc::new(Seen::new());
        Ok(Self { store, keys, max_size: MAX_SIZE, seen, owners, owner: None, device: None })
    }

    /// Sets the prefix of the keys. `longest` is an id of the maximum length.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if the prefix contains control characters, or leaves no room for an id.
    pub fn with_prefix(self, prefix: &str, longest: &str) -> Result<Self> {
        let keys = Keys { prefix: Arc::from(prefix), ..self.keys };
        for ids in [Ids::Hashed, Ids::Plain] {
            Keys { ids, ..keys.clone() }.place(longest)?;
        }
        Ok(Self { keys, owners: self.owners.with_namespace(prefix), ..self })
    }

    /// Sets the maximum size of a stored session, in bytes. Default: 1 MiB.
    #[must_use]
    pub fn with_max_size(self, bytes: usize) -> Self {
        Self { max_size: bytes, ..self }
    }

    /// Stores sessions under their plain ids.
    #[must_use]
    pub fn with_plain_ids(mut self) -> Self {
        self.keys.ids = Ids::Plain;
        self
    }

    /// Also finds sessions that were stored under their plain ids, and moves each one to its hashed id when it is
    /// saved.
    #[must_use]
    pub fn migrating_plain_ids(mut self) -> Self {
        self.keys.ids = Ids::Migrating;
        self
    }

    /// Sets a function that returns the owner of a session, and maintains an index of owners.
    #[must_use]
    pub fn with_owner(self, owner: impl Fn(&D) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { owner: Some(Arc::new(owner)), ..self }
    }

    /// Sets a function that returns the name of the device of a session.
    #[must_use]
    pub fn with_device(self, device: impl Fn(&D) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { device: Some(Arc::new(device)), ..self }
    }

    /// Sets the maximum number of sessions per owner. After a sign-in, the oldest ones are deleted. At least one
    /// stays.
    #[must_use]
    pub fn with_max_per_owner(self, most: usize) -> Self {
        Self { owners: self.owners.with_max_per_owner(most), ..self }
    }

    /// Returns the store.
    #[must_use]
    pub const fn storage(&self) -> &Store {
        &self.store
    }

    /// Returns whether the sessions have owners.
    #[must_use]
    pub const fn have_owners(&self) -> bool {
        self.owner.is_some()
    }

    /// Returns the error for a session that no longer exists.
    #[must_use]
    pub fn gone(&self) -> Error {
        let message = "the session is gone: it was deleted or has expired, and nothing was saved";
        self.name(Error::new(ErrorKind::Conflict, message), Operation::Write)
    }

    /// Returns the error for a new session of which every tried id was taken.
    #[must_use]
    pub fn no_free_id(&self) -> Error {
        let message = "every id that was tried for the new session is taken";
        self.name(Error::new(ErrorKind::Conflict, message), Operation::Write)
    }

    pub(crate) fn name(&self, error: Error, operation: Operation) -> Error {
        error.with_adapter(self.store.info().name).with_operation(operation)
    }

    /// Encodes a session that is not too large.
    pub(crate) fn encode<S: Session<Data = D>>(&self, session: &S, id: Option<&str>) -> Result<Bytes> {
        let value = session.encode(id).map_err(|error| self.name(error, Operation::Write))?;
        check_size(&self.store, &value, self.max_size, "with_max_size")?;
        Ok(value)
    }

    /// Returns the session as the index contains it, if it expires after `expiry` from now.
    pub(crate) fn indexed(&self, data: &D, expiry: Expiry) -> Indexed {
        let Some(id) = self.owner.as_ref().and_then(|owner| owner(data)) else { return Indexed::NONE };
        let device = self.device.as_ref().and_then(|device| device(data));
        Indexed { owner: Some(Owner { id, device }), deadline: Deadline::after(expiry) }
    }
}

/// Without `D: Clone`.
impl<D> Clone for Sessions<D> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            keys: self.keys.clone(),
            max_size: self.max_size,
            seen: Arc::clone(&self.seen),
            owners: self.owners.clone(),
            owner: self.owner.clone(),
            device: self.device.clone(),
        }
    }
}

impl<D> fmt::Debug for Sessions<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions")
            .field("store", &self.store)
            .field("keys", &self.keys)
            .field("max_size", &self.max_size)
            .finish_non_exhaustive()
    }
}

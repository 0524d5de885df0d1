//! The builder of sessions.

use std::{fmt, future::ready, marker::PhantomData, sync::Arc, time::Duration};

use larder_core::{Codec, Error, ErrorKind, Expiry, IntoStore, Json, Key, Result, Store, Versions};
use larder_owners::{Deadline, Owners};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    conflicts::ConflictPolicy,
    content::{Content, Marks},
    format::Format,
    index::{Index, TextOf},
    lifetime::{Lifetime, Touches},
    migrations::Migrations,
    moves::{Merge, Resolver},
    queue::Queue,
    sessions::Sessions,
    shared::{Initial, Shared},
};

/// The default queue timeout.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(300);

type MergeValues<T> = Arc<dyn Fn(T, T) -> T + Send + Sync>;

impl<T> Sessions<T> {
    /// Returns a builder. The value of a new session is `T::default()`, unless
    /// [`initial`](SessionsBuilder::initial) changes that.
    pub fn builder() -> SessionsBuilder<T>
    where
        T: Default + 'static,
    {
        SessionsBuilder::new(Arc::new(T::default))
    }

    /// Returns a builder for a type without a default: `initial` returns the value of a new session.
    pub fn builder_with(initial: impl Fn() -> T + Send + Sync + 'static) -> SessionsBuilder<T> {
        SessionsBuilder::new(Arc::new(initial))
    }
}

impl<T: Default + Serialize + DeserializeOwned + Send + Sync + 'static> Sessions<T> {
    /// Returns sessions in `storage`, with default options.
    ///
    /// # Errors
    ///
    /// Those of [`SessionsBuilder::build`].
    pub fn new(storage: impl IntoStore) -> Result<Self, Error> {
        Self::builder().storage(storage).build()
    }
}

/// The builder of [`Sessions`]. Every option has a default.
#[must_use = "a builder does nothing before `build`"]
pub struct SessionsBuilder<T, C = Json> {
    store: Option<Store>,
    prefix: String,
    initial: Initial<T>,
    initial_counts: bool,
    codec: C,
    lifetime: Lifetime,
    envelope: bool,
    migrations: Option<Migrations>,
    persist_migrated: bool,
    conflicts: ConflictPolicy,
    max_queued: usize,
    queue_timeout: Option<Duration>,
    redirect_expiry: Expiry,
    merge: Option<MergeValues<T>>,
    owner: Option<TextOf<T>>,
    device: Option<TextOf<T>>,
    max_per_owner: Option<usize>,
    value: PhantomData<fn() -> T>,
}

impl<T> SessionsBuilder<T> {
    pub(crate) fn new(initial: Initial<T>) -> Self {
        Self {
            store: None,
            prefix: String::new(),
            initial,
            initial_counts: true,
            codec: Json,
            lifetime: Lifetime::forever(),
            envelope: false,
            migrations: None,
            persist_migrated: false,
            conflicts: ConflictPolicy::default(),
            max_queued: 65_536,
            queue_timeout: Some(QUEUE_TIMEOUT),
            redirect_expiry: Expiry::Never,
            merge: None,
            owner: None,
            device: None,
            max_per_owner: None,
            value: PhantomData,
        }
    }
}

impl<T, C> SessionsBuilder<T, C>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    C: Codec,
{
    /// Sets the storage: a [`Store`], from `larder::open` or an adapter, or any storage that converts into
    /// one.
    ///
    /// Default: the memory of this process, with a warning. This needs the crate's feature `memory`.
    pub fn storage(mut self, storage: impl IntoStore) -> Self {
        self.store = Some(storage.into());
        self
    }

    /// Sets the prefix of all keys, so that several kinds of session can share a storage: `chat:`, for
    /// example. End it with a character that no key starts with. Default: no prefix, as in grammY.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Sets the value of a new session. Default: `T::default`. For a type without a default, use
    /// [`Sessions::builder_with`].
    pub fn initial(mut self, initial: impl Fn() -> T + Send + Sync + 'static) -> Self {
        self.initial = Arc::new(initial);
        self
    }

    /// Does not store a session that equals its initial value.
    pub(crate) const fn initial_does_not_count(mut self) -> Self {
        self.initial_counts = false;
        self
    }

    /// Sets the codec of the values. Default: JSON.
    pub fn codec<D: Codec>(self, codec: D) -> SessionsBuilder<T, D> {
        SessionsBuilder {
            store: self.store,
            prefix: self.prefix,
            initial: self.initial,
            initial_counts: self.initial_counts,
            codec,
            lifetime: self.lifetime,
            envelope: self.envelope,
            migrations: self.migrations,
            persist_migrated: self.persist_migrated,
            conflicts: self.conflicts,
            max_queued: self.max_queued,
            queue_timeout: self.queue_timeout,
            redirect_expiry: self.redirect_expiry,
            merge: self.merge,
            owner: self.owner,
            device: self.device,
            max_per_owner: self.max_per_owner,
            value: PhantomData,
        }
    }

    /// Sets the lifetime of sessions. Default: [`Lifetime::forever`].
    pub const fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Stores sessions in the envelope of grammY's `enhanceStorage` (`{"v", "__d", "e"}`), so that grammY can
    /// read them with their timeouts. Migrations and absolute lifetimes turn it on. Both forms can always be
    /// read. It needs a codec with self-describing data: JSON, MessagePack or CBOR.
    pub const fn envelope(mut self) -> Self {
        self.envelope = true;
        self
    }

    /// Sets the steps that migrate sessions from older programs.
    pub fn migrations(mut self, migrations: Migrations) -> Self {
        self.migrations = Some(migrations);
        self
    }

    /// Sets whether an update saves a migrated session that it does not change. Default: `false`; the session
    /// is saved when it next changes.
    pub const fn persist_migrated(mut self, persist: bool) -> Self {
        self.persist_migrated = persist;
        self
    }

    /// Sets how to resolve a conflict with another process. Default: the handler runs again.
    pub const fn conflicts(mut self, conflicts: ConflictPolicy) -> Self {
        self.conflicts = conflicts;
        self
    }

    /// Sets the maximum number of waiting updates, over all keys. A further update fails with
    /// [`Unavailable`](ErrorKind::Unavailable). Default: 65,536.
    pub const fn max_queued(mut self, updates: usize) -> Self {
        self.max_queued = updates;
        self
    }

    /// Sets how long an update waits for earlier updates of its session before it fails with
    /// [`Timeout`](ErrorKind::Timeout). Default: five minutes.
    ///
    /// The timeout ends deadlocks: two handlers that each update the other's session, or a handler that
    /// awaits a spawned task that updates the same session. A shorter timeout reveals such mistakes earlier.
    pub const fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.queue_timeout = Some(timeout);
        self
    }

    /// Sets the expiry of the redirects that [`Sessions::move_key`] leaves behind. Default: never. After a
    /// redirect has expired, an update under the old key finds a new session.
    pub const fn redirect_expiry(mut self, expiry: Expiry) -> Self {
        self.redirect_expiry = expiry;
        self
    }

    /// Sets how to merge two sessions, if both keys of a [`Sessions::move_key`] have one. The first argument
    /// is the session that moves, the second the one at the new key. Without `merge`, such a move fails with
    /// [`Conflict`](ErrorKind::Conflict). It can run more than once for one move, and must return the same
    /// result.
    pub fn merge(mut self, merge: impl Fn(T, T) -> T + Send + Sync + 'static) -> Self {
        self.merge = Some(Arc::new(merge));
        self
    }

    /// Sets a function that returns the owner of a session, and maintains an index of owners. With it,
    /// [`sessions_of`](Sessions::sessions_of) finds all sessions of a user, and
    /// [`delete_by_owner`](Sessions::delete_by_owner) logs a user out everywhere, without a scan of the store.
    ///
    /// A save writes the index too if the session is new or changes its owner, and otherwise 8 to 16 times per
    /// lifetime. Sessions from before this option was on are in the index after their next such save. One that
    /// does not end by itself has none: replace it once with [`set`](Sessions::set).
    ///
    /// It needs a storage with compare-and-swap. If sessions [move](Sessions::move_key), their redirects must not
    /// expire before them.
    pub fn owner(mut self, owner: impl Fn(&T) -> Option<String> + Send + Sync + 'static) -> Self {
        self.owner = Some(Arc::new(owner));
        self
    }

    /// Sets a function that returns the name of the device of a session, for
    /// [`sessions_of`](Sessions::sessions_of): from its browser, for example. At most 256 characters are stored.
    /// Needs [`owner`](Self::owner).
    pub fn device(mut self, device: impl Fn(&T) -> Option<String> + Send + Sync + 'static) -> Self {
        self.device = Some(Arc::new(device));
        self
    }

    /// Sets the maximum number of sessions per owner. A further session deletes the oldest one, after it was
    /// saved. If that fails, a warning is logged, and the next new session of the owner deletes both. Needs
    /// [`owner`](Self::owner). Default: no limit.
    pub const fn max_per_owner(mut self, sessions: usize) -> Self {
        self.max_per_owner = Some(sessions);
        self
    }

    /// Checks the options. Nothing is read or written.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] for invalid options: migrations without a step, a prefix that is not
    /// valid in a key, a codec that cannot encode a required envelope, no storage with the feature `memory`
    /// off, a limit or a device without an owner, a limit of zero. [`ErrorKind::Unsupported`] for a lifetime in a
    /// storage without expiry, and for a storage without compare-and-swap unless the policy is
    /// [`ConflictPolicy::LastWriteWins`] and there is no owner.
    pub fn build(self) -> Result<Sessions<T>> {
        let migrations = self.migrations.map(Migrations::checked).transpose()?;
        let store = self.store.map_or_else(default_store, Ok)?;
        check(&store, &self.prefix, &self.lifetime, self.conflicts)?;

        let current = migrations.as_ref().and_then(Migrations::version);
        let envelope = self.envelope || current.is_some() || self.lifetime.is_absolute();
        let format = Format::new(self.codec, current, envelope)?;
        let content = Arc::new(Content { format, migrations, lifetime: self.lifetime });
        if self.max_per_owner == Some(0) {
            return Err(invalid("`max_per_owner` must be greater than zero"));
        }
        let index = match self.owner {
            Some(owner) => {
                let owners = Owners::new(&store, &self.prefix)?;
                let owners = match self.max_per_owner {
                    Some(most) => owners.with_max_per_owner(most),
                    None => owners,
                };
                Some(Arc::new(Index { owners, owner, device: self.device }))
            }
            None if self.device.is_some() || self.max_per_owner.is_some() => {
                return Err(invalid("`device` and `max_per_owner` need `owner`"));
            }
            None => None,
        };
        let merge = self.merge.map(|merge| merge_stored(Arc::clone(&content), merge, index.clone()));
        Ok(Sessions::from_shared(Shared {
            prefix: self.prefix,
            initial: self.initial,
            initial_counts: self.initial_counts,
            content,
            persist_migrated: self.persist_migrated,
            conflicts: self.conflicts,
            queue: Queue::new(store.clone(), self.max_queued, self.queue_timeout),
            touches: Touches::new(),
            index,
            resolver: Resolver { store, redirects: self.redirect_expiry, merge },
        }))
    }
}

fn invalid(message: &str) -> Error {
    Error::new(ErrorKind::InvalidConfig, message.to_owned())
}

fn check(store: &Store, prefix: &str, lifetime: &Lifetime, conflicts: ConflictPolicy) -> Result<()> {
    if !prefix.is_empty() {
        Key::new(prefix).map_err(|error| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("the prefix is not valid in a key: {}", error.message()),
            )
        })?;
    }
    let info = store.info();
    if *lifetime != Lifetime::forever() && !info.expiry {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("the storage `{}` has no expiry: remove the lifetime, or use another storage", info.name),
        ));
    }
    if info.versions == Versions::None && conflicts != ConflictPolicy::LastWriteWins {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the storage `{}` has no compare-and-swap, so updates of other processes can be lost: use another \
                 storage, or accept that with `ConflictPolicy::LastWriteWins`",
                info.name
            ),
        ));
    }
    Ok(())
}

/// Returns the merge function for stored sessions.
fn merge_stored<T: Send + Sync + 'static>(
    content: Arc<Content<T>>,
    merge: MergeValues<T>,
    index: Option<Arc<Index<T>>>,
) -> Merge {
    Arc::new(move |key, (moving, moving_left), (own, own_left)| {
        let (content, merge, index) = (Arc::clone(&content), Arc::clone(&merge), index.clone());
        Box::pin(async move {
            let moving = content.decode(&moving, ready(Ok(Some(moving_left)))).await?;
            let own = content.decode(&own, ready(Ok(Some(own_left)))).await?;
            let (value, marks) = match (moving, own) {
                (Some(moving), Some(own)) => {
                    let marks = Marks {
                        // Neither end may be extended.
                        end: moving.marks.end.into_iter().chain(own.marks.end).min_by_key(|end| end.here),
                        surrogates: moving.marks.surrogates || own.marks.surrogates,
                    };
                    (merge(moving.value, own.value), marks)
                }
                (Some(one), None) | (None, Some(one)) => (one.value, one.marks),
                (None, None) => return Ok(None),
            };
            let bare = content.format.encode_bare(&value)?;
            let encoded = content.encode(&value, bare, marks)?;
            if let (Some(index), Some((_, expiry))) = (&index, &encoded)
                && let Some(owner) = index.owner_of(&value)
            {
                index.owners.add(&owner, &key, Deadline::after(*expiry)).await?;
            }
            Ok(encoded)
        })
    })
}

#[cfg(feature = "memory")]
fn default_store() -> Result<Store> {
    tracing::warn!(
        "sessions are stored in this process's memory and end with it; give the builder a storage to persist them"
    );
    Ok(Store::new(larder_memory::MemoryStorage::new()))
}

#[cfg(not(feature = "memory"))]
fn default_store() -> Result<Store> {
    Err(Error::new(
        ErrorKind::InvalidConfig,
        "the storage is missing: call `storage` on the builder, or enable the feature `memory`",
    ))
}

impl<T, C: fmt::Debug> fmt::Debug for SessionsBuilder<T, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionsBuilder")
            .field("store", &self.store)
            .field("prefix", &self.prefix)
            .field("codec", &self.codec)
            .field("lifetime", &self.lifetime)
            .field("migrations", &self.migrations)
            .field("conflicts", &self.conflicts)
            .finish_non_exhaustive()
    }
}

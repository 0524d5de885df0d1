//! How sessions are set up.

use std::{fmt, future::ready, marker::PhantomData, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use larder_core::{Codec, Error, ErrorKind, Expiry, Json, Key, Result, Store, Versions};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    conflicts::Conflicts,
    content::{Content, Marks},
    format::Format,
    index,
    lifetime::{Lifetime, Touches},
    migrations::Migrations,
    moves::{Merge, Resolver},
    queue::Queue,
    sessions::Sessions,
    shared::{Initial, OwnerOf, Shared},
};

/// How long an update waits for its turn by default.
const PATIENCE: Duration = Duration::from_secs(300);

type MergeValues<T> = Arc<dyn Fn(T, T) -> T + Send + Sync>;
/// Notes in the index of owners whose session it is, by its value.
type NoteOwner<T> = Arc<dyn Fn(Key, &T, Expiry) -> BoxFuture<'static, Result<()>> + Send + Sync>;

impl<T> Sessions<T> {
    /// Sets up sessions. One that does not exist yet has the value `T::default()`, unless
    /// [`initial`](SessionsBuilder::initial) says otherwise.
    pub fn builder() -> SessionsBuilder<T>
    where
        T: Default + 'static,
    {
        SessionsBuilder::new(Arc::new(T::default))
    }

    /// Sets up sessions of a type that has no default: `initial` makes the value of a session that
    /// does not exist yet.
    pub fn builder_with(initial: impl Fn() -> T + Send + Sync + 'static) -> SessionsBuilder<T> {
        SessionsBuilder::new(Arc::new(initial))
    }
}

impl<T: Default + Serialize + DeserializeOwned + Send + Sync + 'static> Sessions<T> {
    /// Sessions in `storage`, and the default for everything else.
    ///
    /// # Errors
    ///
    /// As [`SessionsBuilder::build`].
    pub fn new(storage: impl Into<Store>) -> Result<Self, Error> {
        Self::builder().storage(storage).build()
    }
}

/// Sets up [`Sessions`]. Everything has a default.
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
    write_back: bool,
    conflicts: Conflicts,
    most_waiting: usize,
    patience: Option<Duration>,
    redirect_expiry: Expiry,
    merge: Option<MergeValues<T>>,
    owner: Option<OwnerOf<T>>,
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
            write_back: false,
            conflicts: Conflicts::default(),
            most_waiting: 65_536,
            patience: Some(PATIENCE),
            redirect_expiry: Expiry::Never,
            merge: None,
            owner: None,
            value: PhantomData,
        }
    }
}

impl<T, C> SessionsBuilder<T, C>
where
    T: Serialize + DeserializeOwned + Send + Sync + 'static,
    C: Codec,
{
    /// Where the sessions are kept: a [`Store`], such as `larder::open` and the adapters return, or a
    /// storage that makes one. Without it they are in this process's memory (with the crate's feature
    /// `memory`) and end with it, and a warning says so.
    pub fn storage(mut self, storage: impl Into<Store>) -> Self {
        self.store = Some(storage.into());
        self
    }

    /// What every key begins with, so that several kinds of session can share a storage: `chat:`,
    /// say. End it with a character that no key begins with. None by default, as with grammY.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Makes the value of a session that does not exist yet. `T::default` by default; where there is
    /// none, begin with [`Sessions::builder_with`].
    pub fn initial(mut self, initial: impl Fn() -> T + Send + Sync + 'static) -> Self {
        self.initial = Arc::new(initial);
        self
    }

    /// A session that is as it would be if it were not stored is not stored.
    pub(crate) const fn initial_does_not_count(mut self) -> Self {
        self.initial_counts = false;
        self
    }

    /// How values become bytes: JSON by default.
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
            write_back: self.write_back,
            conflicts: self.conflicts,
            most_waiting: self.most_waiting,
            patience: self.patience,
            redirect_expiry: self.redirect_expiry,
            merge: self.merge,
            owner: self.owner,
            value: PhantomData,
        }
    }

    /// How long sessions live: for ever by default.
    pub const fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Stores sessions in the envelope of grammY's `enhanceStorage` (`{"v", "__d", "e"}`), so that
    /// grammY can read them back with its time-outs. Migrations and absolute lifetimes need it and
    /// turn it on by themselves. Reading understands both forms in any case. It takes a codec whose data
    /// describes itself: JSON, MessagePack and CBOR do.
    pub const fn envelope(mut self) -> Self {
        self.envelope = true;
        self
    }

    /// The steps that bring what older programs stored up to date.
    pub fn migrations(mut self, migrations: Migrations) -> Self {
        self.migrations = Some(migrations);
        self
    }

    /// Saves a migrated session also if the update changes nothing else. By default it is written when
    /// it next changes.
    pub const fn write_back(mut self, write_back: bool) -> Self {
        self.write_back = write_back;
        self
    }

    /// What becomes of an update that another process has overtaken. The handler is run again by
    /// default.
    pub const fn conflicts(mut self, conflicts: Conflicts) -> Self {
        self.conflicts = conflicts;
        self
    }

    /// How many updates may wait for their turn, over all keys; one more is
    /// [`Unavailable`](ErrorKind::Unavailable). 65,536 by default.
    pub const fn max_waiting(mut self, updates: usize) -> Self {
        self.most_waiting = updates;
        self
    }

    /// How long an update waits for earlier ones of its session before it is a
    /// [`Timeout`](ErrorKind::Timeout): five minutes by default. It ends what would otherwise be a
    /// deadlock: two handlers that each begin an update of the other's session, say, or a handler that
    /// awaits a task which it has spawned and which updates the same session. A shorter patience makes
    /// such mistakes show earlier.
    pub const fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// How long the redirects live that [`Sessions::move_key`] leaves behind. For ever by default: an
    /// update that arrives under the old key after that finds a new session.
    pub const fn redirect_expiry(mut self, expiry: Expiry) -> Self {
        self.redirect_expiry = expiry;
        self
    }

    /// Makes one session of two, where there is one at both keys of a [`Sessions::move_key`]: the
    /// first is the one that moves, the second the one that it meets. Without it such a move is a
    /// [`Conflict`](ErrorKind::Conflict). It may run more than once for one move, and should come to
    /// the same each time.
    pub fn merge(mut self, merge: impl Fn(T, T) -> T + Send + Sync + 'static) -> Self {
        self.merge = Some(Arc::new(merge));
        self
    }

    /// Whose session it is, by its value: keeps an index, by which
    /// [`keys_of`](Sessions::keys_of) and [`delete_of`](Sessions::delete_of) find all sessions of a
    /// user. Where sessions [move](Sessions::move_key), the redirects have to outlive them. Costs a further
    /// write per write of a session. Prefix, owner and key together must fit into
    /// one key of 512 bytes; where they do not, saving is an
    /// [`InvalidKey`](ErrorKind::InvalidKey) error.
    pub fn owner(mut self, owner: impl Fn(&T) -> Option<String> + Send + Sync + 'static) -> Self {
        self.owner = Some(Arc::new(owner));
        self
    }

    /// Checks it all. Nothing is read or written.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if something does not fit: migrations without a step, a prefix
    /// that no key can begin with, a codec that cannot hold the envelope where one is needed, no storage
    /// where the feature `memory` is off;
    /// [`ErrorKind::Unsupported`] for a lifetime in a storage with no expiry, and for a storage with
    /// no compare-and-swap unless [`Conflicts::LastWriteWins`] accepts that.
    pub fn build(self) -> Result<Sessions<T>> {
        let migrations = self.migrations.map(Migrations::checked).transpose()?;
        let store = self.store.map_or_else(default_store, Ok)?;
        check(&store, &self.prefix, &self.lifetime, self.conflicts)?;

        let current = migrations.as_ref().and_then(Migrations::version);
        let envelope = self.envelope || current.is_some() || self.lifetime.is_absolute();
        let format = Format::new(self.codec, current, envelope)?;
        let content = Arc::new(Content { format, migrations, lifetime: self.lifetime });
        let (prefix, owner) = (self.prefix.clone(), self.owner.clone());
        let note_owner: NoteOwner<T> = {
            let store = store.clone();
            Arc::new(move |key, value, expiry| {
                let (store, prefix) = (store.clone(), prefix.clone());
                let owner = owner.as_ref().and_then(|owner| owner(value));
                Box::pin(async move { index::note(&store, &prefix, owner.as_deref(), &key, expiry).await })
            })
        };
        let merge = self.merge.map(|merge| merge_stored(Arc::clone(&content), merge, note_owner));
        Ok(Sessions::from_shared(Shared {
            prefix: self.prefix,
            initial: self.initial,
            initial_counts: self.initial_counts,
            content,
            write_back: self.write_back,
            conflicts: self.conflicts,
            queue: Queue::new(store.clone(), self.most_waiting, self.patience),
            touches: Touches::new(),
            owner: self.owner,
            resolver: Resolver { store, redirects: self.redirect_expiry, merge },
        }))
    }
}

fn check(store: &Store, prefix: &str, lifetime: &Lifetime, conflicts: Conflicts) -> Result<()> {
    if !prefix.is_empty() {
        Key::new(prefix).map_err(|error| {
            Error::new(
                ErrorKind::InvalidConfig,
                format!("the prefix cannot begin a key: {}", error.message()),
            )
        })?;
    }
    let info = store.info();
    if *lifetime != Lifetime::forever() && !info.expiry {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("the storage `{}` has no expiry: leave the lifetime out, or take another", info.name),
        ));
    }
    if info.versions == Versions::None && conflicts != Conflicts::LastWriteWins {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "the storage `{}` has no compare-and-swap, so that updates of other processes may be lost: take \
                 another, or accept that with `Conflicts::LastWriteWins`",
                info.name
            ),
        ));
    }
    Ok(())
}

/// The merge of two sessions as they are stored.
fn merge_stored<T: Send + Sync + 'static>(
    content: Arc<Content<T>>,
    merge: MergeValues<T>,
    note_owner: NoteOwner<T>,
) -> Merge {
    Arc::new(move |key, (moving, moving_left), (own, own_left)| {
        let (content, merge, note_owner) =
            (Arc::clone(&content), Arc::clone(&merge), Arc::clone(&note_owner));
        Box::pin(async move {
            let moving = content.decode(&moving, ready(Ok(Some(moving_left)))).await?;
            let own = content.decode(&own, ready(Ok(Some(own_left)))).await?;
            let (value, marks) = match (moving, own) {
                (Some(moving), Some(own)) => {
                    let marks = Marks {
                        // Neither may outlive its own.
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
            if let Some((_, expiry)) = &encoded {
                note_owner(key, &value, *expiry).await?;
            }
            Ok(encoded)
        })
    })
}

#[cfg(feature = "memory")]
fn default_store() -> Result<Store> {
    tracing::warn!(
        "sessions are kept in this process's memory and end with it; give the builder a storage to keep them"
    );
    Ok(Store::new(larder_memory::MemoryStorage::new()))
}

#[cfg(not(feature = "memory"))]
fn default_store() -> Result<Store> {
    Err(Error::new(
        ErrorKind::InvalidConfig,
        "there is no storage: give the builder one, or turn on the feature `memory` of larder-session",
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

//! A session that is read only if somebody wants it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::BoxFuture;
use larder_core::{Error, ErrorKind, Key, Result};
use parking_lot::Mutex;

use crate::{
    content::Marks,
    queue::{Nesting, Turn},
    shared::Shared,
    state::{Place, State},
};

/// A session that costs nothing unless it is touched.
///
/// The first access reads it, and all accesses share that one read, also those at the same time.
/// Setting it first skips the read; a read that ends after that is discarded. Clones are handles on
/// the same session. Nothing is saved without [`save`](Self::save), which
/// [`update_lazy`](crate::Sessions::update_lazy) does when its handler is done.
///
/// Where there is no key, every touch is an [`InvalidKey`](larder_core::ErrorKind::InvalidKey) error
/// that says why, and saving does nothing.
///
/// From the first read to the save, or until the last handle is dropped, other updates of the session
/// wait. A handle that outlives its [`update_lazy`](crate::Sessions::update_lazy) (in a task that the
/// handler has started, say) keeps nobody waiting: touching it is an error.
pub struct LazySession<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    shared: Arc<Shared<T>>,
    key: Result<Key>,
    nesting: Nesting,
    /// Its update is over: what is still done to the session would not be saved.
    ended: AtomicBool,
    /// Its turn, where it was taken before the session was touched.
    turn: Mutex<Option<Turn>>,
    /// What somebody has assigned and nobody has looked at yet: an assignment never waits.
    assigned: Mutex<Option<Assigned<T>>>,
    /// Locked while the session is read, awaited or saved.
    known: tokio::sync::Mutex<Known<T>>,
}

tokio::task_local! {
    /// The sessions whose promises this code is: they wait for it, so it cannot wait for them.
    static AWAITED: Vec<usize>;
}

type Promise<T> = BoxFuture<'static, Result<T>>;

enum Assigned<T> {
    Value(T),
    Promise(Promise<T>),
    Cleared,
}

/// What the session is, as far as anybody has asked.
enum Known<T> {
    Untouched,
    Read(State<T>),
    /// Set or cleared without a read.
    Blind {
        value: T,
        cleared: bool,
    },
    /// Promised, and being awaited. Kept here, so that a caller who gives up the wait loses nothing.
    Promised(Promise<T>, Option<State<T>>),
    /// The promise has failed.
    Failed(Error),
}

impl<T> Clone for LazySession<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T: Send + Sync + 'static> LazySession<T> {
    pub(crate) fn new(
        shared: Arc<Shared<T>>,
        key: Result<Key>,
        nesting: Nesting,
        turn: Option<Turn>,
    ) -> Self {
        let inner = Inner {
            shared,
            key,
            nesting,
            ended: AtomicBool::new(false),
            turn: Mutex::new(turn),
            assigned: Mutex::new(None),
            known: tokio::sync::Mutex::new(Known::Untouched),
        };
        Self { inner: Arc::new(inner) }
    }

    fn key(&self) -> Result<&Key> {
        self.inner.key.as_ref().map_err(Error::clone)
    }

    /// A copy of the value; the initial one if there is no session yet.
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::open`](crate::Sessions::open).
    pub async fn get(&self) -> Result<T>
    where
        T: Clone,
    {
        self.with(T::clone).await
    }

    /// Reads it now, unless it has been touched already. That alone makes no session where there is none:
    /// it is saved if it has changed.
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::open`](crate::Sessions::open).
    pub async fn load(&self) -> Result<()> {
        let mut known = self.inner.lock().await?;
        if let Access::Read(state) = self.inner.read(self.key()?, &mut known).await? {
            state.only_if_changed();
        }
        Ok(())
    }

    /// What `look` sees in the value.
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::open`](crate::Sessions::open).
    pub async fn with<R>(&self, look: impl FnOnce(&T) -> R) -> Result<R> {
        let mut known = self.inner.lock().await?;
        match self.inner.read(self.key()?, &mut known).await? {
            Access::Read(state) => Ok(look(state.value())),
            Access::Blind { value, .. } => Ok(look(value)),
        }
    }

    /// Changes the value; what `change` returns comes back.
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::open`](crate::Sessions::open).
    pub async fn modify<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        let mut known = self.inner.lock().await?;
        match self.inner.read(self.key()?, &mut known).await? {
            Access::Read(state) => Ok(change(state.value_mut())),
            Access::Blind { value, cleared } => {
                *cleared = false;
                Ok(change(value))
            }
        }
    }

    /// Replaces the value. Reads nothing and waits for nothing. A session that is set before it was read
    /// is a new one, and so is the end of an absolute lifetime.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](larder_core::ErrorKind::InvalidKey) if there is no key.
    pub fn set(&self, value: T) -> Result<()> {
        self.assign(Assigned::Value(value))
    }

    /// Replaces the value by what `promise` comes to, which must not depend on this session: touching it
    /// there is an [`Unsupported`](ErrorKind::Unsupported) error. It is awaited when somebody wants the value, and
    /// at the latest when the session is saved. Should it fail, so does that, and nothing is saved.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](larder_core::ErrorKind::InvalidKey) if there is no key.
    pub fn set_later(&self, promise: impl Future<Output = Result<T>> + Send + 'static) -> Result<()> {
        self.assign(Assigned::Promise(Box::pin(promise)))
    }

    /// Deletes the session when it is saved. Until then the value is the initial one; if that is
    /// changed, it is a new session.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](larder_core::ErrorKind::InvalidKey) if there is no key.
    pub fn clear(&self) -> Result<()> {
        self.assign(Assigned::Cleared)
    }

    /// The update is over: gives up its turn, whoever still has a handle.
    pub(crate) fn end(&self) {
        self.inner.ended.store(true, Ordering::SeqCst);
        // Where it is locked, whoever has locked it finds out when that is done.
        if let Ok(mut known) = self.inner.known.try_lock() {
            *known = Known::Untouched;
        }
        self.inner.turn.lock().take();
    }

    fn assign(&self, assigned: Assigned<T>) -> Result<()> {
        self.key()?;
        self.inner.check_not_ended()?;
        *self.inner.assigned.lock() = Some(assigned);
        Ok(())
    }

    /// Whether it has been read, set or cleared.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.inner.assigned.lock().is_some()
            // Where it is locked, somebody is touching it.
            || !self.inner.known.try_lock().is_ok_and(|known| matches!(*known, Known::Untouched))
    }

    /// Saves what has changed. Untouched, it does nothing. Waits for reads that are under way.
    ///
    /// # Errors
    ///
    /// Those of [`OpenSession::save`](crate::OpenSession::save); the promise's. After an error that is
    /// retryable it can be tried again.
    pub async fn save(&self) -> Result<()> {
        let mut known = self.inner.lock().await?;
        self.inner.save(&mut known).await?;
        // With the state goes its turn, so that the next update goes on.
        *known = Known::Untouched;
        self.inner.turn.lock().take();
        Ok(())
    }

    /// Saves it, but keeps its turn and what was read, for [`again`](Self::again).
    pub(crate) async fn save_for_now(&self) -> Result<()> {
        self.inner.save(&mut *self.inner.lock().await?).await
    }

    /// For another run of the handler: the session as it was read, or, if another process has changed
    /// it, as it is now.
    pub(crate) async fn again(&self, changed: bool) -> Result<()> {
        let mut known = self.inner.lock().await?;
        *known = match std::mem::replace(&mut *known, Known::Untouched) {
            Known::Read(state) if changed => Known::Read(state.reload().await?),
            Known::Read(mut state) => {
                state.restart().await?;
                Known::Read(state)
            }
            _ => Known::Untouched,
        };
        Ok(())
    }

    /// Undoes what has been saved of a session that was read, if nobody has changed it since.
    pub(crate) async fn undo(&self) -> Result<()> {
        match &mut *self.inner.lock().await? {
            Known::Read(state) => state.undo().await,
            _ => Ok(()),
        }
    }
}

/// A session that is known.
enum Access<'k, T> {
    Read(&'k mut State<T>),
    Blind { value: &'k mut T, cleared: &'k mut bool },
}

impl<T> Inner<T> {
    fn address(&self) -> usize {
        std::ptr::from_ref(self).cast::<()>() as usize
    }

    async fn lock(&self) -> Result<tokio::sync::MutexGuard<'_, Known<T>>> {
        if AWAITED.try_with(|awaited| awaited.contains(&self.address())).unwrap_or(false) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "the session waits for this promise, which therefore cannot wait for the session",
            ));
        }
        let known = self.known.lock().await;
        self.check_not_ended()?;
        Ok(known)
    }

    fn check_not_ended(&self) -> Result<()> {
        if self.ended.load(Ordering::SeqCst) {
            return Err(Error::new(
                ErrorKind::Other,
                "the update is over (the handler has kept its session beyond its end, in a task that it started, \
                 say); nothing was saved of this",
            ));
        }
        Ok(())
    }

    /// Makes the session known: by what was assigned, or by reading it.
    async fn read<'k>(&self, key: &Key, known: &'k mut Known<T>) -> Result<Access<'k, T>> {
        self.take_assigned(known).await?;
        while matches!(known, Known::Untouched) {
            let state = State::load(&self.shared, self.turn(key).await?, self.nesting.clone()).await?;
            // Its turn goes with it.
            self.check_not_ended()?;
            // Assigned meanwhile: what was read is discarded, and its turn given up.
            if self.assigned.lock().is_none() {
                *known = Known::Read(state);
            }
            self.take_assigned(known).await?;
        }
        match known {
            Known::Read(state) => Ok(Access::Read(state)),
            Known::Blind { value, cleared } => Ok(Access::Blind { value, cleared }),
            Known::Failed(error) => Err(error.clone()),
            Known::Untouched | Known::Promised(..) => {
                Err(Error::new(ErrorKind::Other, "the session is still not known"))
            }
        }
    }

    /// Applies what was assigned since the last look, promises awaited.
    async fn take_assigned(&self, known: &mut Known<T>) -> Result<()> {
        loop {
            // Out of the lock first, which must not be held over the wait for a promise.
            let assigned = self.assigned.lock().take();
            if let Some(assigned) = assigned {
                // An earlier promise is no longer wanted.
                let state = match std::mem::replace(known, Known::Untouched) {
                    Known::Read(state) | Known::Promised(_, Some(state)) => Some(state),
                    _ => None,
                };
                *known = match assigned {
                    Assigned::Promise(promise) => Known::Promised(promise, state),
                    Assigned::Value(value) => self.replaced(state, Some(value)),
                    Assigned::Cleared => self.replaced(state, None),
                };
            }
            let Known::Promised(promise, _) = known else {
                return match known {
                    Known::Failed(error) => Err(error.clone()),
                    _ => Ok(()),
                };
            };
            let mut awaited = AWAITED.try_with(Vec::clone).unwrap_or_default();
            awaited.push(self.address());
            let kept = AWAITED.scope(awaited, promise).await;
            if let Known::Promised(_, state) = std::mem::replace(known, Known::Untouched) {
                *known = match kept {
                    Ok(value) => self.replaced(state, Some(value)),
                    Err(error) => Known::Failed(error),
                };
            }
        }
    }

    /// The session with another value, or cleared.
    fn replaced(&self, state: Option<State<T>>, value: Option<T>) -> Known<T> {
        match (state, value) {
            (Some(mut state), value) => {
                match value {
                    Some(value) => *state.value_mut() = value,
                    None => state.clear(),
                }
                Known::Read(state)
            }
            (None, Some(value)) => Known::Blind { value, cleared: false },
            (None, None) => Known::Blind { value: (self.shared.initial)(), cleared: true },
        }
    }

    async fn save(&self, known: &mut Known<T>) -> Result<()> {
        let Ok(key) = &self.key else {
            return Ok(());
        };
        self.take_assigned(known).await?;
        match known {
            Known::Untouched | Known::Promised(..) | Known::Failed(_) => Ok(()),
            Known::Read(state) => state.save().await,
            Known::Blind { value, cleared } => {
                let turn = self.turn(key).await?;
                let saved = self.overwrite(key, (!*cleared).then_some(&*value)).await;
                *self.turn.lock() = Some(turn);
                saved
            }
        }
    }

    async fn turn(&self, key: &Key) -> Result<Turn> {
        let taken = self.turn.lock().take();
        match taken {
            Some(turn) => Ok(turn),
            None => self.shared.queue.enter(key, &self.nesting).await,
        }
    }

    /// Writes or deletes what nobody has read.
    async fn overwrite(&self, key: &Key, value: Option<&T>) -> Result<()> {
        let shared = &self.shared;
        let mut place = Place::unknown(key.clone());
        let mut stored = None;
        if let Some(value) = value {
            let bare = shared.content.format.encode_bare(value);
            let encoded = bare.and_then(|bare| shared.content.encode(value, bare, Marks::default()));
            stored = encoded.map_err(|error| shared.store().name_entry(error, key))?;
            if let (Some(owner), Some((_, expiry))) = (shared.owner_of(value), &stored) {
                // The index names the key where the session is.
                place.look(shared).await?;
                shared.note_owner(Some(&owner), &place.key, *expiry).await?;
            }
        }
        if stored.is_none() {
            // A delete has to know where the session is. A write finds out if it is not here.
            place.look(shared).await?;
        }
        place.overwrite(shared, stored).await?;
        shared.note_use(&place.key);
        Ok(())
    }
}

/// Prints no key and no value.
impl<T> fmt::Debug for LazySession<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazySession").finish_non_exhaustive()
    }
}

//! A session that is read on first access.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use futures_util::future::BoxFuture;
use larder_core::{Error, ErrorKind, Expiry, Key, Result};
use larder_owners::{Deadline, Indexed};
use parking_lot::Mutex;

use crate::{
    content::Marks,
    queue::{Nesting, QueuePermit},
    session::warn_of_loss,
    shared::Shared,
    state::{Slot, State},
};

/// A session that is read on first access.
///
/// All accesses share one read, also concurrent ones. Setting it first skips the read; a read in progress is
/// then discarded. Clones are handles to the same session.
///
/// [`update_lazy`](crate::Sessions::update_lazy) saves it after the handler. A session from
/// [`open_lazy`](crate::Sessions::open_lazy) needs a call of [`save`](Self::save): dropping the last handle
/// with unsaved changes loses them and logs a warning. [`discard`](Self::discard) loses them without a
/// warning.
///
/// Without a key, every access fails with [`InvalidKey`](larder_core::ErrorKind::InvalidKey) and the
/// reason, and saving does nothing.
///
/// From the first read to the save, or until the last handle is dropped, other updates of the session wait. A
/// handle that outlives its [`update_lazy`](crate::Sessions::update_lazy) (in a spawned task, for example)
/// does not block them: using it is an error.
pub struct LazySession<T> {
    inner: Arc<Inner<T>>,
}

struct Inner<T> {
    shared: Arc<Shared<T>>,
    key: Result<Key>,
    nesting: Nesting,
    /// Whether the caller saves it, instead of an update.
    is_open: AtomicBool,
    /// The last save has failed, so the caller knows that the changes before it are not saved.
    save_failed: AtomicBool,
    /// The changes are not to be saved.
    discarded: AtomicBool,
    /// The update has ended: later changes would not be saved.
    ended: AtomicBool,
    /// The permit, if it was acquired before the first access.
    permit: Mutex<Option<QueuePermit>>,
    /// The last assignment, until the next access applies it: an assignment never waits.
    assigned: Mutex<Option<Assigned<T>>>,
    /// Locked while the session is read, awaited or saved.
    known: tokio::sync::Mutex<Known<T>>,
}

tokio::task_local! {
    /// The sessions that wait for this code, because it is their promise. It must not wait for them.
    static AWAITED: Vec<usize>;
}

type Promise<T> = BoxFuture<'static, Result<T>>;

enum Assigned<T> {
    Value(T),
    Promise(Promise<T>),
    Cleared,
}

/// The state of the session.
enum Known<T> {
    Untouched,
    Read(State<T>),
    /// Set or cleared without a read.
    Blind {
        value: T,
        cleared: bool,
    },
    /// Promised and being awaited. It is stored here, so that a caller can be dropped while it waits.
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
        permit: Option<QueuePermit>,
    ) -> Self {
        let inner = Inner {
            shared,
            key,
            nesting,
            is_open: AtomicBool::new(false),
            save_failed: AtomicBool::new(false),
            discarded: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            permit: Mutex::new(permit),
            assigned: Mutex::new(None),
            known: tokio::sync::Mutex::new(Known::Untouched),
        };
        Self { inner: Arc::new(inner) }
    }

    /// For a caller that saves it.
    pub(crate) fn open(shared: Arc<Shared<T>>, key: Result<Key>) -> Self {
        let session = Self::new(shared, key, Nesting::Refused, None);
        session.inner.is_open.store(true, Ordering::Relaxed);
        session
    }

    pub(crate) fn has_key(&self) -> bool {
        self.inner.key.is_ok()
    }

    fn key(&self) -> Result<&Key> {
        self.inner.key.as_ref().map_err(Error::clone)
    }

    /// Returns a copy of the value, or the initial value if the session does not exist.
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

    /// Reads the session now, unless it was accessed before. In contrast to other accesses, this does not
    /// create a session that does not exist.
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

    /// Calls `look` with the value and returns its result.
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

    /// Changes the value and returns the closure's result.
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::open`](crate::Sessions::open); [`Other`](ErrorKind::Other) after
    /// [`discard`](Self::discard).
    pub async fn modify<R>(&self, change: impl FnOnce(&mut T) -> R) -> Result<R> {
        let mut known = self.inner.lock().await?;
        self.inner.check_not_discarded()?;
        let access = self.inner.read(self.key()?, &mut known).await?;
        self.inner.save_failed.store(false, Ordering::Relaxed);
        match access {
            Access::Read(state) => Ok(change(state.value_mut())),
            Access::Blind { value, cleared } => {
                *cleared = false;
                Ok(change(value))
            }
        }
    }

    /// Replaces the value, without a read and without waiting. A session that is set before it was read is a
    /// new session: an absolute lifetime starts again.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](larder_core::ErrorKind::InvalidKey) without a key.
    pub fn set(&self, value: T) -> Result<()> {
        self.assign(Assigned::Value(value))
    }

    /// Replaces the value with the result of `promise`. The promise is awaited on the next access, at the
    /// latest when the session is saved. If it fails, that access or save fails with its error, and nothing
    /// is saved. The promise must not use this session: that fails with
    /// [`Unsupported`](ErrorKind::Unsupported).
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](larder_core::ErrorKind::InvalidKey) without a key.
    pub fn set_later(&self, promise: impl Future<Output = Result<T>> + Send + 'static) -> Result<()> {
        self.assign(Assigned::Promise(Box::pin(promise)))
    }

    /// Deletes the session when it is saved. Until then the value is the initial value. If it is changed
    /// after this call, the result is saved as a new session.
    ///
    /// # Errors
    ///
    /// [`InvalidKey`](larder_core::ErrorKind::InvalidKey) without a key.
    pub fn clear(&self) -> Result<()> {
        self.assign(Assigned::Cleared)
    }

    /// Abandons the changes: neither [`save`](Self::save) nor the end of the update saves anything. Changing
    /// the session after this is an error. In a [`Multi`](crate::Multi), this abandons only this fragment: the
    /// others are saved.
    pub fn discard(&self) {
        self.inner.discarded.store(true, Ordering::SeqCst);
    }

    /// Ends the update and releases its permit, even if handles remain.
    pub(crate) fn end(&self) {
        self.inner.ended.store(true, Ordering::SeqCst);
        // If it is locked, the task that has locked it checks `ended` afterwards.
        if let Ok(mut known) = self.inner.known.try_lock() {
            *known = Known::Untouched;
        }
        self.inner.permit.lock().take();
    }

    fn assign(&self, assigned: Assigned<T>) -> Result<()> {
        self.key()?;
        self.inner.check_not_ended()?;
        self.inner.check_not_discarded()?;
        *self.inner.assigned.lock() = Some(assigned);
        self.inner.save_failed.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Returns whether the session has been read, set or cleared.
    #[must_use]
    pub fn is_touched(&self) -> bool {
        self.inner.assigned.lock().is_some()
            // If it is locked, it is being accessed.
            || !self.inner.known.try_lock().is_ok_and(|known| matches!(*known, Known::Untouched))
    }

    /// Saves the changes. Does nothing if the session was not accessed. Waits for reads in progress.
    ///
    /// # Errors
    ///
    /// Those of [`OpenSession::save`](crate::OpenSession::save); the promise's. After a retryable error,
    /// `save` can be called again.
    pub async fn save(&self) -> Result<()> {
        let mut known = self.inner.lock().await?;
        let saved = self.inner.save(&mut known).await;
        self.inner.save_failed.store(saved.is_err(), Ordering::Relaxed);
        saved?;
        // Dropping the state releases its permit for the next update.
        *known = Known::Untouched;
        self.inner.permit.lock().take();
        Ok(())
    }

    /// Saves it, but keeps its permit and its state, for [`again`](Self::again).
    pub(crate) async fn save_for_now(&self) -> Result<()> {
        self.inner.save(&mut *self.inner.lock().await?).await
    }

    /// Prepares the next run of the handler: restores the session as it was read or, if another process has
    /// changed it, reads it again.
    pub(crate) async fn again(&self, changed: bool) -> Result<()> {
        let mut known = self.inner.lock().await?;
        self.inner.discarded.store(false, Ordering::SeqCst);
        match &mut *known {
            Known::Read(state) if changed => state.reload().await,
            Known::Read(state) => state.restart().await,
            other => {
                *other = Known::Untouched;
                Ok(())
            }
        }
    }

    /// Undoes an earlier save of a session that was read, unless another process has changed it since.
    pub(crate) async fn undo(&self) -> Result<()> {
        match &mut *self.inner.lock().await? {
            Known::Read(state) => state.undo().await,
            _ => Ok(()),
        }
    }
}

/// The value of a session after the first access.
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
                "the promise of a lazy session uses that session, which waits for the promise",
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
                "the update of this session has ended (the handler moved the session into a spawned task, for \
                 example); this change is not saved",
            ));
        }
        Ok(())
    }

    fn check_not_discarded(&self) -> Result<()> {
        if self.discarded.load(Ordering::SeqCst) {
            return Err(Error::new(
                ErrorKind::Other,
                "the session was discarded, so this change would not be saved; open it again to change it",
            ));
        }
        Ok(())
    }

    fn has_changed(&mut self) -> bool {
        !*self.discarded.get_mut()
            && (self.assigned.get_mut().is_some()
                || match self.known.get_mut() {
                    Known::Read(state) => state.has_changed(),
                    Known::Blind { .. } | Known::Promised(..) => true,
                    Known::Untouched | Known::Failed(_) => false,
                })
    }

    /// Applies the last assignment, or reads the session.
    async fn read<'k>(&self, key: &Key, known: &'k mut Known<T>) -> Result<Access<'k, T>> {
        self.take_assigned(known).await?;
        while matches!(known, Known::Untouched) {
            let state = State::load(&self.shared, self.permit(key).await?, self.nesting.clone()).await?;
            // Dropping the state releases its permit.
            self.check_not_ended()?;
            // Assigned in the meantime: this discards the value that was read, and its permit.
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
                Err(Error::new(ErrorKind::Other, "the lazy session has no value"))
            }
        }
    }

    /// Applies the assignments since the last access, and awaits promises.
    async fn take_assigned(&self, known: &mut Known<T>) -> Result<()> {
        loop {
            // Release the lock before a promise is awaited.
            let assigned = self.assigned.lock().take();
            if let Some(assigned) = assigned {
                // The new assignment replaces an earlier promise.
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

    /// Returns the session with another value, or cleared.
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
        if self.discarded.load(Ordering::SeqCst) {
            self.assigned.lock().take();
            return match known {
                Known::Read(state) => state.undo().await,
                _ => Ok(()),
            };
        }
        self.take_assigned(known).await?;
        match known {
            Known::Untouched | Known::Promised(..) | Known::Failed(_) => Ok(()),
            Known::Read(state) => state.save().await,
            Known::Blind { value, cleared } => {
                let permit = self.permit(key).await?;
                let saved = self.overwrite(key, (!*cleared).then_some(&*value)).await;
                *self.permit.lock() = Some(permit);
                saved
            }
        }
    }

    async fn permit(&self, key: &Key) -> Result<QueuePermit> {
        let taken = self.permit.lock().take();
        match taken {
            Some(permit) => Ok(permit),
            None => self.shared.queue.enter(key, &self.nesting).await,
        }
    }

    /// Writes or deletes a session that was not read.
    async fn overwrite(&self, key: &Key, value: Option<&T>) -> Result<()> {
        let shared = &self.shared;
        let mut slot = Slot::unknown(key.clone());
        let (mut stored, mut owner) = (None, None);
        if let Some(value) = value {
            let bare = shared.content.format.encode_bare(value);
            let encoded = bare.and_then(|bare| shared.content.encode(value, bare, Marks::default()));
            stored = encoded.map_err(|error| shared.store().name_entry(error, key))?;
            owner = stored.as_ref().and_then(|_| shared.owner_of(value));
        }
        let mut was = Indexed::NONE;
        if stored.is_none() || shared.index.is_some() {
            // A delete and the index need the session's current key. A write fails on a redirect and then follows
            // it.
            let before = slot.look(shared).await?;
            was = shared.indexed(&slot.key, before.as_deref()).await;
        }
        let expiry = stored.as_ref().map_or(Expiry::Never, |(_, expiry)| *expiry);
        let will = Indexed { owner, deadline: Deadline::after(expiry) };
        let saving = shared.before_save(&slot.key, &was, &will).await?;
        slot.overwrite(shared, stored, will.owner.as_ref()).await?;
        shared.after_save(saving).await;
        shared.note_use(&slot.key);
        Ok(())
    }
}

impl<T> Drop for Inner<T> {
    fn drop(&mut self) {
        if *self.is_open.get_mut() && !*self.save_failed.get_mut() {
            warn_of_loss(|| self.has_changed());
        }
    }
}

/// Prints no key and no value.
impl<T> fmt::Debug for LazySession<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazySession").finish_non_exhaustive()
    }
}

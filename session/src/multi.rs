//! Several sessions in one update.

use std::{future::ready, sync::Arc};

use futures_util::{
    TryFutureExt,
    future::{BoxFuture, join_all, try_join_all},
};
use larder_core::{Error, ErrorKind, Key, Result};

use crate::{
    conflicts::{ConflictPolicy, Retries},
    key::{IntoSessionKey, SessionKey},
    lazy::LazySession,
    outcome::{HandlerFuture, Outcome},
    queue::{Identity, Nesting, Queue, QueuePermit},
    session::{HandlerState, Session},
    sessions::{Sessions, once},
    state::State,
};

/// One of the sessions of a [`Multi`]: a name for error messages, and [`Sessions`] with their own type,
/// storage, prefix and lifetime.
///
/// A strict fragment is read before the handler runs, which gets a [`Session`]. A lazy fragment is read on
/// first access; the handler gets a [`LazySession`].
#[derive(Debug)]
pub struct Fragment<F> {
    name: &'static str,
    sessions: F,
}

/// A fragment that is always read.
#[derive(Debug)]
pub struct Strict<T>(Sessions<T>);

/// A fragment that is read on first access.
#[derive(Debug)]
pub struct Lazy<T>(Sessions<T>);

impl<T> Fragment<Strict<T>> {
    /// Returns a fragment that is read before the handler runs.
    #[must_use]
    pub const fn strict(name: &'static str, sessions: Sessions<T>) -> Self {
        Self { name, sessions: Strict(sessions) }
    }
}

impl<T> Fragment<Lazy<T>> {
    /// Returns a fragment that is read if the handler accesses it.
    #[must_use]
    pub const fn lazy(name: &'static str, sessions: Sessions<T>) -> Self {
        Self { name, sessions: Lazy(sessions) }
    }
}

/// Several sessions in one update, of different kinds and possibly in different storages: a tuple of two to
/// eight [`Fragment`]s.
///
/// ```
/// use larder_session::{Fragment, Multi, Sessions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> larder_session::Result<()> {
/// let users: Sessions<String> = Sessions::builder().prefix("user:").build()?;
/// let chats: Sessions<u32> = Sessions::builder().prefix("chat:").build()?;
///
/// let multi = Multi::new((Fragment::strict("user", users), Fragment::lazy("chat", chats.clone())));
/// let (user_id, chat_id) = (7, 42);
/// multi.update((user_id, chat_id), async |(mut user, chat)| {
///     user.push_str("Míša");
///     chat.modify(|messages| *messages += 1).await
/// }).await?;
/// assert_eq!(chats.get(chat_id).await?, Some(1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Multi<F> {
    fragments: F,
}

impl<F: Fragments> Multi<F> {
    /// Returns sessions with these fragments.
    pub const fn new(fragments: F) -> Self {
        Self { fragments }
    }

    /// Runs `handler` on the sessions under `keys`, one key per fragment, and saves its changes. Reads run in
    /// parallel, and so do writes.
    ///
    /// As with [`Sessions::update`], nothing is written if the handler fails, and it runs again if another
    /// process has changed one of the sessions (depending on the [`ConflictPolicy`](crate::ConflictPolicy) of
    /// the first fragment).
    ///
    /// The fragments are not saved in one transaction. If a conflict occurs after some fragments were saved,
    /// they start the next run with their values from before the first one, so that changes are not applied
    /// twice. If the update fails in the end, they are restored. Other processes can see such a value in the
    /// meantime, and restoring needs a storage that works, and sessions that have not changed since. A lazy
    /// fragment that was set or cleared without a read keeps the value of the failed run.
    /// [`Session::discard`] and [`LazySession::discard`] abandon one fragment; the others are saved.
    ///
    /// The update waits for earlier updates of all fragments, including lazy ones, in an order that avoids
    /// deadlocks. A session that has moved is protected only by compare-and-swap.
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::update`]; the message names the fragment.
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if two fragments are the same session.
    pub async fn update<O, H>(
        &self,
        keys: impl Keys<F>,
        handler: impl FnMut(F::Given) -> H,
    ) -> Result<O::Value, O::Error>
    where
        O: Outcome,
        H: HandlerFuture<Output = O>,
    {
        self.update_with(Retries::new(self.fragments.conflicts()), keys, handler).await
    }

    /// Like [`update`](Self::update), with a handler that never runs twice; see [`Sessions::update_once`].
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update) and [`Sessions::update_once`].
    pub async fn update_once<O, H>(
        &self,
        keys: impl Keys<F>,
        handler: impl FnOnce(F::Given) -> H,
    ) -> Result<O::Value, O::Error>
    where
        O: Outcome,
        H: HandlerFuture<Output = O>,
    {
        self.update_with(Retries::none(), keys, once(handler)).await
    }

    /// Changes the sessions with a synchronous closure, and saves them. The closure takes a tuple: `&mut T`
    /// for a strict fragment, `&LazySession<T>` for a lazy one.
    ///
    /// ```
    /// use larder_session::{Fragment, Multi, Sessions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder_session::Result<()> {
    /// let wallets: Sessions<i64> = Sessions::builder().prefix("wallet:").build()?;
    /// let banks: Sessions<i64> = Sessions::builder().prefix("bank:").build()?;
    /// let both = Multi::new((Fragment::strict("wallet", wallets), Fragment::strict("bank", banks.clone())));
    ///
    /// both.modify((7, 7), |(wallet, bank)| {
    ///     *wallet -= 10;
    ///     *bank += 10;
    /// }).await?;
    /// assert_eq!(banks.get(7).await?, Some(10));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`update`](Self::update).
    pub async fn modify<R>(&self, keys: impl Keys<F>, mut change: impl FnMut(F::Refs<'_>) -> R) -> Result<R> {
        self.try_modify(keys, |values| Ok(change(values))).await
    }

    /// Like [`modify`](Self::modify), with a closure that can fail. Its `Err` is returned, and nothing is
    /// saved.
    ///
    /// # Errors
    ///
    /// The closure's; otherwise those of [`update`](Self::update).
    pub async fn try_modify<R, E: From<Error>>(
        &self,
        keys: impl Keys<F>,
        mut change: impl FnMut(F::Refs<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.update(keys, |mut given| ready(change(F::refs(&mut given)))).await
    }

    async fn update_with<O, H>(
        &self,
        mut retries: Retries,
        keys: impl Keys<F>,
        mut handler: impl FnMut(F::Given) -> H,
    ) -> Result<O::Value, O::Error>
    where
        O: Outcome,
        H: HandlerFuture<Output = O>,
    {
        let keys = keys.into_keys();
        let claims = self.fragments.claims(&keys)?;
        let permits = acquire_permits(&claims).await?;
        let mut ending = Ending::<F>(self.fragments.open(&keys, permits).await?);
        let open = &mut ending.0;
        check_distinct(F::identities(open)?)?;
        loop {
            let handled = handler(F::give(open)?);
            let (outcome, nested) = Queue::holding(claims.iter().flatten(), handled).await;
            let value = match outcome.into_result() {
                Ok(value) => value,
                Err(error) => {
                    self.fragments.undo(open).await;
                    return Err(error);
                }
            };
            let saved = self.fragments.save(open).await;
            let changed: Vec<_> = saved.iter().map(Result::is_err).collect();
            let errors = saved.into_iter().filter_map(Result::err);
            // Other errors take precedence: they end the update.
            let Some(error) = errors.min_by_key(|error| error.kind() == ErrorKind::Conflict) else {
                return Ok(value);
            };
            let again = match retries.next(error, Some(&nested)).await {
                Ok(()) => self.fragments.again(open, &changed).await,
                Err(error) => Err(error),
            };
            if let Err(error) = again {
                self.fragments.undo(open).await;
                // Others may have read the values that were saved and restored.
                let partly = changed.contains(&false);
                return Err(if partly { error.partly_applied() } else { error }.into());
            }
        }
    }

    /// Deletes the session of each fragment. Returns how many existed.
    ///
    /// # Errors
    ///
    /// Those of [`Sessions::delete`]; the message names the fragment.
    pub async fn delete(&self, keys: impl Keys<F>) -> Result<u64> {
        self.fragments.delete(&keys.into_keys()).await
    }
}

impl Multi<()> {
    /// Deletes each session when the update is saved; see [`Session::clear`] and [`LazySession::clear`]. For
    /// the tuple that [`update`](Self::update) passes to its handler. A lazy fragment without a key is
    /// skipped.
    ///
    /// ```
    /// use larder_session::{Fragment, Multi, Sessions};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder_session::Result<()> {
    /// # let users: Sessions<u32> = Sessions::builder().prefix("user:").build()?;
    /// # let chats: Sessions<u32> = Sessions::builder().prefix("chat:").build()?;
    /// # let multi = Multi::new((Fragment::strict("user", users), Fragment::lazy("chat", chats)));
    /// multi.update((7, 42), async |mut both| Multi::clear(&mut both)).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Other`](ErrorKind::Other) if a lazy session was discarded, or if its update has ended.
    pub fn clear(sessions: &mut impl Clear) -> Result<()> {
        sessions.clear_all()
    }
}

/// The tuple of sessions that the handler of a [`Multi`] takes, for [`Multi::clear`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a session or a tuple of sessions",
    label = "expected the sessions that `Multi::update` passes to its handler"
)]
pub trait Clear: sealed::Clear {}

/// The open fragments. Lazy sessions end with their update, even if that fails, panics or is dropped.
struct Ending<F: Fragments>(F::Open);

impl<F: Fragments> Drop for Ending<F> {
    fn drop(&mut self) {
        F::end(&self.0);
    }
}

/// The lock of a fragment; `None` without a key.
pub(crate) type Claim = Option<(Arc<Queue>, Key)>;

async fn acquire_permits(claims: &[Claim]) -> Result<Vec<Option<QueuePermit>>> {
    let mut order: Vec<_> = (0..claims.len()).filter(|&index| claims[index].is_some()).collect();
    let by = |index: usize| claims[index].as_ref().map(|(queue, key)| queue.identity(key));
    order.sort_by_key(|&index| by(index));
    if order.windows(2).any(|pair| by(pair[0]) == by(pair[1])) {
        return Err(one_session());
    }
    let mut permits: Vec<_> = claims.iter().map(|_| None).collect();
    for index in order {
        if let Some((queue, key)) = &claims[index] {
            permits[index] = Some(queue.enter(key, &Nesting::Refused).await?);
        }
    }
    Ok(permits)
}

/// Checks for two keys that have become one session by a move.
fn check_distinct(mut identities: Vec<Identity>) -> Result<()> {
    identities.sort();
    if identities.windows(2).any(|pair| pair[0] == pair[1]) { Err(one_session()) } else { Ok(()) }
}

fn one_session() -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        "two fragments are the same session; give each its own prefix or key",
    )
}

fn named(name: &str, error: Error) -> Error {
    error.context(format_args!("fragment `{name}`"))
}

/// The keys for a tuple of fragments: a tuple of the same length.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not have one key for each fragment of this `Multi`",
    label = "expected a tuple with as many keys as there are fragments",
    note = "pass the keys in the order of the fragments: `multi.update((user_id, chat_id), ...)`"
)]
pub trait Keys<F> {
    /// Returns the keys in the order of the fragments.
    fn into_keys(self) -> Vec<SessionKey>;
}

/// Tuples of two to eight [`Fragment`]s.
#[diagnostic::on_unimplemented(
    message = "a `Multi` cannot be made of `{Self}`",
    label = "expected a tuple of two to eight `Fragment`s",
    note = "make each with `Fragment::strict(name, sessions)` or `Fragment::lazy(name, sessions)`"
)]
pub trait Fragments: sealed::Fragments {}

mod sealed {
    use super::{BoxFuture, Claim, Identity, LazySession, QueuePermit, Result, Session, SessionKey};
    use crate::conflicts::ConflictPolicy;

    /// Sessions that a handler is given.
    pub trait Clear {
        fn clear_all(&mut self) -> Result<()>;
    }

    impl<T> Clear for Session<T> {
        fn clear_all(&mut self) -> Result<()> {
            Self::clear(self);
            Ok(())
        }
    }

    impl<T: Send + Sync + 'static> Clear for LazySession<T> {
        fn clear_all(&mut self) -> Result<()> {
            // Without a key there is nothing to clear.
            if self.has_key() { Self::clear(self) } else { Ok(()) }
        }
    }

    pub trait Fragments: Send + Sync {
        /// The argument of a handler.
        type Given;
        /// The argument of a closure of `modify`.
        type Refs<'a>;
        /// The sessions between read and save.
        type Open: Send;

        fn claims(&self, keys: &[SessionKey]) -> Result<Vec<Claim>>;
        fn conflicts(&self) -> ConflictPolicy;
        fn open<'a>(
            &'a self,
            keys: &'a [SessionKey],
            permits: Vec<Option<QueuePermit>>,
        ) -> BoxFuture<'a, Result<Self::Open>>;
        fn give(open: &Self::Open) -> Result<Self::Given>;
        fn refs(given: &mut Self::Given) -> Self::Refs<'_>;
        fn identities(open: &Self::Open) -> Result<Vec<Identity>>;
        fn save<'a>(&'a self, open: &'a mut Self::Open) -> BoxFuture<'a, Vec<Result<()>>>;
        /// Restores the sessions that were saved.
        fn undo<'a>(&'a self, open: &'a mut Self::Open) -> BoxFuture<'a, ()>;
        /// Prepares the next run of the handler. After an error, `undo` can still restore the sessions.
        fn again<'a>(&'a self, open: &'a mut Self::Open, changed: &'a [bool]) -> BoxFuture<'a, Result<()>>;
        fn end(open: &Self::Open);
        fn delete<'a>(&'a self, keys: &'a [SessionKey]) -> BoxFuture<'a, Result<u64>>;
    }

    /// A fragment, strict or lazy.
    pub trait Part: Send + Sync {
        type Given;
        type Ref<'a>;
        type Open: Send;

        fn claim(&self, key: &SessionKey) -> Result<Claim>;
        fn conflicts(&self) -> ConflictPolicy;
        fn open<'a>(
            &'a self,
            key: &'a SessionKey,
            permit: Option<QueuePermit>,
        ) -> BoxFuture<'a, Result<Self::Open>>;
        fn give(open: &Self::Open) -> Result<Self::Given>;
        fn lend(given: &mut Self::Given) -> Self::Ref<'_>;
        /// Identifies the session, if it is known.
        fn identity(open: &Self::Open) -> Result<Option<Identity>>;
        fn save(open: &mut Self::Open) -> BoxFuture<'_, Result<()>>;
        fn undo(open: &mut Self::Open) -> BoxFuture<'_, Result<()>>;
        fn again(open: &mut Self::Open, changed: bool) -> BoxFuture<'_, Result<()>>;
        /// Makes remaining handles of a lazy session unusable, and releases its permit.
        fn end(open: &Self::Open);
        fn delete<'a>(&'a self, key: &'a SessionKey) -> BoxFuture<'a, Result<bool>>;
    }
}

impl<T: Send + Sync + 'static> sealed::Part for Strict<T> {
    type Given = Session<T>;
    type Ref<'a> = &'a mut T;
    type Open = HandlerState<T>;

    fn claim(&self, key: &SessionKey) -> Result<Claim> {
        Ok(Some((Arc::clone(&self.0.shared.queue), self.0.key(key)?)))
    }

    fn conflicts(&self) -> ConflictPolicy {
        self.0.shared.conflicts
    }

    fn open<'a>(
        &'a self,
        key: &'a SessionKey,
        permit: Option<QueuePermit>,
    ) -> BoxFuture<'a, Result<HandlerState<T>>> {
        Box::pin(async move {
            let permit = match permit {
                Some(permit) => permit,
                None => self.0.shared.queue.enter(&self.0.key(key)?, &Nesting::Refused).await?,
            };
            Ok(HandlerState::new(State::load(&self.0.shared, permit, Nesting::own()).await?))
        })
    }

    fn give(open: &HandlerState<T>) -> Result<Session<T>> {
        open.session()
    }

    fn lend(given: &mut Session<T>) -> &mut T {
        given
    }

    fn identity(open: &HandlerState<T>) -> Result<Option<Identity>> {
        Ok(Some(Session::identity(&open.session()?)))
    }

    fn undo(open: &mut HandlerState<T>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Session::state(&mut open.session()?).undo().await })
    }

    fn save(open: &mut HandlerState<T>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { Session::save(&mut open.session()?).await })
    }

    fn again(open: &mut HandlerState<T>, changed: bool) -> BoxFuture<'_, Result<()>> {
        Box::pin(async move {
            let mut session = open.session()?;
            let state = Session::state(&mut session);
            if changed { state.reload().await } else { state.restart().await }
        })
    }

    fn end(_open: &HandlerState<T>) {}

    fn delete<'a>(&'a self, key: &'a SessionKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.0.delete(key))
    }
}

impl<T: Send + Sync + 'static> sealed::Part for Lazy<T> {
    type Given = LazySession<T>;
    type Ref<'a> = &'a LazySession<T>;
    type Open = LazySession<T>;

    fn claim(&self, key: &SessionKey) -> Result<Claim> {
        // A missing key is an error only on access.
        Ok(self.0.key(key).ok().map(|key| (Arc::clone(&self.0.shared.queue), key)))
    }

    fn conflicts(&self) -> ConflictPolicy {
        self.0.shared.conflicts
    }

    fn open<'a>(
        &'a self,
        key: &'a SessionKey,
        permit: Option<QueuePermit>,
    ) -> BoxFuture<'a, Result<LazySession<T>>> {
        let session = LazySession::new(Arc::clone(&self.0.shared), self.0.key(key), Nesting::own(), permit);
        Box::pin(ready(Ok(session)))
    }

    fn give(open: &LazySession<T>) -> Result<LazySession<T>> {
        Ok(open.clone())
    }

    fn lend(given: &mut LazySession<T>) -> &LazySession<T> {
        given
    }

    fn identity(_open: &LazySession<T>) -> Result<Option<Identity>> {
        Ok(None)
    }

    fn undo(open: &mut LazySession<T>) -> BoxFuture<'_, Result<()>> {
        Box::pin(LazySession::undo(open))
    }

    fn save(open: &mut LazySession<T>) -> BoxFuture<'_, Result<()>> {
        Box::pin(open.save_for_now())
    }

    fn again(open: &mut LazySession<T>, changed: bool) -> BoxFuture<'_, Result<()>> {
        Box::pin(LazySession::again(open, changed))
    }

    fn end(open: &LazySession<T>) {
        open.end();
    }

    fn delete<'a>(&'a self, key: &'a SessionKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.0.delete(key))
    }
}

macro_rules! fragments {
    ($($part:ident $key:ident $index:tt),+) => {
        impl<$($key: IntoSessionKey, $part),+> Keys<($(Fragment<$part>,)+)> for ($($key,)+) {
            fn into_keys(self) -> Vec<SessionKey> {
                vec![$(self.$index.into()),+]
            }
        }

        impl<$($part: sealed::Part),+> Fragments for ($(Fragment<$part>,)+) {}

        impl<$($part: sealed::Part),+> sealed::Fragments for ($(Fragment<$part>,)+) {
            type Given = ($($part::Given,)+);
            type Refs<'a> = ($($part::Ref<'a>,)+);
            type Open = ($($part::Open,)+);

            fn claims(&self, keys: &[SessionKey]) -> Result<Vec<Claim>> {
                Ok(vec![$(
                    self.$index.sessions.claim(&keys[$index]).map_err(|error| named(self.$index.name, error))?
                ),+])
            }

            fn conflicts(&self) -> ConflictPolicy {
                self.0.sessions.conflicts()
            }

            fn open<'a>(
                &'a self,
                keys: &'a [SessionKey],
                permits: Vec<Option<QueuePermit>>,
            ) -> BoxFuture<'a, Result<Self::Open>> {
                Box::pin(async move {
                    let mut permits = permits.into_iter();
                    let mut opened = ($(None::<$part::Open>,)+);
                    let opening: Vec<BoxFuture<'_, Result<()>>> = vec![$({
                        let permit = permits.next().flatten();
                        let slot = &mut opened.$index;
                        Box::pin(async move {
                            let open = self.$index.sessions.open(&keys[$index], permit).await;
                            *slot = Some(open.map_err(|error| named(self.$index.name, error))?);
                            Ok(())
                        })
                    }),+];
                    try_join_all(opening).await?;
                    all_of(($(opened.$index,)+))
                })
            }

            fn give(open: &Self::Open) -> Result<Self::Given> {
                Ok(($($part::give(&open.$index)?,)+))
            }

            fn refs(given: &mut Self::Given) -> Self::Refs<'_> {
                ($($part::lend(&mut given.$index),)+)
            }

            fn save<'a>(&'a self, open: &'a mut Self::Open) -> BoxFuture<'a, Vec<Result<()>>> {
                let saving: Vec<BoxFuture<'_, Result<()>>> = vec![$(
                    Box::pin($part::save(&mut open.$index).map_err(|error| named(self.$index.name, error)))
                ),+];
                Box::pin(join_all(saving))
            }

            fn identities(open: &Self::Open) -> Result<Vec<Identity>> {
                Ok([$($part::identity(&open.$index)?),+].into_iter().flatten().collect())
            }

            fn undo<'a>(&'a self, open: &'a mut Self::Open) -> BoxFuture<'a, ()> {
                Box::pin(async move {
                    let undone = [$($part::undo(&mut open.$index).await),+];
                    for error in undone.into_iter().filter_map(Result::err) {
                        tracing::warn!(kind = %error.kind(), %error, "a fragment that was saved could not be restored");
                    }
                })
            }

            fn again<'a>(
                &'a self,
                open: &'a mut Self::Open,
                changed: &'a [bool],
            ) -> BoxFuture<'a, Result<()>> {
                Box::pin(async move {
                    $(
                        $part::again(&mut open.$index, changed[$index])
                            .await
                            .map_err(|error| named(self.$index.name, error))?;
                    )+
                    Ok(())
                })
            }

            fn end(open: &Self::Open) {
                $($part::end(&open.$index);)+
            }

            fn delete<'a>(&'a self, keys: &'a [SessionKey]) -> BoxFuture<'a, Result<u64>> {
                Box::pin(async move {
                    let deleting: Vec<BoxFuture<'_, Result<bool>>> = vec![$(
                        Box::pin(
                            self.$index.sessions.delete(&keys[$index])
                                .map_err(|error| named(self.$index.name, error)),
                        )
                    ),+];
                    let deleted = try_join_all(deleting).await?;
                    Ok(deleted.into_iter().map(u64::from).sum())
                })
            }
        }

        impl<$($part: sealed::Clear),+> Clear for ($($part,)+) {}

        impl<$($part: sealed::Clear),+> sealed::Clear for ($($part,)+) {
            fn clear_all(&mut self) -> Result<()> {
                $(self.$index.clear_all()?;)+
                Ok(())
            }
        }

        impl<$($part),+> AllOf for ($(Option<$part>,)+) {
            type All = ($($part,)+);

            fn all(self) -> Option<Self::All> {
                Some(($(self.$index?,)+))
            }
        }
    };
}

/// A tuple of options that are all `Some`.
trait AllOf {
    type All;
    fn all(self) -> Option<Self::All>;
}

fn all_of<O: AllOf>(options: O) -> Result<O::All> {
    options.all().ok_or_else(|| Error::new(ErrorKind::Other, "a fragment was not opened"))
}

fragments!(A K 0, B L 1);
fragments!(A K 0, B L 1, C M 2);
fragments!(A K 0, B L 1, C M 2, D N 3);
fragments!(A K 0, B L 1, C M 2, D N 3, E O 4);
fragments!(A K 0, B L 1, C M 2, D N 3, E O 4, F P 5);
fragments!(A K 0, B L 1, C M 2, D N 3, E O 4, F P 5, G Q 6);
fragments!(A K 0, B L 1, C M 2, D N 3, E O 4, F P 5, G Q 6, H R 7);

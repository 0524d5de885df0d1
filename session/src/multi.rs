//! Several sessions in one update.

use std::{future::ready, sync::Arc};

use futures_util::{
    TryFutureExt,
    future::{BoxFuture, join_all, try_join_all},
};
use larder_core::{Error, ErrorKind, Key, Result};

use crate::{
    conflicts::{Conflicts, Reruns},
    key::SessionKey,
    lazy::LazySession,
    outcome::Outcome,
    queue::{Identity, Nesting, Queue, Turn},
    session::{Lent, OpenSession, Session},
    sessions::Sessions,
    state::State,
};

/// One of the sessions of a [`Multi`]: its name, for errors, and the sessions it is one of, which have
/// a type, a storage, a prefix and a lifetime of their own.
///
/// A strict one is read before the handler runs and given to it as a [`Session`]; a lazy one is read
/// if it is touched and given as a [`LazySession`].
#[derive(Debug)]
pub struct Fragment<F> {
    name: &'static str,
    sessions: F,
}

/// A fragment that is read in any case.
#[derive(Debug)]
pub struct Strict<T>(Sessions<T>);

/// A fragment that is read if it is touched.
#[derive(Debug)]
pub struct Lazy<T>(Sessions<T>);

impl<T> Fragment<Strict<T>> {
    /// A fragment that is read before the handler runs.
    #[must_use]
    pub const fn strict(name: &'static str, sessions: Sessions<T>) -> Self {
        Self { name, sessions: Strict(sessions) }
    }
}

impl<T> Fragment<Lazy<T>> {
    /// A fragment that is read if the handler touches it.
    #[must_use]
    pub const fn lazy(name: &'static str, sessions: Sessions<T>) -> Self {
        Self { name, sessions: Lazy(sessions) }
    }
}

/// Several sessions, of different kinds and perhaps in different storages, in one update: a tuple of
/// two to eight [`Fragment`]s.
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
    /// Sessions of these fragments.
    pub const fn new(fragments: F) -> Self {
        Self { fragments }
    }

    /// Runs `handler` on the sessions under `keys`, one key per fragment, and saves what it changes.
    /// The reads go in parallel, and so do the writes.
    ///
    /// As with [`Sessions::update`], nothing is written if the handler fails, and it is run again
    /// if another process has changed one of the sessions meanwhile (as the first fragment's
    /// [`Conflicts`](crate::Conflicts) say). Fragments that were read and of which the first run has been
    /// saved by then begin from what they were before it, so that nothing is counted twice; should the
    /// update fail in the end, they are put back. That takes a storage that answers, and nobody who has
    /// built on the first run meanwhile: the fragments are not saved in one transaction.
    ///
    /// Turns are taken for all fragments before the handler runs, in an order that rules out
    /// deadlocks, so a lazy fragment also waits for other updates of its key. A session that has moved is
    /// only guarded by compare-and-swap.
    ///
    /// # Errors
    ///
    /// As [`Sessions::update`]; the message names the fragment.
    /// [`InvalidConfig`](ErrorKind::InvalidConfig) if two fragments are the same session.
    pub async fn update<O, H>(
        &self,
        keys: impl Keys<F>,
        mut handler: impl FnMut(F::Given) -> H,
    ) -> Result<O::Value, O::Error>
    where
        O: Outcome,
        H: Future<Output = O>,
    {
        let keys = keys.into_keys();
        let claims = self.fragments.claims(&keys)?;
        let turns = take_turns(&claims).await?;
        let mut open = self.fragments.open(&keys, turns).await?;
        check_distinct(F::identities(&open)?)?;
        let mut reruns = Reruns::new(self.fragments.conflicts());
        loop {
            let handled = handler(F::give(&open)?);
            let (outcome, nested) = Queue::holding(claims.iter().flatten(), handled).await;
            let value = match outcome.into_result() {
                Ok(value) => value,
                Err(error) => {
                    self.fragments.undo(open).await;
                    return Err(error);
                }
            };
            let saved = self.fragments.save(&mut open).await;
            let changed: Vec<_> = saved.iter().map(Result::is_err).collect();
            let errors = saved.into_iter().filter_map(Result::err);
            // One that is no conflict counts more: there is no other turn.
            let Some(error) = errors.min_by_key(|error| error.kind() == ErrorKind::Conflict) else {
                return Ok(value);
            };
            if let Err(error) = reruns.again(error, &nested).await {
                self.fragments.undo(open).await;
                // Others may have seen what was saved and put back.
                let partly = changed.contains(&false);
                return Err(if partly { error.partly_applied() } else { error }.into());
            }
            open = self.fragments.again(open, &changed).await?;
        }
    }

    /// Deletes the session of each fragment; says how many there were.
    ///
    /// # Errors
    ///
    /// As [`Sessions::delete`]; the message names the fragment.
    pub async fn delete(&self, keys: impl Keys<F>) -> Result<u64> {
        self.fragments.delete(&keys.into_keys()).await
    }
}

/// A session, or a tuple of them, that can be cleared.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a session or a tuple of sessions",
    label = "expected the sessions that `Multi::update` passes to its handler"
)]
pub trait Clear {
    /// Each is deleted when the update is saved.
    fn clear(&mut self);
}

impl<T> Clear for Session<T> {
    fn clear(&mut self) {
        Self::clear(self);
    }
}

impl<T: Send + Sync + 'static> Clear for LazySession<T> {
    fn clear(&mut self) {
        // Without a key there is nothing to clear.
        let _ = Self::clear(self);
    }
}

/// What has to be locked for a fragment: none without a key.
pub(crate) type Claim = Option<(Arc<Queue>, Key)>;

async fn take_turns(claims: &[Claim]) -> Result<Vec<Option<Turn>>> {
    let mut order: Vec<_> = (0..claims.len()).filter(|&index| claims[index].is_some()).collect();
    let by = |index: usize| claims[index].as_ref().map(|(queue, key)| queue.identity(key));
    order.sort_by_key(|&index| by(index));
    if order.windows(2).any(|pair| by(pair[0]) == by(pair[1])) {
        return Err(one_session());
    }
    let mut turns: Vec<_> = claims.iter().map(|_| None).collect();
    for index in order {
        if let Some((queue, key)) = &claims[index] {
            turns[index] = Some(queue.enter(key, &Nesting::Refused).await?);
        }
    }
    Ok(turns)
}

/// Two keys may have become one session by a move.
fn check_distinct(mut identities: Vec<Identity>) -> Result<()> {
    identities.sort();
    if identities.windows(2).any(|pair| pair[0] == pair[1]) { Err(one_session()) } else { Ok(()) }
}

fn one_session() -> Error {
    Error::new(
        ErrorKind::InvalidConfig,
        "two fragments are one and the same session; give each its own prefix or key",
    )
}

fn named(name: &str, error: Error) -> Error {
    error.context(format_args!("fragment `{name}`"))
}

/// The keys for a tuple of fragments: a tuple of as many.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not have one key for each fragment of this `Multi`",
    label = "expected a tuple with as many keys as there are fragments",
    note = "pass the keys in the order of the fragments: `multi.update((user_id, chat_id), ...)`"
)]
pub trait Keys<F> {
    /// In the order of the fragments.
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
    use super::{BoxFuture, Claim, Identity, Result, SessionKey, Turn};
    use crate::conflicts::Conflicts;

    pub trait Fragments: Send + Sync {
        /// What the handler gets.
        type Given;
        /// Between the read and the save.
        type Open: Send;

        fn claims(&self, keys: &[SessionKey]) -> Result<Vec<Claim>>;
        fn conflicts(&self) -> Conflicts;
        fn open<'a>(
            &'a self,
            keys: &'a [SessionKey],
            turns: Vec<Option<Turn>>,
        ) -> BoxFuture<'a, Result<Self::Open>>;
        fn give(open: &Self::Open) -> Result<Self::Given>;
        fn identities(open: &Self::Open) -> Result<Vec<Identity>>;
        fn save<'a>(&'a self, open: &'a mut Self::Open) -> BoxFuture<'a, Vec<Result<()>>>;
        fn undo(&self, open: Self::Open) -> BoxFuture<'_, ()>;
        fn again<'a>(&'a self, open: Self::Open, changed: &'a [bool]) -> BoxFuture<'a, Result<Self::Open>>;
        fn delete<'a>(&'a self, keys: &'a [SessionKey]) -> BoxFuture<'a, Result<u64>>;
    }

    /// A fragment, strict or lazy.
    pub trait Part: Send + Sync {
        type Given;
        type Open: Send;

        fn claim(&self, key: &SessionKey) -> Result<Claim>;
        fn conflicts(&self) -> Conflicts;
        fn open<'a>(&'a self, key: &'a SessionKey, turn: Option<Turn>) -> BoxFuture<'a, Result<Self::Open>>;
        fn give(open: &Self::Open) -> Result<Self::Given>;
        /// Which session it is among all, where that is known.
        fn identity(open: &Self::Open) -> Result<Option<Identity>>;
        fn save(open: &mut Self::Open) -> BoxFuture<'_, Result<()>>;
        fn undo<'a>(open: Self::Open) -> BoxFuture<'a, Result<()>>
        where
            Self: 'a;
        fn again<'a>(open: Self::Open, changed: bool) -> BoxFuture<'a, Result<Self::Open>>
        where
            Self: 'a;
        fn delete<'a>(&'a self, key: &'a SessionKey) -> BoxFuture<'a, Result<bool>>;
    }
}

impl<T: Send + Sync + 'static> sealed::Part for Strict<T> {
    type Given = Session<T>;
    type Open = Lent<T>;

    fn claim(&self, key: &SessionKey) -> Result<Claim> {
        Ok(Some((Arc::clone(&self.0.shared.queue), self.0.key(key)?)))
    }

    fn conflicts(&self) -> Conflicts {
        self.0.shared.conflicts
    }

    fn open<'a>(&'a self, key: &'a SessionKey, turn: Option<Turn>) -> BoxFuture<'a, Result<Lent<T>>> {
        Box::pin(async move {
            let turn = match turn {
                Some(turn) => turn,
                None => self.0.shared.queue.enter(&self.0.key(key)?, &Nesting::Refused).await?,
            };
            Ok(Lent::new(State::load(&self.0.shared, turn, Nesting::own()).await?))
        })
    }

    fn give(open: &Lent<T>) -> Result<Session<T>> {
        open.lend()
    }

    fn identity(open: &Lent<T>) -> Result<Option<Identity>> {
        Ok(Some(open.lend()?.identity()))
    }

    fn undo<'a>(open: Lent<T>) -> BoxFuture<'a, Result<()>>
    where
        Self: 'a,
    {
        Box::pin(async move { open.into_state()?.undo().await })
    }

    fn save(open: &mut Lent<T>) -> BoxFuture<'_, Result<()>> {
        Box::pin(async { OpenSession::from_session(open.lend()?).save().await })
    }

    fn again<'a>(open: Lent<T>, changed: bool) -> BoxFuture<'a, Result<Lent<T>>>
    where
        Self: 'a,
    {
        Box::pin(async move {
            let mut state = open.into_state()?;
            if changed {
                state = state.reload().await?;
            } else {
                state.restart().await?;
            }
            Ok(Lent::new(state))
        })
    }

    fn delete<'a>(&'a self, key: &'a SessionKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.0.delete(key))
    }
}

impl<T: Send + Sync + 'static> sealed::Part for Lazy<T> {
    type Given = LazySession<T>;
    type Open = LazySession<T>;

    fn claim(&self, key: &SessionKey) -> Result<Claim> {
        // Without a key only touching it is an error.
        Ok(self.0.key(key).ok().map(|key| (Arc::clone(&self.0.shared.queue), key)))
    }

    fn conflicts(&self) -> Conflicts {
        self.0.shared.conflicts
    }

    fn open<'a>(&'a self, key: &'a SessionKey, turn: Option<Turn>) -> BoxFuture<'a, Result<LazySession<T>>> {
        let session = LazySession::new(Arc::clone(&self.0.shared), self.0.key(key), Nesting::own(), turn);
        Box::pin(ready(Ok(session)))
    }

    fn give(open: &LazySession<T>) -> Result<LazySession<T>> {
        Ok(open.clone())
    }

    fn identity(_open: &LazySession<T>) -> Result<Option<Identity>> {
        Ok(None)
    }

    fn undo<'a>(open: LazySession<T>) -> BoxFuture<'a, Result<()>>
    where
        Self: 'a,
    {
        Box::pin(async move { open.undo().await })
    }

    fn save(open: &mut LazySession<T>) -> BoxFuture<'_, Result<()>> {
        Box::pin(open.save_for_now())
    }

    fn again<'a>(open: LazySession<T>, changed: bool) -> BoxFuture<'a, Result<LazySession<T>>>
    where
        Self: 'a,
    {
        Box::pin(async move {
            open.again(changed).await?;
            Ok(open)
        })
    }

    fn delete<'a>(&'a self, key: &'a SessionKey) -> BoxFuture<'a, Result<bool>> {
        Box::pin(self.0.delete(key))
    }
}

macro_rules! fragments {
    ($($part:ident $key:ident $index:tt),+) => {
        impl<$($key: Into<SessionKey>, $part),+> Keys<($(Fragment<$part>,)+)> for ($($key,)+) {
            fn into_keys(self) -> Vec<SessionKey> {
                vec![$(self.$index.into()),+]
            }
        }

        impl<$($part: sealed::Part),+> Fragments for ($(Fragment<$part>,)+) {}

        impl<$($part: sealed::Part),+> sealed::Fragments for ($(Fragment<$part>,)+) {
            type Given = ($($part::Given,)+);
            type Open = ($($part::Open,)+);

            fn claims(&self, keys: &[SessionKey]) -> Result<Vec<Claim>> {
                Ok(vec![$(
                    self.$index.sessions.claim(&keys[$index]).map_err(|error| named(self.$index.name, error))?
                ),+])
            }

            fn conflicts(&self) -> Conflicts {
                self.0.sessions.conflicts()
            }

            fn open<'a>(
                &'a self,
                keys: &'a [SessionKey],
                turns: Vec<Option<Turn>>,
            ) -> BoxFuture<'a, Result<Self::Open>> {
                Box::pin(async move {
                    let mut turns = turns.into_iter();
                    let mut opened = ($(None::<$part::Open>,)+);
                    let opening: Vec<BoxFuture<'_, Result<()>>> = vec![$({
                        let turn = turns.next().flatten();
                        let slot = &mut opened.$index;
                        Box::pin(async move {
                            let open = self.$index.sessions.open(&keys[$index], turn).await;
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

            fn save<'a>(&'a self, open: &'a mut Self::Open) -> BoxFuture<'a, Vec<Result<()>>> {
                let saving: Vec<BoxFuture<'_, Result<()>>> = vec![$(
                    Box::pin($part::save(&mut open.$index).map_err(|error| named(self.$index.name, error)))
                ),+];
                Box::pin(join_all(saving))
            }

            fn identities(open: &Self::Open) -> Result<Vec<Identity>> {
                Ok([$($part::identity(&open.$index)?),+].into_iter().flatten().collect())
            }

            fn undo(&self, open: Self::Open) -> BoxFuture<'_, ()> {
                Box::pin(async move {
                    let undone = [$($part::undo(open.$index).await),+];
                    for error in undone.into_iter().filter_map(Result::err) {
                        tracing::warn!(kind = %error.kind(), %error, "a fragment that was saved could not be put back");
                    }
                })
            }

            fn again<'a>(
                &'a self,
                open: Self::Open,
                changed: &'a [bool],
            ) -> BoxFuture<'a, Result<Self::Open>> {
                Box::pin(async move {
                    Ok(($(
                        $part::again(open.$index, changed[$index])
                            .await
                            .map_err(|error| named(self.$index.name, error))?,
                    )+))
                })
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

        impl<$($part: Clear),+> Clear for ($($part,)+) {
            fn clear(&mut self) {
                $(self.$index.clear();)+
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

/// A tuple of options, when all have been filled.
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

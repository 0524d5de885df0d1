//! The step that enters a session.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    panic::Location,
};

use larder_core::{Error, ErrorKind};
use larder_session::{LazySession, SessionKey, Sessions};
use teloxide::{
    dispatching::{DpHandlerDescription, UpdateHandler},
    dptree::{Cont, HandlerDescription, HandlerSignature, Type, di::DependencyMap, from_fn_with_description},
    types::Update,
};

use crate::{By, allowed_updates::with_messages, migration::moved};

/// Loads the session of the update, passes it to the handlers after this step, and saves their changes.
///
/// The handlers take a [`LazySession<T>`](LazySession): `session.modify(|chat| chat.pizzas += 1).await?`.
/// Clones are handles to the same session, as long as the handlers run. The session is read once, before the
/// first handler, and, if it has changed, written once, after the last. If a handler fails, nothing is
/// written. If the session cannot be loaded, no handler runs; if it cannot be saved, the update fails. In
/// both cases the dispatcher's error handler gets the error. An update without a session (for example,
/// without a chat) continues to the next branch.
///
/// Updates of one session take turns, also updates from other chats. A handler runs only once: if another
/// process changes the session in the meantime, the handler's changes are not saved, and the update fails
/// with a [`Conflict`](ErrorKind::Conflict). If several processes serve one bot, change the session in
/// [`Sessions::modify`] (outside this step), which runs its closure again, or hold a [lease](Sessions::lock).
///
/// With [`By::Chat`], a session follows its group to the supergroup, with [`Sessions::move_key`]. If the
/// supergroup already has its own session (for example, because the storage was down),
/// [`merge`](larder_session::SessionsBuilder::merge) combines both; without it, that is an error.
///
/// The step depends on `Sessions<T>`. Without this dependency, `build` of the dispatcher panics, as with
/// every dependency in teloxide.
///
/// ```
/// use larder_memory::MemoryStorage;
/// use larder_teloxide::{By, LazySession, Sessions, enter_session};
/// use teloxide::{dispatching::UpdateHandler, prelude::*};
///
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Chat {
///     pizzas: u32,
/// }
/// type Failure = Box<dyn std::error::Error + Send + Sync>;
///
/// fn schema() -> UpdateHandler<Failure> {
///     enter_session::<Chat, Failure>(By::Chat).branch(Update::filter_message().endpoint(count))
/// }
///
/// async fn count(bot: Bot, message: Message, session: LazySession<Chat>) -> Result<(), Failure> {
///     let pizzas = session.modify(|chat| { chat.pizzas += 1; chat.pizzas }).await?;
///     bot.send_message(message.chat.id, format!("That makes {pizzas}.")).await?;
///     Ok(())
/// }
///
/// # fn main() -> larder_teloxide::Result<()> {
/// let sessions = Sessions::<Chat>::builder().storage(MemoryStorage::new()).prefix("chat:").build()?;
/// let dependencies = dptree::deps![sessions];
/// # let _ = schema();
/// # Ok(())
/// # }
/// ```
#[must_use]
#[track_caller]
pub fn enter_session<T, E>(by: By) -> UpdateHandler<E>
where
    T: Send + Sync + 'static,
    E: From<Error> + Send + 'static,
{
    enter::<T, E>(by, Load::First)
}

/// Same as [`enter_session`], but reads and writes nothing unless a handler uses the session.
#[must_use]
#[track_caller]
pub fn enter_lazy_session<T, E>(by: By) -> UpdateHandler<E>
where
    T: Send + Sync + 'static,
    E: From<Error> + Send + 'static,
{
    enter::<T, E>(by, Load::OnTouch)
}

/// When to read the session.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    First,
    OnTouch,
}

#[track_caller]
fn enter<T, E>(by: By, load: Load) -> UpdateHandler<E>
where
    T: Send + Sync + 'static,
    E: From<Error> + Send + 'static,
{
    let here = Location::caller();
    from_fn_with_description(
        match by {
            By::Chat => with_messages(),
            _ => DpHandlerDescription::entry(),
        },
        move |dependencies: DependencyMap, next| {
            let by = by.clone();
            async move {
                let update = dependencies.get::<Update>();
                let sessions = dependencies.get::<Sessions<T>>();
                let mut key = by.of(&update);
                if key.as_str().is_none() {
                    return ControlFlow::Continue(dependencies);
                }
                if let By::Chat = by
                    && let Some((group, supergroup)) = moved(&update)
                {
                    if let Err(error) = sessions.move_key(group.0, supergroup.0).await {
                        return ControlFlow::Break(Err(error.into()));
                    }
                    // The session is now under the new id, so both messages about the move take turns there.
                    key = supergroup.0.into();
                }
                run(&sessions, key, load, dependencies, next).await
            }
        },
        HandlerSignature::Other {
            obligations: BTreeMap::from([(Type::of::<Sessions<T>>(), here), (Type::of::<Update>(), here)]),
            guaranteed_outcomes: BTreeSet::from([Type::of::<LazySession<T>>()]),
            conditional_outcomes: BTreeSet::new(),
            continues: true,
        },
    )
}

/// Whether a handler matched the update.
enum Handled {
    Yes,
    No,
}

async fn run<T, E>(
    sessions: &Sessions<T>,
    key: SessionKey,
    load: Load,
    dependencies: DependencyMap,
    next: Cont<'static, Result<(), E>>,
) -> ControlFlow<Result<(), E>, DependencyMap>
where
    T: Send + Sync + 'static,
    E: From<Error> + Send + 'static,
{
    let mut next = Some(next);
    let handled = sessions.update_lazy(key, |session| {
        let next = next.take().ok_or_else(overtaken);
        let mut inner = dependencies.clone();
        async move {
            let next = next?;
            if load == Load::First {
                session.load().await?;
            }
            inner.insert(session);
            match next(inner).await {
                ControlFlow::Break(outcome) => outcome.map(|()| Handled::Yes),
                ControlFlow::Continue(_) => Ok(Handled::No),
            }
        }
    });
    match handled.await {
        Ok(Handled::Yes) => ControlFlow::Break(Ok(())),
        Ok(Handled::No) => ControlFlow::Continue(dependencies),
        Err(error) => ControlFlow::Break(Err(error)),
    }
}

/// The handlers of an update run only once, because the rest of a tree cannot be called again.
fn overtaken() -> Error {
    Error::new(
        ErrorKind::Conflict,
        "another process, or an update with the chat's other id, changed the session while this update was \
         handled; it was not overwritten: use `Sessions::modify` instead, or hold a lease",
    )
}

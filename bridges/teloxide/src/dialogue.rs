//! Entering a dialogue.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    panic::Location,
    sync::Arc,
};

use larder_core::{Error, ErrorKind, Result};
use teloxide::{
    dispatching::{UpdateHandler, dialogue::Dialogue},
    dptree::{HandlerSignature, Type, di::DependencyMap, from_fn_with_description},
    types::{ChatId, Update},
};

use crate::{LarderStorage, migration::moved, wanted::with_messages};

/// As teloxide's `dialogue::enter`, in two things better: where the state cannot be had, the dispatcher's
/// error handler is told why, instead of the update going on as if no handler were meant for it; and the
/// dialogue of a group follows it when it becomes a supergroup.
///
/// The handlers after it can take a `Dialogue<D, LarderStorage<D>>` and the state, a `D`. An update of no
/// chat goes on to the next branch.
///
/// It depends on an `Arc<LarderStorage<D>>`. A dispatcher that is built without it panics then and there, as
/// with every dependency of teloxide's.
///
/// ```
/// use larder_teloxide::{LarderStorage, enter_dialogue};
/// use teloxide::{dispatching::UpdateHandler, prelude::*};
///
/// #[derive(Clone, Default)]
/// enum State {
///     #[default]
///     Start,
///     ReceiveFullName,
/// }
/// type Failure = Box<dyn std::error::Error + Send + Sync>;
///
/// fn schema() -> UpdateHandler<Failure> {
///     enter_dialogue::<State, Failure>()
///         .branch(Update::filter_message().branch(dptree::case![State::Start].endpoint(start)))
/// }
///
/// async fn start(dialogue: Dialogue<State, LarderStorage<State>>) -> Result<(), Failure> {
///     dialogue.update(State::ReceiveFullName).await?;
///     Ok(())
/// }
/// # let _ = schema();
/// ```
#[must_use]
#[track_caller]
pub fn enter_dialogue<D, E>() -> UpdateHandler<E>
where
    D: Default + Clone + Send + Sync + 'static,
    E: From<Error> + 'static,
{
    let here = Location::caller();
    from_fn_with_description(
        with_messages(),
        |dependencies: DependencyMap, next| async move {
            let update = dependencies.get::<Update>();
            let Some(chat) = update.chat() else {
                return ControlFlow::Continue(dependencies);
            };
            let storage = Arc::clone(&*dependencies.get::<Arc<LarderStorage<D>>>());
            let state = match state(&storage, &update, chat.id).await {
                Ok(state) => state,
                Err(error) => return ControlFlow::Break(Err(error.into())),
            };
            let mut inner = dependencies.clone();
            inner.insert(Dialogue::<D, _>::new(storage, chat.id));
            inner.insert(state);
            match next(inner).await {
                ControlFlow::Continue(_) => ControlFlow::Continue(dependencies),
                done => done,
            }
        },
        HandlerSignature::Other {
            obligations: BTreeMap::from([
                (Type::of::<Arc<LarderStorage<D>>>(), here),
                (Type::of::<Update>(), here),
            ]),
            guaranteed_outcomes: BTreeSet::from([
                Type::of::<Dialogue<D, LarderStorage<D>>>(),
                Type::of::<D>(),
            ]),
            conditional_outcomes: BTreeSet::new(),
            continues: true,
        },
    )
}

/// The state of the dialogue; where there is none, it begins with the default, as in teloxide.
async fn state<D>(storage: &LarderStorage<D>, update: &Update, chat: ChatId) -> Result<D>
where
    D: Default + Clone + Send + Sync + 'static,
{
    if let Some((group, supergroup)) = moved(update) {
        match storage.move_chat(group, supergroup).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                tracing::warn!(%error, "a dialogue cannot follow its group, and begins anew");
            }
            moved => moved?,
        }
    }
    storage.begin(chat).await
}

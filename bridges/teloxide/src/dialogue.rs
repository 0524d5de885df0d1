//! The step that enters a dialogue.

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

use crate::{LarderStorage, allowed_updates::with_messages, migration::moved};

/// Enters the dialogue of the update's chat. Replaces teloxide's `dialogue::enter`, with two differences:
///
/// - If the state cannot be read, the dispatcher's error handler gets the error. (With teloxide's function
///   the update continues as if no handler matched it.)
/// - The dialogue of a group follows it when it becomes a supergroup.
///
/// The handlers after this step can take a `Dialogue<D, LarderStorage<D>>`, and the state, a `D`. An update
/// without a chat continues to the next branch.
///
/// The step depends on an `Arc<LarderStorage<D>>`. Without this dependency, `build` of the dispatcher panics,
/// as with every dependency in teloxide.
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

/// Returns the state of the dialogue. If it does not exist, it begins with the default, as in teloxide.
async fn state<D>(storage: &LarderStorage<D>, update: &Update, chat: ChatId) -> Result<D>
where
    D: Default + Clone + Send + Sync + 'static,
{
    if let Some((group, supergroup)) = moved(update) {
        match storage.move_chat(group, supergroup).await {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                tracing::warn!(%error, "a dialogue cannot follow its group, and starts again");
            }
            moved => moved?,
        }
    }
    storage.begin(chat).await
}

//! Which updates the bot asks Telegram for.

use teloxide::{
    dispatching::{DpHandlerDescription, UpdateFilterExt, UpdateHandler},
    dptree::HandlerDescription,
    types::Update,
};

/// Those that the handlers after it want, and messages, which tell that a group has become a supergroup.
///
/// teloxide takes a step that it does not know for one that wants everything; then each reaction to a
/// message would come, and would be read and saved for.
pub(crate) fn with_messages() -> DpHandlerDescription {
    let messages: UpdateHandler<()> = Update::filter_message().endpoint(async || Ok(()));
    DpHandlerDescription::entry().merge_branch(messages.description())
}

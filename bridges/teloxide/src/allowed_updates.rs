//! The updates that the bot requests from Telegram.

use teloxide::{
    dispatching::{DpHandlerDescription, UpdateFilterExt, UpdateHandler},
    dptree::HandlerDescription,
    types::Update,
};

/// The updates for the handlers after this step, and messages, because they announce that a group has become
/// a supergroup.
///
/// By default, teloxide assumes that an unknown step needs all updates. Then Telegram would send every
/// reaction to a message, and each would cause a read and a write.
pub(crate) fn with_messages() -> DpHandlerDescription {
    let messages: UpdateHandler<()> = Update::filter_message().endpoint(async || Ok(()));
    DpHandlerDescription::entry().merge_branch(messages.description())
}

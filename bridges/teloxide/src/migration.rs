//! Groups that become supergroups.

use teloxide::types::{ChatId, Update, UpdateKind};

/// The old and the new id of the chat, where the update is the message that says that a group has become a
/// supergroup. Telegram sends two of them, one in each.
///
/// <https://core.telegram.org/bots/api#message>: `migrate_to_chat_id`, `migrate_from_chat_id`
pub(crate) fn moved(update: &Update) -> Option<(ChatId, ChatId)> {
    let UpdateKind::Message(message) = &update.kind else {
        return None;
    };
    let here = message.chat.id;
    let to = message.migrate_to_chat_id().map(|to| (here, *to));
    to.or_else(|| message.migrate_from_chat_id().map(|from| (*from, here)))
}

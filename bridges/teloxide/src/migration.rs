//! Groups that become supergroups.

use teloxide::types::{ChatId, Update, UpdateKind};

/// Returns the old and the new id of the chat, if the update is a message about a group that becomes a
/// supergroup. Telegram sends two of these messages, one in each chat.
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

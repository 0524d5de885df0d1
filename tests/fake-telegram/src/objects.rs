//! Telegram's objects, as it writes them; <https://core.telegram.org/bots/api#available-types>.

use std::time::SystemTime;

use serde_json::{Value, json};

/// The ids of supergroups, and of channels, are these and less.
const SUPERGROUPS: i64 = -1_000_000_000_000;

const BOT: i64 = 5_000_000_000;

/// The member of a group who writes by default.
const MEMBER: i64 = 4242;

/// The user who writes in a chat by default. A private chat has the id of its user.
pub(crate) fn default_user_of(chat: i64) -> i64 {
    if chat > 0 { chat } else { MEMBER }
}

pub(crate) fn user(id: i64) -> Value {
    json!({ "id": id, "is_bot": false, "first_name": format!("User {id}"), "language_code": "en" })
}

/// The sender of an anonymous admin's messages.
pub(crate) fn anonymous_admin() -> Value {
    json!({ "id": 1_087_968_824, "is_bot": true, "first_name": "Group", "username": "GroupAnonymousBot" })
}

pub(crate) fn bot_user() -> Value {
    json!({ "id": BOT, "is_bot": true, "first_name": "Larder", "username": "larder_bot" })
}

/// The bot as it sees itself.
pub(crate) fn bot() -> Value {
    let mut bot = bot_user();
    bot["can_join_groups"] = true.into();
    // In a group it receives every message here.
    bot["can_read_all_group_messages"] = true.into();
    for cannot in ["supports_inline_queries", "can_connect_to_business", "has_main_web_app"] {
        bot[cannot] = false.into();
    }
    bot
}

pub(crate) fn chat(id: i64) -> Value {
    if id > 0 {
        json!({ "id": id, "type": "private", "first_name": format!("User {id}") })
    } else if id > SUPERGROUPS {
        let title = format!("Group {id}");
        json!({ "id": id, "type": "group", "title": title, "all_members_are_administrators": true })
    } else {
        json!({ "id": id, "type": "supergroup", "title": format!("Supergroup {id}") })
    }
}

pub(crate) fn message(number: u64, chat: i64, from: Value, content: Value) -> Value {
    let mut message = json!({ "message_id": number, "from": from, "chat": self::chat(chat), "date": now() });
    if let (Value::Object(message), Value::Object(content)) = (&mut message, content) {
        message.extend(content);
    }
    message
}

/// The content of a message with text. A command at its beginning is marked as one.
pub(crate) fn text(text: &str) -> Value {
    let mut content = json!({ "text": text });
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_@".contains(character);
    if let Some(rest) = text.strip_prefix('/') {
        let length = 1 + rest.find(|character| !is_part(character)).unwrap_or(rest.len());
        if length > 1 {
            content["entities"] = json!([{ "type": "bot_command", "offset": 0, "length": length }]);
        }
    }
    content
}

/// A message that is too old for the bot; `date` 0 marks it as inaccessible.
pub(crate) fn inaccessible_message(chat: i64) -> Value {
    json!({ "chat": self::chat(chat), "message_id": 1, "date": 0 })
}

/// The chat of an update.
pub(crate) fn chat_of(update: &Value) -> Option<i64> {
    let content = update.as_object()?.values().find(|value| value.is_object())?;
    let chat = content.get("chat").or_else(|| content.get("message")?.get("chat"))?;
    chat["id"].as_i64()
}

/// The labels of an inline keyboard, row by row.
pub(crate) fn labels(markup: &Value) -> Vec<String> {
    buttons(markup).filter_map(|button| button["text"].as_str()).map(str::to_owned).collect()
}

/// The data of the button with this label, in the keyboard of a message.
pub(crate) fn button_data<'a>(message: &'a Value, label: &str) -> Option<&'a str> {
    buttons(&message["reply_markup"]).find(|button| button["text"] == label)?["callback_data"].as_str()
}

fn buttons(markup: &Value) -> impl Iterator<Item = &Value> {
    let rows = markup["inline_keyboard"].as_array().into_iter().flatten();
    rows.filter_map(Value::as_array).flatten()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(1, |time| time.as_secs())
}

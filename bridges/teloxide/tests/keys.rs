//! The keys of updates.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use larder_teloxide::{By, SessionKey};
use serde_json::{Value, json};
use teloxide::types::Update;

fn update(update: Value) -> Update {
    let mut update = update;
    update["update_id"] = 1.into();
    // Parsed from text, because teloxide cannot read an update from a `Value`.
    serde_json::from_str(&update.to_string()).unwrap()
}

fn user(id: u64) -> Value {
    json!({ "id": id, "is_bot": false, "first_name": "Ann" })
}

/// Returns the keys by chat, by user, and by both.
fn keys(update: &Update) -> [Option<String>; 3] {
    [By::Chat, By::User, By::UserAndChat].map(|by| by.of(update).as_str().map(str::to_owned))
}

fn some(keys: [&str; 3]) -> [Option<String>; 3] {
    keys.map(|key| Some(key.to_owned()))
}

#[test]
fn messages_have_keys_in_private_chats_and_groups() {
    let message = |chat: Value| {
        update(
            json!({ "message": { "message_id": 1, "date": 1, "from": user(42), "chat": chat, "text": "" } }),
        )
    };
    let private = message(json!({ "id": 42, "type": "private", "first_name": "Ann" }));
    assert_eq!(keys(&private), some(["42", "42", "42/42"]));
    let group = message(json!({ "id": -1_001_234_567_890_i64, "type": "supergroup", "title": "Group" }));
    assert_eq!(keys(&group), some(["-1001234567890", "42", "42/-1001234567890"]));
}

#[test]
fn a_missing_id_is_a_missing_key() {
    let post = update(json!({ "channel_post": {
        "message_id": 1, "date": 1, "text": "", "chat": { "id": -1_001, "type": "channel", "title": "News" },
    } }));
    assert_eq!(keys(&post), [Some("-1001".to_owned()), None, None], "a channel post has no user");
    let inline =
        update(json!({ "inline_query": { "id": "1", "from": user(42), "query": "", "offset": "" } }));
    assert_eq!(keys(&inline), [None, Some("42".to_owned()), None], "an inline query has no chat");
    let poll = update(json!({ "poll": {
        "id": "1", "question": "?", "options": [], "total_voter_count": 0, "is_closed": false,
        "is_anonymous": true, "type": "regular", "allows_multiple_answers": false,
    } }));
    assert_eq!(keys(&poll), [None, None, None]);
}

#[test]
fn a_function_can_make_the_key() {
    let by = By::key(|update: &Update| Some(SessionKey::from(format!("all/{}", update.from()?.id))));
    let inline =
        update(json!({ "inline_query": { "id": "1", "from": user(42), "query": "", "offset": "" } }));
    assert_eq!(by.of(&inline).as_str(), Some("all/42"));
    let post = update(json!({ "message": {
        "message_id": 1, "date": 1, "text": "", "chat": { "id": -1, "type": "channel", "title": "News" },
    } }));
    assert_eq!(by.of(&post).as_str(), None);
    assert_eq!(format!("{by:?} {:?}", By::Chat), "Key(KeyOf(..)) Chat");
}

//! Whose session an update belongs to.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use larder_teloxide::{By, SessionKey};
use serde_json::{Value, json};
use teloxide::types::Update;

fn update(update: Value) -> Update {
    let mut update = update;
    update["update_id"] = 1.into();
    // From text, as it comes: from a `Value` teloxide reads no updates.
    serde_json::from_str(&update.to_string()).unwrap()
}

fn user(id: u64) -> Value {
    json!({ "id": id, "is_bot": false, "first_name": "Ann" })
}

/// Keys by chat, by user, and by both.
fn keys(update: &Update) -> [Option<String>; 3] {
    [By::Chat, By::User, By::UserAndChat].map(|by| by.of(update).as_str().map(str::to_owned))
}

fn some(keys: [&str; 3]) -> [Option<String>; 3] {
    keys.map(|key| Some(key.to_owned()))
}

#[test]
fn a_message_in_a_private_chat_and_in_a_group() {
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
fn what_is_missing_is_no_key() {
    let post = update(json!({ "channel_post": {
        "message_id": 1, "date": 1, "text": "", "chat": { "id": -1_001, "type": "channel", "title": "News" },
    } }));
    assert_eq!(keys(&post), [Some("-1001".to_owned()), None, None], "nobody has posted it");
    let inline =
        update(json!({ "inline_query": { "id": "1", "from": user(42), "query": "", "offset": "" } }));
    assert_eq!(keys(&inline), [None, Some("42".to_owned()), None], "it was asked nowhere");
    let poll = update(json!({ "poll": {
        "id": "1", "question": "?", "options": [], "total_voter_count": 0, "is_closed": false,
        "is_anonymous": true, "type": "regular", "allows_multiple_answers": false,
    } }));
    assert_eq!(keys(&poll), [None, None, None]);
}

#[test]
fn a_key_of_ones_own() {
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

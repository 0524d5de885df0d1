//! Failures: a storage that is down, foreign data, and invalid options.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // A test fails by panicking.

mod support;

use std::{sync::Arc, time::Duration};

use larder_bridge_tests::{Poor, Probe};
use larder_core::{Bytes, Error, ErrorKind, Key, Result, Store};
use larder_fake_telegram::Telegram;
use larder_memory::MemoryStorage;
use larder_teloxide::{By, DialogueError, LarderStorage, Lifetime};
use larder_testkit::until;
use serde_json::json;
use teloxide::{dispatching::dialogue::Storage as _, types::ChatId};

use self::support::{
    Failures, Running, counter,
    purchase::{self, State},
};

const ANN: i64 = 42;
const PATIENCE: Duration = Duration::from_secs(60);
const SORRY: &str = "An error occurred. Please try again later.";

async fn purchases(storage: impl Into<Store>) -> (Telegram, Arc<Failures>, Running) {
    let telegram = Telegram::start().await.unwrap();
    let failures = Failures::new();
    let dialogues = LarderStorage::new(storage).unwrap();
    let bot =
        purchase::dispatcher(telegram.bot(), dialogues).error_handler(Arc::<Failures>::clone(&failures));
    let bot = Running::start(&telegram, bot);
    (telegram, failures, bot)
}

async fn counts(storage: impl Into<Store>) -> (Telegram, Arc<Failures>, Running) {
    let telegram = Telegram::start().await.unwrap();
    let failures = Failures::new();
    let bot = counter::bot(telegram.bot(), By::Chat, counter::sessions(storage));
    let bot = Running::start(&telegram, bot.error_handler(Arc::<Failures>::clone(&failures)));
    (telegram, failures, bot)
}

async fn says(telegram: &Telegram, text: &str) {
    assert_eq!(telegram.next_sent().await.text, text);
}

#[tokio::test]
async fn a_dialogue_is_kept_while_the_store_is_down() {
    let probe = Probe::new();
    let (telegram, failures, bot) = purchases(probe.clone()).await;
    telegram.message(ANN, "/start");
    says(&telegram, "Let's start! What's your full name?").await;
    for break_it in [Probe::set_down, Probe::set_read_only] {
        break_it(&probe, true);
        telegram.message(ANN, "Ann");
        // The dialogue neither starts again nor continues.
        says(&telegram, SORRY).await;
        assert_eq!(failures.next_kind().await, ErrorKind::Unavailable);
        break_it(&probe, false);
    }
    telegram.message(ANN, "Ann");
    says(&telegram, "Select a product:").await;
    bot.stop().await;
    assert_eq!(failures.count().await, 0);
}

#[tokio::test]
async fn a_count_is_kept_while_the_store_is_down() {
    let probe = Probe::new();
    let (telegram, failures, bot) = counts(probe.clone()).await;
    telegram.message(ANN, "+1");
    says(&telegram, "1").await;
    // The session is saved after the handler, which has already answered.
    let key = Key::new("tally:42").unwrap();
    until("the session is saved", PATIENCE, async || probe.storage().contains(&key).await.unwrap()).await;
    probe.set_down(true);
    telegram.message(ANN, "+1");
    assert_eq!(failures.next_kind().await, ErrorKind::Unavailable);
    probe.set_down(false);
    // If the session cannot be saved, the update fails although the handler has answered.
    probe.set_read_only(true);
    telegram.message(ANN, "+1");
    says(&telegram, "2").await;
    assert_eq!(failures.next_kind().await, ErrorKind::Unavailable);
    telegram.message(ANN, "/safe");
    assert_eq!(failures.next_kind().await, ErrorKind::Unavailable);
    probe.set_read_only(false);
    telegram.message(ANN, "/safe");
    says(&telegram, "safe").await;
    telegram.message(ANN, "+1");
    says(&telegram, "3").await;
    bot.stop().await;
    assert_eq!(failures.count().await, 0);
}

#[tokio::test]
async fn an_untouched_lazy_session_needs_no_storage() {
    let probe = Probe::new();
    probe.set_down(true);
    let telegram = Telegram::start().await.unwrap();
    let failures = Failures::new();
    let bot = counter::lazy_bot(telegram.bot(), By::Chat, counter::sessions(probe.clone()));
    let bot = Running::start(&telegram, bot.error_handler(Arc::<Failures>::clone(&failures)));
    telegram.message(ANN, "/idle");
    says(&telegram, "idle").await;
    telegram.message(ANN, "/count");
    assert_eq!(failures.next_kind().await, ErrorKind::Unavailable);
    bot.stop().await;
}

#[tokio::test]
async fn foreign_data_are_an_error_and_not_overwritten() {
    let foreign = Bytes::from_static(br#"{"cookie":{"path":"/"},"user":"secret"}"#);
    let storage = Store::new(MemoryStorage::new());
    for key in ["dialogue:42", "tally:42"] {
        storage.write(key, foreign.clone()).await.unwrap();
    }
    let (telegram, failures, bot) = purchases(storage.clone()).await;
    for text in ["/start", "Ann", "/cancel"] {
        telegram.message(ANN, text);
        says(&telegram, SORRY).await;
        let error = failures.next().await;
        assert_eq!(error.downcast_ref::<Error>().unwrap().kind(), ErrorKind::Codec);
        assert!(!format!("{error:#} {error:?}").contains("secret"));
    }
    bot.stop().await;

    let (telegram, failures, bot) = counts(storage.clone()).await;
    for text in ["+1", "/count", "/forget"] {
        telegram.message(ANN, text);
        assert_eq!(failures.next_kind().await, ErrorKind::Codec);
    }
    bot.stop().await;
    for key in ["dialogue:42", "tally:42"] {
        let record = storage.read(key).await.unwrap().unwrap();
        assert_eq!(record.value, foreign);
    }
}

#[tokio::test]
async fn malformed_updates_do_not_stop_the_bot() {
    let storage = Store::new(MemoryStorage::new());
    let (telegram, failures, bot) = purchases(storage.clone()).await;
    let chat = json!({ "id": i64::MIN, "type": "private", "first_name": "" });
    for update in [
        // Without a chat.
        json!({ "callback_query": { "id": "1", "from": { "id": 1, "is_bot": false, "first_name": "" }, "chat_instance": "", "inline_message_id": "1", "data": "Banana" } }),
        json!({ "message": { "message_id": 1, "date": 0, "chat": chat, "text": "\u{0}" } }),
        json!({ "message": { "message_id": 1, "date": 0, "chat": chat, "migrate_to_chat_id": i64::MIN } }),
        // Not valid in the Bot API.
        json!({ "message": { "chat": "chat" } }),
        json!({ "message": null }),
    ] {
        telegram.update(update);
    }
    telegram.message(ANN, "/start");
    loop {
        if telegram.next_sent().await.chat == ANN {
            break;
        }
    }
    bot.stop().await;
    assert_eq!(failures.count().await, 0);
}

#[tokio::test]
async fn dialogues_need_only_the_required_methods() {
    let dialogues = LarderStorage::<State>::new(Poor::default()).unwrap();
    for state in [State::ReceiveFullName, State::Start] {
        Arc::clone(&dialogues).update_dialogue(ChatId(ANN), state.clone()).await.unwrap();
        assert_eq!(Arc::clone(&dialogues).get_dialogue(ChatId(ANN)).await.unwrap(), Some(state));
    }
    Arc::clone(&dialogues).remove_dialogue(ChatId(ANN)).await.unwrap();
    let again = Arc::clone(&dialogues).remove_dialogue(ChatId(ANN)).await;
    assert!(matches!(again, Err(DialogueError::NotFound)));
    let moved = dialogues.move_chat(ChatId(-1), ChatId(-2)).await.unwrap_err();
    assert_eq!(moved.kind(), ErrorKind::Unsupported);
}

#[test]
fn invalid_settings_are_rejected_by_build() {
    let kind = |built: Result<Arc<LarderStorage<State>>>| built.unwrap_err().kind();
    let builder = || LarderStorage::<State>::builder(MemoryStorage::new());
    assert_eq!(kind(builder().prefix("line\nbreak").build()), ErrorKind::InvalidConfig);
    assert_eq!(kind(builder().prefix("x".repeat(513)).build()), ErrorKind::InvalidConfig);
    let mortal = LarderStorage::<State>::builder(Poor::default())
        .lifetime(Lifetime::after_write(Duration::from_secs(1)));
    assert_eq!(kind(mortal.build()), ErrorKind::Unsupported);
}

#[tokio::test]
async fn debug_prints_neither_state_nor_chat() {
    let dialogues = LarderStorage::<State>::new(MemoryStorage::new()).unwrap();
    let state = State::ReceiveProductChoice { full_name: "Ann".to_owned() };
    Arc::clone(&dialogues).update_dialogue(ChatId(4242), state).await.unwrap();
    let builder = LarderStorage::<State>::builder(MemoryStorage::new());
    let printed = format!("{dialogues:?} {builder:?} {}", DialogueError::NotFound);
    assert!(printed.contains("dialogue:"));
    assert!(!printed.contains("Ann") && !printed.contains("4242"), "{printed}");
}

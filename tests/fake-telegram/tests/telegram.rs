//! The fake behaves as Telegram documents.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::time::{Duration, Instant};

use larder_fake_telegram::{Failure, Sent, Telegram, within_a_minute};
use serde_json::json;
use teloxide::{
    ApiError, Bot, RequestError,
    dispatching::UpdateFilterExt,
    dptree,
    payloads::{AnswerCallbackQuerySetters, GetUpdatesSetters, SendMessageSetters},
    prelude::{Dispatcher, Requester},
    types::{
        AllowedUpdate, ChatAction, ChatId, InlineKeyboardButton, InlineKeyboardMarkup, Message, Update,
        UpdateKind,
    },
};

fn ids(updates: &[Update]) -> Vec<u32> {
    updates.iter().map(|update| update.id.0).collect()
}

async fn ready() -> (Telegram, Bot) {
    let telegram = Telegram::start().await.unwrap();
    let bot = telegram.bot();
    (telegram, bot)
}

#[tokio::test]
async fn an_update_is_delivered_until_a_later_offset_confirms_it() {
    let (telegram, bot) = ready().await;
    let sent: Vec<_> = ["one", "two", "three"].map(|text| telegram.message(42, text)).into();
    assert_eq!([sent[0] + 1, sent[0] + 2], sent[1..]);
    for _ in 0..2 {
        assert_eq!(ids(&bot.get_updates().await.unwrap()), sent);
    }
    assert_eq!(ids(&bot.get_updates().limit(2).await.unwrap()), sent[..2]);
    let offset = i32::try_from(sent[1]).unwrap();
    assert_eq!(ids(&bot.get_updates().offset(offset).await.unwrap()), sent[1..]);
    telegram.confirmed(sent[0]).await;
    // Confirmed updates are gone, even for an offset before them.
    assert_eq!(ids(&bot.get_updates().offset(offset - 1).await.unwrap()), sent[1..]);
    assert_eq!(ids(&bot.get_updates().offset(-1).await.unwrap()), sent[2..]);
    assert_eq!(ids(&bot.get_updates().await.unwrap()), sent[2..]);
    assert!(bot.get_updates().offset(offset + 2).await.unwrap().is_empty());
    telegram.confirmed(sent[2]).await;
}

#[tokio::test]
async fn a_poll_waits_for_an_update_until_its_timeout() {
    let (telegram, bot) = ready().await;
    let start = Instant::now();
    assert!(bot.get_updates().timeout(1).await.unwrap().is_empty());
    assert!(start.elapsed() >= Duration::from_secs(1));

    let poll = tokio::spawn({
        let bot = bot.clone();
        async move { bot.get_updates().timeout(50).await }
    });
    telegram.idle().await;
    let sent = telegram.message(42, "hello");
    assert_eq!(ids(&poll.await.unwrap().unwrap()), [sent]);
}

#[tokio::test]
async fn a_second_poll_ends_the_first() {
    let (telegram, bot) = ready().await;
    let first = tokio::spawn({
        let bot = bot.clone();
        async move { bot.get_updates().timeout(50).await }
    });
    telegram.idle().await;
    assert!(bot.get_updates().await.unwrap().is_empty());
    let conflict = first.await.unwrap().unwrap_err();
    assert!(matches!(conflict, RequestError::Api(ApiError::TerminatedByOtherGetUpdates)), "{conflict}");
}

#[tokio::test]
async fn a_disconnect_ends_the_poll() {
    let (telegram, bot) = ready().await;
    let poll = tokio::spawn(async move { bot.get_updates().timeout(50).await });
    telegram.idle().await;
    poll.abort();
    let _ = poll.await;
    // The server detects the closed connection.
    let gone = async {
        while telegram.is_idle() {
            tokio::task::yield_now().await;
        }
    };
    within_a_minute("the poll to end", gone).await;
}

#[tokio::test]
async fn only_the_kinds_that_the_bot_asked_for_are_sent() {
    let (telegram, bot) = ready().await;
    let reaction = || json!({ "message_reaction": { "chat": { "id": 42, "type": "private" } } });
    telegram.update(reaction());
    let before = telegram.message(42, "before");
    let only_presses = bot.get_updates().allowed_updates([AllowedUpdate::CallbackQuery]);
    assert_eq!(ids(&only_presses.await.unwrap()), [before], "it applies to later updates");
    telegram.message(42, "after");
    let press = telegram.press(42, "Banana");
    let updates = bot.get_updates().await.unwrap();
    assert_eq!(ids(&updates), [before, press], "the filter is remembered");
    bot.get_updates().allowed_updates([]).await.unwrap();
    let again = telegram.message(42, "again");
    assert_eq!(ids(&bot.get_updates().await.unwrap()), [before, press, again]);
}

#[tokio::test]
async fn teloxide_reads_the_updates() {
    let (telegram, bot) = ready().await;
    telegram.message(42, "/start now");
    telegram.message_in_group(-5, 7, "hello");
    telegram.message(-1_001_234_567_890, "hello");
    telegram.migrate(-5, -1_001_234_567_891);
    telegram.press(42, "Banana");
    let updates = bot.get_updates().await.unwrap();
    let messages: Vec<&Message> = updates
        .iter()
        .filter_map(|update| match &update.kind {
            UpdateKind::Message(message) => Some(message),
            _ => None,
        })
        .collect();
    let [private, group, supergroup, to, from] = messages[..] else { panic!("{updates:?}") };
    assert!(private.chat.is_private() && private.chat.id == private.from.as_ref().unwrap().id);
    assert_eq!(private.parse_entities().unwrap()[0].text(), "/start");
    assert!(group.chat.is_group() && group.from.as_ref().unwrap().id.0 == 7);
    assert!(supergroup.chat.is_supergroup() && supergroup.text() == Some("hello"));
    assert_eq!(to.migrate_to_chat_id(), Some(&ChatId(-1_001_234_567_891)));
    assert_eq!(from.migrate_from_chat_id(), Some(&ChatId(-5)));
    assert!(from.chat.is_supergroup());
    let UpdateKind::CallbackQuery(press) = &updates[5].kind else { panic!("{updates:?}") };
    assert!(press.regular_message().is_none() && press.data.as_deref() == Some("Banana"));
    assert_eq!(updates[5].chat().unwrap().id.0, 42);
}

#[tokio::test]
async fn a_press_uses_the_last_keyboard_with_the_label() {
    let (telegram, bot) = ready().await;
    telegram.message(42, "hello");
    for data in ["first", "second"] {
        let keyboard = InlineKeyboardMarkup::new([[InlineKeyboardButton::callback("Go", data)]]);
        bot.send_message(ChatId(42), data).reply_markup(keyboard).await.unwrap();
        let sent = Sent { chat: 42, text: data.to_owned(), buttons: vec!["Go".to_owned()] };
        assert_eq!(telegram.next_sent().await, sent);
    }
    telegram.press_in_group(42, 7, "Go");
    let updates = bot.get_updates().await.unwrap();
    let UpdateKind::CallbackQuery(press) = &updates[1].kind else { panic!("{updates:?}") };
    assert_eq!(press.data.as_deref(), Some("second"));
    assert_eq!(press.regular_message().unwrap().text(), Some("second"));
    assert_eq!(press.from.id.0, 7);
    bot.answer_callback_query(press.id.clone()).text("Going").await.unwrap();
    bot.answer_callback_query(press.id.clone()).await.unwrap_err();
}

#[tokio::test]
async fn invalid_calls_are_rejected() {
    let (telegram, bot) = ready().await;
    let refused = async |chat, text: &str| match bot.send_message(ChatId(chat), text).await {
        Err(RequestError::Api(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(42, "hello").await, ApiError::ChatNotFound);
    telegram.message(42, "hello");
    assert_eq!(refused(42, " ").await, ApiError::MessageTextIsEmpty);
    assert_eq!(refused(42, &"é".repeat(4097)).await, ApiError::MessageIsTooLong);
    bot.send_message(ChatId(42), "é".repeat(4096)).await.unwrap();
    bot.send_chat_action(ChatId(42), ChatAction::Typing).await.unwrap();
    bot.send_chat_action(ChatId(43), ChatAction::Typing).await.unwrap_err();
    let stranger = Bot::with_client("5:unknown", bot.client().clone()).set_api_url(bot.api_url());
    let error = stranger.get_me().await.unwrap_err();
    assert!(matches!(error, RequestError::Api(ApiError::InvalidToken)), "{error}");
    let error = bot.get_my_commands().await.unwrap_err();
    assert!(
        matches!(error, RequestError::Api(ApiError::InvalidToken)),
        "teloxide reads Not Found as an invalid token: {error}"
    );

    telegram.message(-5, "hello");
    telegram.migrate(-5, -1_001_234_567_890);
    let error = bot.send_message(ChatId(-5), "hello").await.unwrap_err();
    assert!(matches!(error, RequestError::MigrateToChatId(ChatId(-1_001_234_567_890))), "{error}");
    bot.send_message(ChatId(-1_001_234_567_890), "hello").await.unwrap();

    assert_eq!(bot.get_me().await.unwrap().username(), "larder_bot");
    let webhook = bot.get_webhook_info().await.unwrap();
    assert!(webhook.url.is_none() && webhook.pending_update_count == 4);
    bot.delete_webhook().await.unwrap();
}

#[tokio::test]
async fn a_call_can_be_made_to_fail() {
    let (telegram, bot) = ready().await;
    telegram.message(42, "hello");
    telegram.fail_next("sendMessage", Failure::new(403, "Forbidden: bot was blocked by the user"));
    telegram.fail_next("sendMessage", Failure::retry_after(3));
    bot.get_me().await.unwrap();
    let blocked = bot.send_message(ChatId(42), "one").await.unwrap_err();
    assert!(matches!(blocked, RequestError::Api(ApiError::BotBlocked)), "{blocked}");
    let slower = bot.send_message(ChatId(42), "two").await.unwrap_err();
    assert!(matches!(slower, RequestError::RetryAfter(wait) if wait.seconds() == 3), "{slower}");
    bot.send_message(ChatId(42), "three").await.unwrap();
    assert_eq!(telegram.next_sent().await.text, "three");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatcher_is_shut_down_when_it_is_idle() {
    let (telegram, bot) = ready().await;
    for _ in 0..100 {
        let handler = Update::filter_message().endpoint(async |bot: Bot, message: Message| {
            bot.send_message(message.chat.id, "hello").await.map(drop)
        });
        let mut dispatcher = Dispatcher::builder(bot.clone(), handler).dependencies(dptree::deps![]).build();
        let shutdown = dispatcher.shutdown_token();
        let dispatched = tokio::spawn(async move { dispatcher.dispatch().await });
        let sent = telegram.message(42, "hello");
        telegram.idle().await;
        telegram.confirmed(sent).await;
        drop(shutdown.shutdown().unwrap());
        within_a_minute("the dispatcher", dispatched).await.unwrap();
        telegram.next_sent().await;
    }
}

//! Real bots on every store.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // A case fails by panicking.

mod support;

use std::sync::Arc;

use larder_bridge_tests::{Stores, on_every_adapter};
use larder_core::Key;
use larder_fake_telegram::{Sent, Telegram};
use larder_teloxide::{By, LarderStorage};
use larder_testkit::{Handle, Must, Suite, Target};
use teloxide::dispatching::dialogue::ErasedStorage;

use self::support::{
    Failures, Running, counter,
    purchase::{self, Dialogues, State},
};

const ANN: i64 = 42;
const BOB: i64 = 43;
const GROUP: i64 = -424_242;
const SUPERGROUP: i64 = -1_001_234_567_890;

fn main() {
    on_every_adapter(cases).main()
}

fn cases(suite: Suite<Stores>) -> Suite<Stores> {
    suite
        .without_laws()
        .case("a_purchase_survives_restarts", |context| purchase(context.target))
        .case("purchases_of_two_chats_are_separate", |context| purchases(context.target))
        .case("a_purchase_follows_its_group", |context| group(context.target))
        .case("a_teloxide_bot_changes_one_line", |context| unchanged(context.target))
        .case("a_count_survives_restarts", |context| count(context.target))
        .case("a_handler_that_fails_saves_nothing", |context| failure(context.target))
        .case("an_untouched_session_is_not_written", |context| lazy(context.target))
        .case("a_count_follows_its_group", |context| moved_count(context.target))
        .case("counts_per_user_are_exact_across_chats", |context| users(context.target))
        .case("concurrent_bots_count_or_return_an_error", |context| two_bots(context.target))
}

async fn telegram() -> Telegram {
    Telegram::start().await.must("start Telegram")
}

async fn dialogues(target: &Target) -> (Handle, Arc<Dialogues>) {
    let handle = target.open().await;
    let dialogues = LarderStorage::new((*handle).clone()).must("set up the dialogues");
    (handle, dialogues)
}

/// Starts the purchase bot on its own handle, as another process would.
async fn shop(telegram: &Telegram, target: &Target) -> (Handle, Running) {
    let (handle, dialogues) = dialogues(target).await;
    (handle, Running::start(telegram, purchase::dispatcher(telegram.bot(), dialogues)))
}

/// Asserts that the bot said `text` in `chat`.
#[track_caller]
fn said(sent: &Sent, chat: i64, text: &str) {
    assert_eq!((sent.chat, sent.text.as_str()), (chat, text));
}

async fn says(telegram: &Telegram, chat: i64, text: &str) {
    said(&telegram.next_sent().await, chat, text);
}

async fn purchase(target: Target) {
    let telegram = telegram().await;
    let (handle, bot) = shop(&telegram, &target).await;
    telegram.message(ANN, "/start");
    says(&telegram, ANN, "Let's start! What's your full name?").await;
    bot.stop().await;
    let key = Key::new(format!("dialogue:{ANN}")).unwrap();
    handle.holds(&key, br#""ReceiveFullName""#, "the state").await;

    let (_, bot) = shop(&telegram, &target).await;
    telegram.message(ANN, "Ann Smith");
    let sent = telegram.next_sent().await;
    said(&sent, ANN, "Select a product:");
    assert_eq!(sent.buttons, ["Apple", "Banana", "Orange", "Potato"]);
    bot.stop().await;

    // Pressed while no bot is running.
    telegram.press(ANN, "Banana");
    let (_, bot) = shop(&telegram, &target).await;
    says(&telegram, ANN, "Ann Smith, product 'Banana' has been purchased successfully!").await;
    bot.stop().await;
    handle.lacks(&key, "after the purchase").await;
}

async fn purchases(target: Target) {
    let telegram = telegram().await;
    let (_, bot) = shop(&telegram, &target).await;
    let both = |act: fn(&Telegram, i64, &'static str) -> u32, of_ann: &'static str, of_bob: &'static str| {
        act(&telegram, ANN, of_ann);
        act(&telegram, BOB, of_bob);
    };
    let answers = async || {
        let mut sent = [telegram.next_sent().await, telegram.next_sent().await];
        sent.sort_by_key(|sent| sent.chat);
        assert_eq!((sent[0].chat, sent[1].chat), (ANN, BOB));
        sent.map(|sent| sent.text)
    };
    both(Telegram::message, "/start", "/start");
    answers().await;
    both(Telegram::message, "Ann", "Bob");
    assert_eq!(answers().await, ["Select a product:", "Select a product:"]);
    both(Telegram::press, "Apple", "Potato");
    assert_eq!(
        answers().await,
        [
            "Ann, product 'Apple' has been purchased successfully!",
            "Bob, product 'Potato' has been purchased successfully!"
        ]
    );
    bot.stop().await;
}

async fn group(target: Target) {
    let telegram = telegram().await;
    let (_, bot) = shop(&telegram, &target).await;
    telegram.message_in_group(GROUP, ANN, "/start");
    says(&telegram, GROUP, "Let's start! What's your full name?").await;
    telegram.migrate(GROUP, SUPERGROUP);
    telegram.message_in_group(SUPERGROUP, ANN, "Ann");
    says(&telegram, SUPERGROUP, "Select a product:").await;
    telegram.press_in_group(SUPERGROUP, ANN, "Orange");
    says(&telegram, SUPERGROUP, "Ann, product 'Orange' has been purchased successfully!").await;
    bot.stop().await;
    // In the old group, the second message about the move may have begun another dialogue.
    let (_, dialogues) = dialogues(&target).await;
    let state = dialogues.sessions().get(GROUP).await.must("get");
    assert!(matches!(state, None | Some(State::Start)), "{state:?}");
}

/// A bot as in teloxide's documentation, except for the line that creates its storage.
mod theirs {
    use std::sync::Arc;

    use teloxide::{
        dispatching::{DefaultKey, DispatcherBuilder, dialogue::ErasedStorage},
        prelude::*,
    };

    use super::State;

    type Failure = Box<dyn std::error::Error + Send + Sync>;
    type MyDialogue = Dialogue<State, ErasedStorage<State>>;

    pub(super) fn dispatcher(
        bot: Bot,
        storage: Arc<ErasedStorage<State>>,
    ) -> DispatcherBuilder<Bot, Failure, DefaultKey> {
        let handler = Update::filter_message()
            .enter_dialogue::<Message, ErasedStorage<State>, State>()
            .branch(dptree::case![State::Start].endpoint(start))
            .branch(dptree::case![State::ReceiveFullName].endpoint(receive_full_name));
        Dispatcher::builder(bot, handler).dependencies(dptree::deps![storage])
    }

    async fn start(bot: Bot, dialogue: MyDialogue, message: Message) -> Result<(), Failure> {
        bot.send_message(message.chat.id, "What's your name?").await?;
        dialogue.update(State::ReceiveFullName).await?;
        Ok(())
    }

    async fn receive_full_name(bot: Bot, dialogue: MyDialogue, message: Message) -> Result<(), Failure> {
        dialogue.exit().await?;
        bot.send_message(message.chat.id, format!("Hello, {}!", message.text().unwrap_or("you"))).await?;
        Ok(())
    }
}

async fn unchanged(target: Target) {
    use teloxide::dispatching::dialogue::Storage as _;
    let telegram = telegram().await;
    let storage = async || -> Arc<ErasedStorage<State>> { dialogues(&target).await.1.erase() };
    let bot = Running::start(&telegram, theirs::dispatcher(telegram.bot(), storage().await));
    telegram.message(ANN, "Hi");
    says(&telegram, ANN, "What's your name?").await;
    bot.stop().await;
    let bot = Running::start(&telegram, theirs::dispatcher(telegram.bot(), storage().await));
    telegram.message(ANN, "Ann");
    says(&telegram, ANN, "Hello, Ann!").await;
    bot.stop().await;
}

/// Starts the counting bot on its own handle.
async fn tally(telegram: &Telegram, target: &Target, by: By) -> (Handle, Running) {
    let handle = target.open().await;
    let sessions = counter::sessions((*handle).clone());
    (handle, Running::start(telegram, counter::bot(telegram.bot(), by, sessions)))
}

async fn count(target: Target) {
    let telegram = telegram().await;
    let (handle, bot) = tally(&telegram, &target, By::Chat).await;
    for expected in ["1", "2", "3"] {
        telegram.message(ANN, "+1");
        says(&telegram, ANN, expected).await;
    }
    telegram.message(BOB, "+1");
    says(&telegram, BOB, "1").await;
    bot.stop().await;
    handle.holds(&Key::new("tally:42").unwrap(), br#"{"count":3}"#, "the session").await;

    let (_, bot) = tally(&telegram, &target, By::Chat).await;
    for (said, expected) in [("/count", "3"), ("+1", "4"), ("Hello", "pardon?"), ("/forget", "forgotten")] {
        telegram.message(ANN, said);
        says(&telegram, ANN, expected).await;
    }
    bot.stop().await;
    assert_eq!(handle.listed("tally:").await, ["tally:43".to_owned()].into());
}

async fn failure(target: Target) {
    let telegram = telegram().await;
    let handle = target.open().await;
    let failures = Failures::new();
    let bot = counter::bot(telegram.bot(), By::Chat, counter::sessions((*handle).clone()));
    let bot = Running::start(&telegram, bot.error_handler(Arc::<Failures>::clone(&failures)));
    telegram.message(ANN, "+1");
    says(&telegram, ANN, "1").await;
    telegram.message(ANN, "/fail");
    assert_eq!(failures.next().await.to_string(), "the handler failed on purpose");
    telegram.message(ANN, "+1");
    says(&telegram, ANN, "2").await;
    bot.stop().await;
    assert_eq!(failures.count().await, 0);
}

async fn lazy(target: Target) {
    let telegram = telegram().await;
    let handle = target.open().await;
    let bot = counter::lazy_bot(telegram.bot(), By::Chat, counter::sessions((*handle).clone()));
    let bot = Running::start(&telegram, bot);
    telegram.message(ANN, "/idle");
    says(&telegram, ANN, "idle").await;
    telegram.message(BOB, "+1");
    says(&telegram, BOB, "1").await;
    bot.stop().await;
    assert_eq!(handle.listed("").await, ["tally:43".to_owned()].into());
}

async fn moved_count(target: Target) {
    let telegram = telegram().await;
    let (_, bot) = tally(&telegram, &target, By::Chat).await;
    telegram.message(GROUP, "+1");
    says(&telegram, GROUP, "1").await;
    telegram.migrate(GROUP, SUPERGROUP);
    telegram.message(SUPERGROUP, "+1");
    let sent = loop {
        let sent = telegram.next_sent().await;
        if sent.text != "pardon?" {
            break sent;
        }
    };
    said(&sent, SUPERGROUP, "2");
    bot.stop().await;
}

async fn users(target: Target) {
    const EACH: usize = 20;
    let telegram = telegram().await;
    let (handle, bot) = tally(&telegram, &target, By::User).await;
    // teloxide handles the updates of one chat in sequence, and those of several chats concurrently.
    let groups = [GROUP, GROUP - 1, GROUP - 2, GROUP - 3];
    for _ in 0..EACH {
        for group in groups {
            telegram.message_in_group(group, ANN, "+1");
        }
    }
    let mut counts = Vec::new();
    for _ in 0..EACH * groups.len() {
        counts.push(telegram.next_sent().await.text.parse::<usize>().unwrap());
    }
    counts.sort_unstable();
    assert!(counts.into_iter().eq(1..=EACH * groups.len()), "each answer has a different count");
    bot.stop().await;
    handle.holds(&Key::new("tally:42").unwrap(), br#"{"count":80}"#, "the session").await;
}

/// A bot whose updates arrive through two processes: exactly the successful updates are counted.
async fn two_bots(target: Target) {
    const EACH: usize = 30;
    let failures = Failures::new();
    let mut bots = Vec::new();
    for _ in 0..2 {
        let telegram = telegram().await;
        let handle = target.open().await;
        let bot = counter::bot(telegram.bot(), By::Chat, counter::sessions((*handle).clone()));
        let bot = Running::start(&telegram, bot.error_handler(Arc::<Failures>::clone(&failures)));
        for _ in 0..EACH {
            telegram.message(ANN, "+1");
        }
        bots.push((handle, bot));
    }
    let mut last = None;
    for (handle, bot) in bots {
        bot.stop().await;
        last = Some(handle);
    }
    let failed = failures.count().await;
    let handle = last.must("have a handle");
    let stored = handle.read("tally:42").await.must("read").must("have a count");
    let tally: counter::Tally = serde_json::from_slice(&stored.value).unwrap();
    assert_eq!(tally.count as usize, 2 * EACH - failed, "{failed} have failed");
}

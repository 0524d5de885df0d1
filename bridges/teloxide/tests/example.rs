//! The example as its user runs it: the real binary, on a fake Telegram.

#![cfg(unix)] // Ctrl-C is a signal.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{
    env::{self, consts::EXE_SUFFIX},
    fs,
    path::PathBuf,
    process::{Output, Stdio},
};

use larder_fake_telegram::{TOKEN, Telegram};
use tempfile::TempDir;
use tokio::process::{Child, Command};

const START: &str = "Let's start! What's your full name?";
const SELECT: &str = "Select a product:";
const HELP: &str = "Unable to handle the message. Type /help to see the usage.";
const APOLOGY: &str = "An error occurred. Please try again later.";

/// The example's binary. `cargo test` builds it beside the directory of the tests.
fn example() -> PathBuf {
    let test = env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(format!("purchase{EXE_SUFFIX}"));
    assert!(path.exists(), "{} is missing: build it with --example purchase", path.display());
    path
}

/// The example, with a token, and with Telegram at `url`.
fn command(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(example());
    command.args(arguments).envs([("TELOXIDE_TOKEN", TOKEN), ("TELOXIDE_API_URL", url)]);
    command.env_remove("TELOXIDE_PROXY").env("NO_PROXY", "127.0.0.1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// Runs the example where it fails or ends by itself.
async fn run(arguments: &[&str]) -> Output {
    command("http://127.0.0.1:1", arguments).output().await.unwrap()
}

fn start(telegram: &Telegram, storage: &str) -> Child {
    command(&telegram.url(), &["--storage", storage]).spawn().unwrap()
}

/// Stops the bot by Ctrl-C when it has received all updates. Returns its standard error, without the first
/// line.
async fn stop(telegram: &Telegram, bot: Child) -> String {
    telegram.idle().await;
    let id = bot.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().await.unwrap().success());
    let output = bot.wait_with_output().await.unwrap();
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert_eq!(text(&output.stdout), "");
    errors.strip_prefix("The bot is running. Press Ctrl-C to stop it.\n").expect("a first line").to_owned()
}

/// The next answers of the bot, with their chats.
async fn answers(telegram: &Telegram, count: usize) -> Vec<(i64, String)> {
    let mut answers = Vec::new();
    for _ in 0..count {
        let sent = telegram.next_sent().await;
        answers.push((sent.chat, sent.text));
    }
    answers
}

async fn says(telegram: &Telegram, text: &str) {
    assert_eq!(telegram.next_sent().await.text, text);
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

fn url(directory: &TempDir, url: &str) -> String {
    url.replace("DIR", directory.path().to_str().unwrap())
}

/// The snapshot file is written once a minute, and when the store is closed.
#[tokio::test]
async fn a_purchase_continues_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    for storage in ["sqlite:DIR/purchases.db", "file:DIR/purchases", "file:DIR/purchases.json"] {
        let storage = url(&directory, storage);
        let telegram = Telegram::start().await.unwrap();
        let bot = start(&telegram, &storage);
        telegram.message(42, "/start");
        says(&telegram, START).await;
        assert_eq!(stop(&telegram, bot).await, "");

        let bot = start(&telegram, &storage);
        telegram.message(42, "Ann");
        let sent = telegram.next_sent().await;
        assert_eq!((sent.text.as_str(), sent.buttons.len()), (SELECT, 4));
        assert_eq!(stop(&telegram, bot).await, "");

        let bot = start(&telegram, &storage);
        telegram.press(42, "Banana");
        says(&telegram, "Ann, product 'Banana' has been purchased successfully!").await;
        telegram.press(42, "Banana");
        says(&telegram, HELP).await;
        assert_eq!(stop(&telegram, bot).await, "");
    }
}

#[tokio::test]
async fn the_default_store_is_a_sqlite_file() {
    let directory = tempfile::tempdir().unwrap();
    let telegram = Telegram::start().await.unwrap();
    let bot = command(&telegram.url(), &[]).current_dir(&directory).spawn().unwrap();
    telegram.message(42, "/start");
    says(&telegram, START).await;
    assert_eq!(stop(&telegram, bot).await, "");
    assert!(directory.path().join("purchases.db").exists());
}

#[tokio::test]
async fn updates_from_before_the_start_are_handled_in_order() {
    let telegram = Telegram::start().await.unwrap();
    telegram.message(42, "/start");
    telegram.message(42, "Ann");
    telegram.press(42, "Banana");
    telegram.message(-5, "/start@larder_bot");
    telegram.message(42, "/start");
    telegram.message(42, "Bob");
    telegram.press(42, "Kiwi");
    telegram.message(42, "/cancel");
    telegram.press(42, "Apple");
    let bot = start(&telegram, "memory:");
    let answers = answers(&telegram, 9).await;
    assert_eq!(stop(&telegram, bot).await, "");
    let in_chat = |chat| {
        let answers = answers.iter().filter(|answer| answer.0 == chat);
        answers.map(|answer| answer.1.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(in_chat(-5), [START]);
    let bought = "Ann, product 'Banana' has been purchased successfully!";
    let cancelled = "Cancelling the dialogue.";
    assert_eq!(in_chat(42), [START, SELECT, bought, START, SELECT, HELP, cancelled, HELP]);
}

#[tokio::test]
async fn each_of_many_quick_messages_is_answered() {
    let telegram = Telegram::start().await.unwrap();
    let bot = start(&telegram, "memory:");
    for number in 0..1000 {
        telegram.message(number % 10 + 1, "hello");
    }
    let answers = answers(&telegram, 1000).await;
    assert_eq!(stop(&telegram, bot).await, "");
    for chat in 1..=10 {
        let expected = (chat, HELP.to_owned());
        assert_eq!(answers.iter().filter(|answer| **answer == expected).count(), 100, "chat {chat}");
    }
}

#[tokio::test]
async fn a_bot_without_updates_stops_without_an_error() {
    let telegram = Telegram::start().await.unwrap();
    let bot = start(&telegram, "memory:");
    assert_eq!(stop(&telegram, bot).await, "");
}

#[tokio::test]
async fn a_dialogue_that_cannot_be_read_affects_only_its_chat() {
    let directory = tempfile::tempdir().unwrap();
    let storage = url(&directory, "file:DIR/purchases.json");
    let telegram = Telegram::start().await.unwrap();
    let bot = start(&telegram, &storage);
    telegram.message(42, "/start");
    says(&telegram, START).await;
    assert_eq!(stop(&telegram, bot).await, "");
    let file = directory.path().join("purchases.json");
    let stored = fs::read_to_string(&file).unwrap();
    assert!(stored.contains("ReceiveFullName"), "{stored}");
    fs::write(&file, stored.replace("ReceiveFullName", "hunter2")).unwrap();

    let bot = start(&telegram, &storage);
    telegram.message(42, "Ann");
    telegram.message(7, "/start");
    let mut answers = answers(&telegram, 2).await;
    answers.sort();
    assert_eq!(answers, [(7, START.to_owned()), (42, APOLOGY.to_owned())]);
    let problem = stop(&telegram, bot).await;
    assert!(problem.starts_with("42: the message was not handled: "), "{problem}");
    assert_eq!(problem.lines().count(), 1, "{problem}");
    assert!(!problem.contains("hunter2"), "{problem}");
}

#[tokio::test]
async fn the_error_of_a_url_does_not_contain_its_password() {
    for (storage, why) in [
        ("postgres://bot:hunter2@127.0.0.1:1/bot", "postgres://bot:***@127.0.0.1:1/bot"),
        ("redis://bot:hunter2@127.0.0.1:1", "redis://bot:***@127.0.0.1:1"),
        ("oracle://bot:hunter2@localhost", "the known schemes are: memory: file: sqlite:"),
        ("sqlite:/nowhere/at/all/purchases.db", "/nowhere/at/all/purchases.db"),
    ] {
        let output = run(&["--storage", storage]).await;
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.starts_with("purchase: cannot open ") && errors.contains(why), "{storage}: {errors}");
        assert!(!errors.contains("hunter2"), "{storage}: {errors}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[tokio::test]
async fn the_help_names_the_store_and_the_token() {
    let output = run(&["--help"]).await;
    assert!(output.status.success());
    let help = text(&output.stdout);
    for expected in ["--storage <URL>", "sqlite:purchases.db", "TELOXIDE_TOKEN", "@BotFather"] {
        assert!(help.contains(expected), "{expected}: {help}");
    }
}

#[tokio::test]
async fn a_missing_token_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    for token in [None, Some("")] {
        let mut command = command("http://127.0.0.1:1", &[]);
        command.current_dir(&directory).env_remove("TELOXIDE_TOKEN");
        let output = command.envs(token.map(|token| ("TELOXIDE_TOKEN", token))).output().await.unwrap();
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.starts_with("purchase: TELOXIDE_TOKEN is not set: "), "{errors}");
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "no store is opened");
}

#[tokio::test]
async fn an_unreachable_telegram_is_an_error() {
    // No server listens there.
    let mut bot = command("http://127.0.0.1:1", &["--storage", "memory:"]);
    let output = bot.env("TELOXIDE_TOKEN", "5:hunter2").output().await.unwrap();
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("purchase: cannot log in to Telegram: "), "{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
}

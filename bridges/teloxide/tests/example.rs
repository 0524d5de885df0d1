//! The example, tested through its binary, its input, and its output.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{
    env::{self, consts::EXE_SUFFIX},
    fs,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

const HELP: &str = "Unable to handle the message. Type /help to see the usage.";

/// Returns the path of the example. `cargo test` builds examples next to the directory of the tests, but does
/// not provide their path.
fn example() -> PathBuf {
    let test = env::current_exe().unwrap();
    let path = test.ancestors().nth(2).unwrap().join("examples").join(format!("purchase{EXE_SUFFIX}"));
    assert!(path.exists(), "{} is missing: build it with --example purchase", path.display());
    path
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(example());
    // With a token in the environment, the example would run as a real bot.
    command.args(arguments).env_remove("TELOXIDE_TOKEN");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(storage: &str, input: impl AsRef<[u8]>) -> Output {
    let mut bot = command(&["--storage", storage]).spawn().unwrap();
    // If the bot has failed to start, it does not read its input.
    let _ = bot.stdin.take().unwrap().write_all(input.as_ref());
    bot.wait_with_output().unwrap()
}

/// Returns the bot's answers. The bot must succeed.
#[track_caller]
fn answers(storage: &str, input: &str) -> String {
    let output = run(storage, input);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "no hint if the input is not a terminal");
    text(&output.stdout)
}

fn text(output: &[u8]) -> String {
    String::from_utf8(output.to_vec()).unwrap()
}

fn url(directory: &TempDir, url: &str) -> String {
    url.replace("DIR", directory.path().to_str().unwrap())
}

#[test]
fn a_purchase_continues_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    for storage in ["sqlite:DIR/purchases.db", "file:DIR/purchases", "file:DIR/purchases.json"] {
        let storage = url(&directory, storage);
        let first = answers(&storage, "42: /start\n42: Ann\n");
        assert_eq!(
            first,
            "42: Let's start! What's your full name?\n\
             42: Select a product: [Apple] [Banana] [Orange] [Potato]\n"
        );
        // The printed buttons are valid input.
        let second = answers(&storage, "42: [Banana]\n");
        assert_eq!(second, "42: Ann, product 'Banana' has been purchased successfully!\n");
        let third = answers(&storage, "42: [Banana]\n");
        assert_eq!(third, format!("42: {HELP}\n"), "the product is purchased only once");
    }
}

#[test]
fn the_readme_shows_the_real_output() {
    let directory = tempfile::tempdir().unwrap();
    let readme = include_str!("../README.md");
    for input in ["42: /start\n42: Ann\n", "42: [Banana]\n"] {
        let mut bot = command(&[]).current_dir(&directory).spawn().unwrap();
        bot.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let said = text(&bot.wait_with_output().unwrap().stdout);
        assert!(readme.contains(&format!("```text\n{said}```\n")), "the README does not show:\n{said}");
    }
    assert!(directory.path().join("purchases.db").exists(), "the default storage is purchases.db");
}

#[test]
fn one_input_is_handled_in_order() {
    let input = "42: /start\n42: Ann\n42: [Banana]\n-5: /start@larder_bot\n\
                 42: /start\n42: Bob\n42: [Kiwi]\n42: /cancel\n42: [Apple]\n";
    let said = answers("memory:", input);
    let in_chat = |chat: &str| {
        let lines = said.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|line| line.0 == chat).map(|line| line.1.to_owned()).collect::<Vec<_>>()
    };
    let (start, select) =
        ("Let's start! What's your full name?", "Select a product: [Apple] [Banana] [Orange] [Potato]");
    assert_eq!(in_chat("-5"), [start]);
    let bought = "Ann, product 'Banana' has been purchased successfully!";
    let cancelled = "Cancelling the dialogue.";
    assert_eq!(in_chat("42"), [start, select, bought, start, select, HELP, cancelled, HELP]);
}

#[test]
fn each_of_many_quick_messages_is_answered() {
    let input: String = (0..1000).map(|number| format!("{}: hello\n", number % 10 + 1)).collect();
    let said = answers("memory:", &input);
    for chat in 1..=10 {
        let answer = format!("{chat}: {HELP}");
        assert_eq!(said.lines().filter(|line| *line == answer).count(), 100, "chat {chat}");
    }
    assert_eq!(said.lines().count(), 1000);
}

#[test]
fn empty_input_is_accepted() {
    assert_eq!(answers("memory:", ""), "");
    assert_eq!(answers("memory:", "\n \n"), "");
}

#[test]
fn malformed_lines_get_a_hint() {
    let input = b"hello\n\n42\n: /start\nx42: /start\n99999999999999999999: x\n0: x\n42:\n\xff: x\n\
                  42: hello\r\n 42 :[Banana]";
    let output = run("memory:", input);
    assert!(output.status.success());
    assert_eq!(text(&output.stdout), format!("42: {HELP}\n42: {HELP}\n"));
    let problems = text(&output.stderr);
    let starts = [
        "line 1 is not a message",
        "line 3 is not a message",
        "line 4 is",
        "line 5 is",
        "line 6 is",
        "line 7 is",
        "line 8 is",
        "line 9 is not valid UTF-8",
    ];
    assert_eq!(problems.lines().count(), starts.len(), "{problems}");
    for (problem, start) in problems.lines().zip(starts) {
        assert!(problem.starts_with(start) && problem.contains("`42: [Banana]`"), "{problem}");
    }
}

#[test]
fn an_unreadable_dialogue_affects_only_its_own_chat() {
    let directory = tempfile::tempdir().unwrap();
    let storage = url(&directory, "file:DIR/purchases.json");
    answers(&storage, "42: /start\n");
    let file = directory.path().join("purchases.json");
    let stored = fs::read_to_string(&file).unwrap();
    assert!(stored.contains("ReceiveFullName"), "{stored}");
    fs::write(&file, stored.replace("ReceiveFullName", "hunter2")).unwrap();

    let output = run(&storage, "42: Ann\n7: /start\n");
    assert!(output.status.success());
    let mut said: Vec<_> = text(&output.stdout).lines().map(str::to_owned).collect();
    said.sort();
    assert_eq!(
        said,
        ["42: An error occurred. Please try again later.", "7: Let's start! What's your full name?"]
    );
    let problem = text(&output.stderr);
    assert!(problem.starts_with("42: the message was not handled: "), "{problem}");
    assert_eq!(problem.lines().count(), 1, "{problem}");
    assert!(!problem.contains("hunter2"), "{problem}");
}

#[test]
fn an_error_shows_the_url_without_its_password() {
    for (storage, why) in [
        ("postgres://bot:hunter2@127.0.0.1:1/bot", "postgres://bot:***@127.0.0.1:1/bot"),
        ("redis://bot:hunter2@127.0.0.1:1", "redis://bot:***@127.0.0.1:1"),
        ("oracle://bot:hunter2@localhost", "the known schemes are: memory: file: sqlite:"),
        ("sqlite:/nowhere/at/all/purchases.db", "/nowhere/at/all/purchases.db"),
    ] {
        let output = run(storage, "42: /start\n");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.starts_with("purchase: cannot open ") && said.contains(why), "{storage}: {said}");
        assert!(!said.contains("hunter2"), "{storage}: {said}");
        assert_eq!(text(&output.stdout), "");
    }
}

#[test]
fn the_help_shows_the_input_format() {
    let output = command(&["--help"]).output().unwrap();
    assert!(output.status.success());
    let help = text(&output.stdout);
    for told in ["--storage <URL>", "sqlite:purchases.db", "TELOXIDE_TOKEN", "chat id: text", "42: [Banana]"]
    {
        assert!(help.contains(told), "{told}: {help}");
    }
}

#[test]
fn an_unreachable_telegram_is_reported() {
    let mut bot = command(&["--storage", "memory:"]);
    // This address is local, and its port is closed.
    bot.envs([("TELOXIDE_TOKEN", "5:hunter2"), ("TELOXIDE_API_URL", "http://127.0.0.1:1")]);
    let output = bot.env_remove("TELOXIDE_PROXY").env("NO_PROXY", "127.0.0.1").output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("purchase: cannot log in to Telegram: "), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

/// The snapshot file is written once a minute, and when the storage is closed.
#[cfg(unix)]
#[test]
fn ctrl_c_closes_the_storage() {
    let directory = tempfile::tempdir().unwrap();
    let storage = url(&directory, "file:DIR/purchases.json");
    let mut bot = command(&["--storage", &storage]).spawn().unwrap();
    let mut input = bot.stdin.take().unwrap();
    writeln!(input, "42: /start").unwrap();
    let mut answer = String::new();
    BufReader::new(bot.stdout.take().unwrap()).read_line(&mut answer).unwrap();
    assert_eq!(answer, "42: Let's start! What's your full name?\n");

    assert!(Command::new("kill").args(["-INT", &bot.id().to_string()]).status().unwrap().success());
    // The input is still open; the bot must not wait for another line.
    assert!(bot.wait().unwrap().success());
    drop(input);
    let said = answers(&storage, "42: Ann");
    assert_eq!(said, "42: Select a product: [Apple] [Banana] [Orange] [Potato]\n");
}

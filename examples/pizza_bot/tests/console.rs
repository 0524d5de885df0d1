//! The bot, tested through its binary, its input, and its output.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

fn start(storage: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_pizza_bot"))
        .args(["--storage", storage])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn run(storage: &str, input: &[u8]) -> Output {
    let mut bot = start(storage);
    // If the bot has failed to start, it does not read its input.
    let _ = bot.stdin.take().unwrap().write_all(input);
    bot.wait_with_output().unwrap()
}

/// Returns the bot's answers. The bot must succeed.
#[track_caller]
fn answers(storage: &str, input: &str) -> String {
    let output = run(storage, input.as_bytes());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "no hint if the input is not a terminal");
    String::from_utf8(output.stdout).unwrap()
}

fn url(directory: &TempDir, url: &str) -> String {
    url.replace("DIR", directory.path().to_str().unwrap())
}

#[test]
fn counts_survive_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    for storage in ["sqlite:DIR/pizzas.db", "file:DIR/pizzas", "file:DIR/pizzas.json"] {
        let storage = url(&directory, storage);
        let first = answers(&storage, "42: 🍕\n42: another 🍕, no, two 🍕🍕\n7: 🍕\n42: /hunger\n");
        assert_eq!(
            first,
            "42: That makes 1 🍕.\n42: That makes 2 🍕.\n7: That makes 1 🍕.\n42: Your hunger level is 2!\n"
        );
        let second = answers(&storage, "42: 🍕\n7: /hunger\n-1001234567890: /hunger\n");
        assert_eq!(
            second,
            "42: That makes 3 🍕.\n7: Your hunger level is 1!\n-1001234567890: Your hunger level is 0!\n"
        );
    }
}

#[test]
fn a_reset_deletes_the_count_of_one_chat() {
    let directory = tempfile::tempdir().unwrap();
    let storage = url(&directory, "sqlite:DIR/pizzas.db");
    let said = answers(&storage, "1: 🍕\n2: 🍕\n1: /reset\n1: /hunger\n2: /hunger\n3: /reset\n");
    assert!(
        said.contains("1: All 🍕 are forgotten.\n1: Your hunger level is 0!\n2: Your hunger level is 1!\n")
    );
    assert!(said.ends_with("3: All 🍕 are forgotten.\n"));
}

#[test]
fn each_of_many_quick_messages_counts() {
    let input: String = (0..1000).map(|number| format!("{}: 🍕\n", number % 10)).collect();
    let said = answers("memory:", &(input + "0: /hunger\n9: /hunger"));
    assert!(said.ends_with("0: Your hunger level is 100!\n9: Your hunger level is 100!\n"), "{said}");
}

#[test]
fn bots_with_one_storage_lose_no_update() {
    let directory = tempfile::tempdir().unwrap();
    let storage = url(&directory, "sqlite:DIR/pizzas.db");
    let bots: Vec<_> = (0..4)
        .map(|_| {
            let mut bot = start(&storage);
            bot.stdin.take().unwrap().write_all("42: 🍕\n".repeat(50).as_bytes()).unwrap();
            bot
        })
        .collect();
    for bot in bots {
        let output = bot.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty());
    }
    assert_eq!(answers(&storage, "42: /hunger"), "42: Your hunger level is 200!\n");
}

#[test]
fn malformed_lines_get_a_hint() {
    let input = b"hello\n\n42\n: \xf0\x9f\x8d\x95\nx42: \xf0\x9f\x8d\x95\n99999999999999999999: x\n\xff: x\n42: hello\r\n42:\n 42 :\xf0\x9f\x8d\x95";
    let output = run("memory:", input);
    assert!(output.status.success());
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<_> = said.lines().collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].starts_with("42: Send me a 🍕") && said[1] == said[0]);
    assert_eq!(said[2], "42: That makes 1 🍕.");
    let problems = String::from_utf8(output.stderr).unwrap();
    for (problem, start) in problems.lines().zip([
        "line 1 is",
        "line 3 is",
        "line 4 is",
        "line 5 is",
        "line 6 is",
        "line 7 is not valid UTF-8",
    ]) {
        assert!(problem.starts_with(start) && problem.contains("`42: 🍕`"), "{problem}");
    }
    assert_eq!(problems.lines().count(), 6);
}

#[test]
fn sessions_of_a_grammy_bot_keep_unknown_fields() {
    const CHAT: &str = "90/-1001234567890.json";
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let directory = tempfile::tempdir().unwrap();
    let stored = directory.path().join(CHAT);
    fs::create_dir(directory.path().join("90")).unwrap();
    let written = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/grammy/file").join(CHAT);
    fs::copy(&written, &stored).unwrap();

    let said = answers(&url(&directory, "file:DIR?layout=grammy"), "-1001234567890: 🍕\n");
    assert_eq!(said, "-1001234567890: That makes 1 🍕.\n");
    let mut expected = read(&written);
    assert!(expected.as_object().unwrap().len() > 1);
    expected["pizzaCount"] = 1.into();
    assert_eq!(read(&stored), expected);
}

#[test]
fn an_unreadable_session_affects_only_its_own_chat() {
    let directory = tempfile::tempdir().unwrap();
    let stored = directory.path().join("42");
    fs::create_dir(&stored).unwrap();
    fs::write(stored.join("42.json"), "{\"pizzaCount\": \"hunter2\"}").unwrap();
    let output = run(&url(&directory, "file:DIR?layout=grammy"), "42: 🍕\n7: 🍕\n".as_bytes());
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "7: That makes 1 🍕.\n");
    let problem = String::from_utf8(output.stderr).unwrap();
    assert!(problem.starts_with("42: the message was not handled: "), "{problem}");
    assert!(!problem.contains("hunter2"), "{problem}");
}

#[test]
fn an_error_shows_the_url_without_its_password() {
    for (storage, why) in [
        ("postgres://bot:hunter2@127.0.0.1:1/bot", "postgres://bot:***@127.0.0.1:1/bot"),
        ("redis://bot:hunter2@127.0.0.1:1", "redis://bot:***@127.0.0.1:1"),
        ("oracle://bot:hunter2@localhost", "the known schemes are: memory: file: sqlite:"),
        ("bot:hunter2@localhost", "the known schemes are"),
        ("sqlite:pizzas.db?colour=red", "busy_timeout"),
        ("sqlite:/nowhere/at/all/pizzas.db", "/nowhere/at/all/pizzas.db"),
        ("pizzas.db", "cannot open"),
    ] {
        let output = run(storage, b"");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why) && !said.contains("hunter2"), "{storage}: {said}");
    }
}

/// The snapshot file is written once a minute, and when the storage is closed.
#[cfg(unix)]
#[test]
fn ctrl_c_closes_the_storage() {
    let directory = tempfile::tempdir().unwrap();
    let storage = url(&directory, "file:DIR/pizzas.json");
    let mut bot = start(&storage);
    let mut input = bot.stdin.take().unwrap();
    writeln!(input, "42: 🍕").unwrap();
    let mut answer = String::new();
    BufReader::new(bot.stdout.take().unwrap()).read_line(&mut answer).unwrap();
    assert_eq!(answer, "42: That makes 1 🍕.\n");

    assert!(Command::new("kill").args(["-INT", &bot.id().to_string()]).status().unwrap().success());
    // The input is still open; the bot must not wait for another line.
    assert!(bot.wait().unwrap().success());
    drop(input);
    assert_eq!(answers(&storage, "42: /hunger"), "42: Your hunger level is 1!\n");
}

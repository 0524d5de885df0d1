//! The controller, tested through its binary, its files, and its output.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{
    fs,
    process::{Command, Output},
};

use tempfile::TempDir;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_discord_ping")).args(arguments).output().unwrap()
}

/// Returns the answers to the example's own interactions. The program must succeed.
#[track_caller]
fn answers(storage: &str) -> Vec<String> {
    let output = run(&["--storage", storage]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn sqlite(directory: &TempDir) -> String {
    format!("sqlite:{}", directory.path().join("pings.db").display())
}

/// Returns the answers, the errors, and the exit code for these interactions.
fn answer(interactions: &str) -> (String, String, Option<i32>) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("interactions.json");
    fs::write(&file, interactions).unwrap();
    let output = run(&["--storage", &sqlite(&directory), "--file", file.to_str().unwrap()]);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn every_user_has_a_count_per_channel_that_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let storage = sqlite(&directory);
    let first = [
        "Discord: pong, without a session",
        "nelly in 645027906669510667: pong (1 times)",
        "nelly in 645027906669510667: pong (2 times)",
        "mason in 645027906669510667: pong (1 times)",
        "nelly in 645027906669510668: pong (1 times)",
        "nelly in 786005749469650954: pong (1 times)",
        "nelly in 645027906669510667: {\"ponged\":2}",
        "nelly in 786005749469650954: forgotten",
        "nelly in 786005749469650954: {}",
    ];
    assert_eq!(answers(&storage), first);
    let readme = include_str!("../README.md");
    assert!(readme.contains(&first.join("\n")), "the README shows another output");

    let second = answers(&storage);
    assert_eq!(
        second[1..6].iter().map(|line| &line[line.len() - 9..]).collect::<Vec<_>>(),
        ["(3 times)", "(4 times)", "(2 times)", "(2 times)", "(1 times)"]
    );
    assert_eq!(second[6..], ["nelly in 645027906669510667: {\"ponged\":4}", first[7], first[8]]);
}

#[test]
fn a_failed_interaction_is_reported_and_the_others_are_answered() {
    let (answers, problems, code) = answer(
        r#"[{"type": 2, "data": {"name": "ping"}, "channel_id": "1"},
            {"type": 2, "data": {"name": "ping"}, "user": {"id": "7", "username": "nelly"}},
            {"kind": 2},
            {"type": 2, "data": {"name": "pizza"}, "channel_id": "1", "user": {"id": "7", "username": "nelly"}},
            {"type": 3, "data": {"custom_id": "a"}, "channel_id": "1", "user": {"id": "7", "username": "nelly"}},
            {"type": 2, "data": {"name": "forget"}, "channel_id": "1", "user": {"id": "7", "username": "nelly"}}]"#,
    );
    assert_eq!(
        answers.lines().collect::<Vec<_>>(),
        [
            "nelly in 1: unknown command pizza: use ping, session or forget",
            "nelly in 1: this bot handles only commands",
            "nelly in 1: nothing to forget",
        ]
    );
    let problems: Vec<_> = problems.lines().collect();
    assert!(
        problems[0].starts_with("interaction 1: ") && problems[0].contains("from no user"),
        "{problems:?}"
    );
    assert!(problems[1].starts_with("interaction 2: ") && problems[1].contains("to no chat"), "{problems:?}");
    assert!(problems[2].starts_with("interaction 3: ") && problems[2].contains("`type`"), "{problems:?}");
    assert!(problems[3].contains("3 of the interactions"), "{problems:?}");
    assert_eq!(code, Some(1));
}

#[test]
fn an_invalid_file_is_an_error_with_its_position() {
    for (text, why) in [("[{]", "line 1 column 3"), ("{\"type\": 1}", "expected a sequence"), ("", "EOF")] {
        let (answers, problems, code) = answer(text);
        assert_eq!((answers.as_str(), code), ("", Some(1)));
        assert!(problems.contains("interactions.json") && problems.contains(why), "{problems}");
    }
    let output = run(&["--storage", "memory:", "--file", "/nowhere/at/all.json"]);
    let problem = String::from_utf8(output.stderr).unwrap();
    assert!(problem.contains("/nowhere/at/all.json") && problem.contains("No such file"), "{problem}");
}

#[test]
fn an_error_shows_the_url_without_its_password() {
    let output = run(&["--storage", "postgres://bot:hunter2@127.0.0.1:1/bot"]);
    let problem = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(problem.contains("postgres://bot:***@127.0.0.1:1/bot"), "{problem}");
    assert!(!problem.contains("hunter2"), "{problem}");
}

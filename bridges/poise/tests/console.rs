//! The example, tested through its console.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::{env::VarError, io::Cursor};

use clap::Parser;
use larder_core::Store;
use larder_memory::MemoryStorage;
use larder_poise::Scope;

use self::support::{bot, example};

/// Returns the console's output for these lines.
async fn prints(storage: &Store, scope: Scope, lines: &str) -> String {
    let mut output = Vec::new();
    let sessions = bot::sessions(storage, scope);
    let lines = Cursor::new(lines.to_owned().into_bytes());
    example::console::run(sessions, lines, &mut output).await.unwrap();
    String::from_utf8(output).unwrap()
}

/// Returns the content of the README's first code block that begins with `begins`.
fn block(begins: &str) -> &'static str {
    let readme = include_str!("../README.md");
    let after = &readme[readme.find(begins).expect("the README contains it") + begins.len()..];
    &after[..after.find("```").unwrap()]
}

#[tokio::test]
async fn the_readme_shows_the_real_output() {
    let storage = Store::new(MemoryStorage::new());
    let command = block("```sh\n");
    let lines = command.split('\'').nth(1).unwrap().replace("\\n", "\n");
    let printed = prints(&storage, Scope::UserInChannel, &lines).await;
    assert_eq!(printed, block("```text\n"));
    // A second run continues to count.
    let printed = prints(&storage, Scope::UserInChannel, "nelly in 42: /ping").await;
    assert_eq!(printed, "42 -> nelly: pong (4 times)\n");
}

#[tokio::test]
async fn guilds_and_direct_messages_differ() {
    let storage = Store::new(MemoryStorage::new());
    let lines = "nelly in 42: /ping\nnelly in 1/43: /ping\nnelly in 2/44: /ping\nnelly: /ping\n";
    let printed = prints(&storage, Scope::Guild, lines).await;
    let expected = [
        "42 -> nelly: pong (1 times)",
        "43 -> nelly: pong (2 times)",
        "44 -> nelly: pong (1 times)",
        "direct -> nelly: Counts are not available here.\n",
    ];
    assert_eq!(printed, expected.join("\n"));
}

#[tokio::test]
async fn malformed_lines_are_skipped() {
    let storage = Store::new(MemoryStorage::new());
    let lines = "\n : /ping\nnelly in 0: /ping\nnelly in x/1: /ping\nnelly in 42: /pizza\nnelly in 42\n\
                 nelly in 42:\n: \nnelly in 42: hello\nin 42: /ping\n in 42: /ping\nnelly in: /ping\n\
                 in: /ping\nnelly\tin\t42: /ping\nnelly in 42: /ping";
    assert_eq!(prints(&storage, Scope::User, lines).await, "42 -> nelly: pong (1 times)\n");
}

#[tokio::test]
async fn an_error_shows_the_url_without_its_password() {
    let url = "postgres://bot:hunter2@127.0.0.1:1/bot";
    let arguments = example::Arguments::try_parse_from(["ping", "--storage", url]).unwrap();
    let error = format!("{:#}", example::run(arguments).await.unwrap_err());
    assert!(error.contains("cannot open postgres://bot:***@127.0.0.1:1/bot"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn an_empty_token_counts_as_missing() {
    for none in [Ok(String::new()), Ok(" \n".to_owned()), Err(VarError::NotPresent)] {
        assert_eq!(example::token(none).unwrap(), None);
    }
    assert_eq!(example::token(Ok("a.b.c".to_owned())).unwrap().as_deref(), Some("a.b.c"));
    assert!(example::token(Err(VarError::NotUnicode("secret".into()))).is_err());
}

#[test]
fn every_scope_has_a_name() {
    for scope in ["user", "channel", "guild", "user-in-channel", "user-in-guild"] {
        assert!(example::Arguments::try_parse_from(["ping", "--scope", scope]).is_ok(), "{scope}");
    }
    assert!(example::Arguments::try_parse_from(["ping", "--scope", "planet"]).is_err());
}

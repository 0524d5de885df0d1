//! The example as its user runs it, on a fake Discord.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::env::VarError;

use clap::Parser;
use larder_fake_discord::Discord;
use poise::serenity_prelude::HttpBuilder;
use serde_json::Value;
use tokio::time::timeout;

use self::support::{
    CHANNEL, DIRECT, OTHER_CHANNEL, OTHER_GUILD, PATIENCE, Server, TOKEN, button, command, example, mason,
    nelly,
};

/// Starts the example, and waits until it is connected.
async fn start(arguments: &[&str]) -> Discord {
    let discord = Discord::start(TOKEN).await.unwrap();
    let arguments = example::Arguments::try_parse_from(["ping"].iter().chain(arguments)).unwrap();
    tokio::spawn(example::run(arguments, Server::http(&discord, TOKEN)));
    timeout(PATIENCE, discord.connected()).await.expect("the bot connects");
    discord
}

async fn says(discord: &Discord, interaction: Value) -> String {
    discord.interact(interaction, PATIENCE).await.unwrap().content
}

/// The block of text in the README, line by line.
fn readme() -> Vec<&'static str> {
    let readme = include_str!("../README.md");
    let (_, after) = readme.split_once("```text\n").expect("the README has a block of text");
    after.split_once("```").unwrap().0.lines().collect()
}

#[tokio::test]
async fn the_bot_answers_as_the_readme_shows_and_continues_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let storage = format!("sqlite:{}/pings.db", directory.path().display());
    let discord = start(&["--storage", &storage]).await;
    assert_eq!(discord.commands(), ["forget", "ping", "session"].map(str::to_owned).into());
    for line in readme() {
        let [user, action, answer] = line.splitn(3, "  ").map(str::trim).collect::<Vec<_>>()[..] else {
            panic!("not a user, an action and an answer: {line}");
        };
        let user = if user == "nelly" { nelly() } else { mason() };
        let interaction = match action.strip_prefix('/') {
            Some(name) => command(&user, CHANNEL, name),
            None => button(&user, CHANNEL, action.trim_matches(['[', ']'])),
        };
        assert_eq!(says(&discord, interaction).await, answer, "{line}");
    }
    assert_eq!(discord.unknown(), [""; 0]);
    let discord = start(&["--storage", &storage]).await;
    assert_eq!(says(&discord, command(&nelly(), CHANNEL, "ping")).await, "pong (4 times)");
}

#[tokio::test]
async fn guilds_and_direct_messages_are_told_apart() {
    let discord = start(&["--storage", "memory:", "--scope", "guild"]).await;
    for (place, answer) in [
        (CHANNEL, "pong (1 times)"),
        (OTHER_CHANNEL, "pong (2 times)"),
        (OTHER_GUILD, "pong (1 times)"),
        (DIRECT, "Counts are not available here."),
    ] {
        assert_eq!(says(&discord, command(&nelly(), place, "ping")).await, answer);
    }
}

#[tokio::test]
async fn the_error_of_a_url_does_not_contain_its_password() {
    let url = "postgres://bot:hunter2@127.0.0.1:1/bot";
    let arguments = example::Arguments::try_parse_from(["ping", "--storage", url]).unwrap();
    let error = format!("{:#}", example::run(arguments, HttpBuilder::new(TOKEN)).await.unwrap_err());
    assert!(error.contains("cannot open postgres://bot:***@127.0.0.1:1/bot"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_missing_or_empty_token_is_an_error() {
    for missing in [Ok(String::new()), Ok(" \n".to_owned()), Err(VarError::NotPresent)] {
        let error = example::token(missing).unwrap_err().to_string();
        assert!(error.starts_with("DISCORD_TOKEN is not set: "), "{error}");
    }
    assert_eq!(example::token(Ok("a.b.c".to_owned())).unwrap(), "a.b.c");
    let error = example::token(Err(VarError::NotUnicode("secret".into()))).unwrap_err().to_string();
    assert!(!error.contains("secret"), "{error}");
}

#[test]
fn every_scope_has_a_name() {
    for scope in ["user", "channel", "guild", "user-in-channel", "user-in-guild"] {
        assert!(example::Arguments::try_parse_from(["ping", "--scope", scope]).is_ok(), "{scope}");
    }
    assert!(example::Arguments::try_parse_from(["ping", "--scope", "planet"]).is_err());
}

//! Failures in a bot, and their effect on sessions.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::{sync::Arc, time::Duration};

use larder_bridge_tests::Probe;
use larder_core::{Bytes, Key};
use larder_fake_discord::Discord;
use larder_poise::{Origin, Scope};
use larder_testkit::until;
use serde_json::{Value, json};

use self::support::{
    CHANNEL, DIRECT, OTHER_CHANNEL, PATIENCE, PRIVATE, Server, TOKEN, bot, button, command,
    example::{self, running::Running},
    mason, modal, nelly, payload,
};

/// The key of nelly's session in the channel.
fn key() -> Key {
    Key::new(format!("discord:user:{}/channel:42", nelly().id)).unwrap()
}

async fn stored(probe: &Probe) -> Option<Bytes> {
    probe.storage().read(key()).await.unwrap().map(|record| record.value)
}

/// Starts the test's bot on a storage that the test can break.
async fn start() -> (Probe, Arc<bot::Data>, Server) {
    let probe = Probe::new();
    let data = bot::data(probe.clone());
    let server = Server::start(bot::options(), Arc::clone(&data)).await;
    (probe, data, server)
}

/// Starts the example's bot on such a storage.
async fn start_example(scope: Scope) -> (Probe, Server) {
    let probe = Probe::new();
    let sessions = bot::sessions(probe.clone(), scope);
    let server = Server::start(example::bot::options(), sessions).await;
    (probe, server)
}

fn nellys(name: &str) -> Value {
    command(&nelly(), CHANNEL, name)
}

#[tokio::test]
async fn a_store_that_is_down_does_not_restart_the_count() {
    let (probe, server) = start_example(Scope::UserInChannel).await;
    assert_eq!(server.says(nellys("ping")).await, "pong (1 times)");
    let before = stored(&probe).await;
    let deeds = [nellys("ping"), nellys("forget"), button(&nelly(), CHANNEL, "again")];
    for break_it in [Probe::set_down, Probe::set_read_only] {
        break_it(&probe, true);
        for deed in deeds.clone() {
            assert_eq!(server.fails(deed).await, "The count is not available now; please try again.");
        }
        break_it(&probe, false);
    }
    probe.set_down(true);
    assert_eq!(server.fails(nellys("session")).await, "The count is not available now; please try again.");
    probe.set_down(false);
    assert_eq!(stored(&probe).await, before);
    assert_eq!(server.says(nellys("ping")).await, "pong (2 times)", "it continues to count");
    server.stop().await;
}

#[tokio::test]
async fn on_error_receives_the_kind_of_an_error() {
    let (probe, _, server) = start().await;
    probe.set_down(true);
    for name in ["count", "by_hand", "deferred", "borrow", "coins", "scopes"] {
        let said = server.fails(nellys(name)).await;
        assert_eq!(said, "unavailable: probe: read: the server has gone away", "{name}");
    }
    server.stop().await;
}

#[tokio::test]
async fn failed_panicked_and_unsaved_commands_change_nothing() {
    let (probe, _, server) = start().await;
    assert_eq!(server.says(nellys("count")).await, "1");
    let before = stored(&probe).await.unwrap();
    assert_eq!(server.fails(nellys("fail")).await, "another: refused");
    assert_eq!(server.fails(nellys("panic")).await, "panic");
    assert_eq!(server.fails(nellys("panic_in_update")).await, "panic");
    assert_eq!(server.says(nellys("forgetful")).await, "forgotten");
    assert_eq!(stored(&probe).await.unwrap(), before);
    // They do not keep the session open either.
    assert_eq!(server.says(nellys("count")).await, "2");
    assert_eq!(server.says(nellys("by_hand")).await, "3");
    server.stop().await;
}

#[tokio::test]
async fn a_command_that_would_wait_for_itself_is_refused() {
    let (probe, _, server) = start().await;
    for name in ["twice", "update_while_open"] {
        let said = server.fails(nellys(name)).await;
        assert!(said.starts_with("unsupported: this command already has the session open"), "{said}");
        assert!(said.contains("save it first"), "{said}");
    }
    let said = server.fails(nellys("open_within_update")).await;
    assert!(said.starts_with("unsupported: an update within an update"), "{said}");
    assert_eq!(stored(&probe).await, None);
    assert_eq!(server.says(nellys("reopen")).await, "saved", "opening it again after a save is not nesting");
    server.stop().await;
}

#[tokio::test]
async fn handlers_can_borrow_and_scopes_are_independent() {
    let (probe, _, server) = start().await;
    assert_eq!(server.says(nellys("borrow")).await, "nelly!");
    assert_eq!(stored(&probe).await.unwrap(), r#"{"name":"nelly"}"#);
    assert_eq!(server.says(nellys("coins")).await, "2");
    assert_eq!(server.says(command(&nelly(), DIRECT, "coins")).await, "4");
    server.stop().await;
}

#[tokio::test]
async fn a_direct_message_has_no_guild_session() {
    let (probe, data, server) = start().await;
    for place in [DIRECT, PRIVATE] {
        let said = server.fails(command(&nelly(), place, "guild")).await;
        assert!(said.starts_with("invalid key: "), "{said}");
        assert!(said.contains("this event has no guild"), "{said}");
        assert!(said.contains("`guild_only`"), "{said}");
    }
    assert_eq!(probe.entries(), 0, "nothing was written");
    assert!(!data.errors.lock().unwrap().is_empty());
    server.stop().await;

    let (_, server) = start_example(Scope::UserInGuild).await;
    for deed in [command(&nelly(), DIRECT, "ping"), button(&nelly(), DIRECT, "again")] {
        assert_eq!(server.fails(deed).await, "Counts are not available here.");
    }
    assert_eq!(server.says(nellys("ping")).await, "pong (1 times)");
    server.stop().await;
}

#[tokio::test]
async fn foreign_data_are_an_error_and_not_overwritten() {
    let (probe, _, server) = start().await;
    // A list, a value that is not JSON, and a value from a program with more migrations.
    for foreign in [r#"["of another program"]"#, "\u{1}binary", r#"{"v":7,"__d":{"ponged":3}}"#] {
        let value = Bytes::from_static(foreign.as_bytes());
        probe.storage().write(key(), value.clone()).await.unwrap();
        for name in ["count", "by_hand", "borrow", "forgetful"] {
            let said = server.fails(nellys(name)).await;
            let kinds = ["codec: ", "version too new: "];
            assert!(kinds.iter().any(|kind| said.starts_with(kind)), "{foreign}: {said}");
            assert!(!said.contains("another program"), "{said}");
            assert_eq!(stored(&probe).await.unwrap(), value);
        }
    }
    assert_eq!(server.says(command(&nelly(), OTHER_CHANNEL, "count")).await, "1");
    server.stop().await;
}

#[tokio::test]
async fn interactions_without_a_user_have_no_session() {
    let (probe, _, server) = start().await;
    let without = |interaction: Value, members: &[&str]| {
        let mut interaction = interaction;
        for member in members {
            interaction.as_object_mut().unwrap().remove(*member);
        }
        interaction
    };
    for interaction in [
        without(nellys("count"), &["member"]),
        without(command(&nelly(), DIRECT, "count"), &["user"]),
        // A member without a guild.
        without(nellys("count"), &["guild_id"]),
    ] {
        let said = server.fails(interaction).await;
        assert!(said.starts_with("invalid key: ") && said.contains("has no user"), "{said}");
    }
    assert_eq!(probe.entries(), 0, "a missing user is not the user with the id 1");
    server.stop().await;
}

#[tokio::test]
async fn malformed_interactions_do_not_stop_the_bot() {
    let (probe, _, server) = start().await;
    let with = |pointer: &str, value: Value| {
        let mut interaction = nellys("count");
        interaction["token"] = json!("odd");
        *interaction.pointer_mut(pointer).unwrap() = value;
        interaction
    };
    let ids = ["0", "-1", "", "abc", "99999999999999999999999", "18446744073709551616", "1 OR 1=1"];
    let mut odd = vec![
        Value::Null,
        json!([]),
        json!({"type": 2}),
        with("/type", json!(99)),
        with("/type", json!("two")),
        with("/type", json!(3)),
        with("/type", json!(5)),
        with("/data", Value::Null),
        with("/data/name", json!("no such command")),
        with("/data/name", json!("x".repeat(1 << 20))),
        with("/member", json!({})),
        with("/member/user/username", json!(7)),
    ];
    for id in ids {
        for pointer in ["/id", "/channel_id", "/guild_id", "/member/user/id", "/data/id"] {
            odd.push(with(pointer, json!(id)));
        }
    }
    for (number, interaction) in (1..).zip(odd) {
        server.discord.dispatch("INTERACTION_CREATE", interaction);
        if number % 12 == 0 {
            assert_eq!(server.says(nellys("count")).await, (number / 12).to_string());
        }
    }
    // A long name, and the largest id.
    let mut vast = with("/member/user/username", json!("n".repeat(1 << 20)));
    vast["member"]["user"]["id"] = json!(u64::MAX.to_string());
    assert_eq!(server.says(vast.clone()).await, "1");
    let mut verbose = modal(&nelly(), CHANNEL, "count");
    *verbose.pointer_mut("/data/components/0/components/0/value").unwrap() = json!("v".repeat(1 << 20));
    verbose["member"] = vast["member"].clone();
    assert_eq!(server.says(verbose).await, "2");
    let only = [key(), Key::new("discord:user:18446744073709551615/channel:42").unwrap()];
    for key in &only {
        assert!(probe.storage().contains(key).await.unwrap());
    }
    assert_eq!(probe.entries(), only.len(), "no malformed interaction has a session");
    server.stop().await;
}

#[tokio::test]
async fn commands_in_messages_use_the_same_session() {
    let (_, data, server) = start().await;
    assert_eq!(server.says(nellys("by_hand")).await, "1");
    let mut message = payload::message(&nelly(), CHANNEL, "!by_hand");
    server.discord.dispatch("MESSAGE_CREATE", message.clone());
    let nelly_in_channel = {
        let message: poise::serenity_prelude::Message = serde_json::from_value(message.clone()).unwrap();
        Origin::from(&message)
    };
    until("the message is counted", PATIENCE, || async {
        data.sessions.of(nelly_in_channel).get("ponged").await.unwrap() == Some(2_u64)
    })
    .await;
    // A webhook is not a user.
    message["webhook_id"] = json!("786008729719406701");
    let message: poise::serenity_prelude::Message = serde_json::from_value(message).unwrap();
    assert_eq!(Origin::from(&message).user(), None);
    server.stop().await;
}

#[tokio::test]
async fn a_bot_that_reconnects_continues() {
    let (_, _, server) = start().await;
    assert_eq!(server.says(nellys("count")).await, "1");
    server.discord.reconnect();
    // Pressed while the bot is disconnected; delivered when it is back.
    assert_eq!(server.says(button(&nelly(), CHANNEL, "again")).await, "2");
    assert_eq!(server.discord.resumed(), 1);
    assert_eq!(server.says(nellys("count")).await, "3");
    server.stop().await;
}

#[tokio::test]
async fn stop_waits_for_running_commands() {
    let (probe, data, server) = start().await;
    let server = Arc::new(server);
    let asked = tokio::spawn({
        let server = Arc::clone(&server);
        async move { server.says(nellys("slow")).await }
    });
    let entered = tokio::time::timeout(PATIENCE, data.entered.acquire()).await;
    let _entered = entered.expect("the command runs").unwrap();
    let stop = server.stop();
    tokio::pin!(stop);
    // Longer than the bot needs to disconnect.
    let early = tokio::time::timeout(Duration::from_millis(1_500), &mut stop).await;
    assert!(early.is_err(), "it does not wait for the command");
    data.gate.add_permits(1);
    stop.await;
    assert_eq!(asked.await.unwrap(), "done");
    assert_eq!(stored(&probe).await.unwrap(), r#"{"slow":true}"#);
}

#[tokio::test]
async fn a_wrong_token_is_an_error_without_the_token() {
    let discord = Discord::start(TOKEN).await.unwrap();
    let wrong = "wrong.token.of-somebody";
    let sessions = bot::sessions(Probe::new(), Scope::User);
    let started = Running::start(Server::http(&discord, wrong), example::bot::options(), sessions).await;
    let Err(error) = started else { panic!("the wrong token was accepted") };
    let error = format!("{error:#} {error:?}");
    assert!(error.contains("Unauthorized"), "{error}");
    assert!(!error.contains(wrong), "{error}");
}

#[tokio::test]
async fn ids_tokens_and_values_are_not_printed() {
    let (probe, data, server) = start().await;
    assert_eq!(server.says(nellys("borrow")).await, "nelly!");
    for name in ["fail", "twice", "update_while_open", "open_within_update"] {
        server.fails(nellys(name)).await;
    }
    server.fails(command(&nelly(), DIRECT, "guild")).await;
    probe.set_down(true);
    server.fails(nellys("count")).await;
    probe.set_down(false);
    let secret = Bytes::from_static(br#"["a-secret-value"]"#);
    probe.storage().write(key(), secret).await.unwrap();
    server.fails(nellys("count")).await;
    // Also in the event handler's errors.
    let before = data.errors.lock().unwrap().len();
    server.discord.dispatch("INTERACTION_CREATE", modal(&nelly(), CHANNEL, "count"));
    until("the error is recorded", PATIENCE, || async { data.errors.lock().unwrap().len() > before }).await;
    let mut printed = data.errors.lock().unwrap().clone();

    let origin = Origin::new(poise::serenity_prelude::UserId::new(nelly().id), None, None);
    let user = bot::sessions(Probe::new(), Scope::User);
    user.of(origin).update(async |mut session| session.set("name", "a-secret-value")).await.unwrap();
    let open = user.of(origin).await.unwrap();
    printed += &format!("{origin:?} {user:?} {open:?} {:?} {:?} {:?}", user.of(origin), data.sessions, *open);
    for secret in [TOKEN, "aW50ZXJhY3Rpb24", "a-secret-value", &nelly().id.to_string(), &nelly().name] {
        assert!(!printed.contains(secret), "{secret} in {printed}");
    }
    assert!(mason().id != nelly().id && printed.contains("the server has gone away"));
    server.stop().await;
}

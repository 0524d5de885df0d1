//! Laws of the sessions on every storage: the real poise, on a stand-in for Discord.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)] // A case fails by panicking.

mod support;

use std::{sync::Arc, time::Duration};

use larder_bridge_tests::Stores;
use larder_core::Store;
use larder_poise::Scope;
use larder_testkit::{Factory, Runner, Suite, Target};

use self::support::{
    CHANNEL, DIRECT, OLD_GUILD, OTHER_CHANNEL, OTHER_GUILD, PRIVATE, Person, Place, Server, THREAD, bot,
    button, command, example, mason, modal, nelly,
};

fn main() {
    Runner::new()
        .suite(cases(Suite::new("memory", Stores::memory())))
        .suite(persistent(Suite::connect("file", Stores::file)))
        .suite(persistent(Suite::connect("sqlite", Stores::sqlite)))
        .suite(persistent(Suite::connect("redis", Stores::redis)))
        .suite(persistent(Suite::connect("postgres", Stores::postgres)))
        .suite(persistent(Suite::connect("mysql", Stores::mysql)))
        .suite(persistent(Suite::connect("mongodb", Stores::mongodb)))
        .main()
}

fn cases<F: Factory>(suite: Suite<F>) -> Suite<F> {
    suite
        .without_laws()
        .case("each_scope_shares_its_sessions", |context| scopes(context.target))
        .case("command_button_and_modal_share_a_session", |context| meet(context.target))
        .case("concurrent_pings_of_several_bots_all_count", |context| at_once(context.target))
        .case("ping_session_and_forget_work", |context| visit(context.target))
}

/// The cases for stores that survive the bot.
fn persistent<F: Factory>(suite: Suite<F>) -> Suite<F> {
    cases(suite).case("counts_survive_a_restart", |context| restart(context.target))
}

/// Starts the example's bot.
async fn ping_bot(storage: Store, scope: Scope) -> Server {
    Server::start(example::bot::options(), bot::sessions(storage, scope)).await
}

async fn scopes(target: Target) {
    let handle = target.open().await;
    let server = Server::start(bot::options(), bot::data((*handle).clone())).await;
    // Per user, channel, guild, user in the channel, user in the guild.
    let deeds: [(Person, Place, &str); 12] = [
        (nelly(), CHANNEL, "1 1 1 1 1"),
        (nelly(), CHANNEL, "2 2 2 2 2"),
        (mason(), CHANNEL, "1 3 3 1 1"),
        (nelly(), OTHER_CHANNEL, "3 1 4 1 3"),
        (nelly(), THREAD, "4 1 5 1 4"),
        (nelly(), OTHER_GUILD, "5 1 1 1 1"),
        (mason(), OTHER_GUILD, "2 2 2 1 1"),
        (nelly(), DIRECT, "6 1 - 1 -"),
        (mason(), Place::Direct { channel: 51 }, "3 1 - 1 -"),
        (nelly(), PRIVATE, "7 1 - 1 -"),
        (mason(), PRIVATE, "4 2 - 1 -"),
        // The channel's id already has a session; the guild's id is the same, but has none.
        (nelly(), OLD_GUILD, "8 4 1 3 1"),
    ];
    for (person, place, counts) in deeds {
        assert_eq!(server.says(command(&person, place, "scopes")).await, counts, "{person:?} {place:?}");
    }
    // A user whose id equals that of a channel and of a guild.
    let namesake = Person { id: 42, name: "namesake".to_owned() };
    assert_eq!(server.says(command(&namesake, OLD_GUILD, "scopes")).await, "1 5 2 1 1");
    server.stop().await;
}

async fn meet(target: Target) {
    let handle = target.open().await;
    let server = Server::start(bot::options(), bot::data((*handle).clone())).await;
    for place in [CHANNEL, THREAD, DIRECT, PRIVATE] {
        assert_eq!(server.says(command(&nelly(), place, "count")).await, "1");
        assert_eq!(server.says(button(&nelly(), place, "again")).await, "2");
        assert_eq!(
            server.says(button(&mason(), place, "again")).await,
            "1",
            "the user who presses it counts"
        );
        assert_eq!(server.says(modal(&nelly(), place, "count")).await, "3");
        assert_eq!(server.says(command(&nelly(), place, "deferred")).await, "4");
        assert_eq!(server.says(command(&nelly(), place, "by_hand")).await, "5");
    }
    server.stop().await;
}

async fn at_once(target: Target) {
    const BOTS: usize = 2;
    const EACH: usize = 12;
    let mut servers = Vec::new();
    for _ in 0..BOTS {
        let handle = target.open().await;
        servers.push(Arc::new(ping_bot((*handle).clone(), Scope::UserInChannel).await));
    }
    let mut counts = larder_testkit::race(BOTS * EACH, |number| {
        let server = Arc::clone(&servers[number % BOTS]);
        async move {
            let pinged = number % 3 == 0;
            let deed =
                if pinged { command(&nelly(), CHANNEL, "ping") } else { button(&nelly(), CHANNEL, "again") };
            let said = server.says(deed).await;
            said.strip_prefix("pong (").unwrap().strip_suffix(" times)").unwrap().parse::<usize>().unwrap()
        }
    })
    .await;
    counts.sort_unstable();
    assert_eq!(counts, (1..=BOTS * EACH).collect::<Vec<_>>(), "each ping saw its own count");
    for server in servers {
        server.stop().await;
    }
}

async fn visit(target: Target) {
    let handle = target.open().await;
    let server = ping_bot((*handle).clone(), Scope::UserInChannel).await;
    let says = |name| server.says(command(&nelly(), CHANNEL, name));
    assert_eq!(says("session").await, "{}");
    assert_eq!(says("forget").await, "there was nothing to forget");
    assert_eq!(says("ping").await, "pong (1 times)");
    assert_eq!(says("session").await, r#"{"ponged":1}"#);
    let pong = server.ask(command(&nelly(), CHANNEL, "ping")).await;
    assert_eq!((pong.content.as_str(), &*pong.buttons), ("pong (2 times)", &["again".to_owned()][..]));
    assert_eq!(says("forget").await, "forgotten");
    assert_eq!(says("session").await, "{}");
    assert_eq!(says("ping").await, "pong (1 times)");
    server.stop().await;
}

async fn restart(target: Target) {
    let mut handle = target.open().await;
    for run in 0..3 {
        let server = ping_bot((*handle).clone(), Scope::User).await;
        let pinged = server.says(command(&nelly(), CHANNEL, "ping")).await;
        assert_eq!(pinged, format!("pong ({} times)", 2 * run + 1));
        let pressed = server.says(button(&nelly(), DIRECT, "again")).await;
        assert_eq!(pressed, format!("pong ({} times)", 2 * run + 2));
        tokio::time::timeout(Duration::from_secs(60), server.stop()).await.expect("the bot stops");
        handle = target.reopen(handle).await;
    }
}

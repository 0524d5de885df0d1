//! An event handler together with the framework: serenity passes one message to both of them, in separate
//! tasks.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::sync::Arc;

use larder_fake_discord::Discord;
use larder_memory::MemoryStorage;
use larder_poise::{CommandSessions, Error, Open, Origin, Result, Scope};
use poise::{
    FrameworkError, FrameworkOptions, PrefixFrameworkOptions,
    serenity_prelude::{self as serenity, ClientBuilder, EventHandler, GatewayIntents, Message, async_trait},
};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};

use self::support::{CHANNEL, PATIENCE, Server, TOKEN, bot, nelly, payload};

const MESSAGES: u64 = 10;

struct Data {
    sessions: CommandSessions,
    /// One permit per command that has opened its session.
    open: Semaphore,
    /// One permit per event handler that wants the session.
    wanted: Semaphore,
    outcomes: mpsc::UnboundedSender<Result<()>>,
}

/// Opens the session and counts; in the meantime the event handler wants to count too.
#[poise::command(prefix_command)]
async fn play(ctx: poise::Context<'_, Arc<Data>, Error>) -> Result<()> {
    let data = ctx.data();
    let mut session = data.sessions.of(ctx).await?;
    data.open.add_permits(1);
    data.wanted.acquire().await.unwrap().forget();
    let count = session.get("count")?.unwrap_or(0_u64) + 1;
    session.set("count", count)?;
    let saved = Open::save(session).await;
    data.outcomes.send(saved).unwrap();
    Ok(())
}

/// Counts each message.
struct Experience(Arc<Data>);

#[async_trait]
impl EventHandler for Experience {
    async fn message(&self, _: serenity::Context, message: Message) {
        let data = &self.0;
        data.open.acquire().await.unwrap().forget();
        let counting = data.sessions.of(&message).update(async |mut session| {
            let count = session.get("count")?.unwrap_or(0_u64) + 1;
            session.set("count", count)
        });
        // The update has begun to wait before the command continues.
        let (counted, ()) = tokio::join!(biased; counting, async { data.wanted.add_permits(1) });
        data.outcomes.send(counted).unwrap();
    }
}

#[tokio::test]
async fn the_command_and_the_event_handler_both_count() {
    let discord = Discord::start(TOKEN).await.unwrap();
    let (outcomes, mut ended) = mpsc::unbounded_channel();
    let sessions = bot::sessions(MemoryStorage::new(), Scope::User);
    let data = Arc::new(Data { sessions, open: Semaphore::new(0), wanted: Semaphore::new(0), outcomes });
    let framework = poise::Framework::builder()
        .options(FrameworkOptions {
            commands: vec![play()],
            on_error: |error| {
                Box::pin(async move {
                    if let FrameworkError::Command { error, ctx, .. } = error {
                        ctx.data().outcomes.send(Err(error)).unwrap();
                    }
                })
            },
            prefix_options: PrefixFrameworkOptions {
                prefix: Some("!".into()),
                ..PrefixFrameworkOptions::default()
            },
            ..FrameworkOptions::default()
        })
        .initialize_owners(false)
        .setup({
            let data = Arc::clone(&data);
            |_, _, _| Box::pin(async { Ok(data) })
        })
        .build();
    let client = ClientBuilder::new_with_http(Server::http(&discord, TOKEN).build(), GatewayIntents::all())
        .event_handler(Experience(Arc::clone(&data)))
        .framework(framework);
    let mut client = client.await.unwrap();
    let shards = Arc::clone(&client.shard_manager);
    let running = tokio::spawn(async move { client.start().await });
    discord.connected().await;

    for number in 1..=MESSAGES {
        let mut message = payload::message(&nelly(), CHANNEL, "!play");
        message["id"] = json!((1_000 + number).to_string());
        let origin = Origin::from(&serde_json::from_value::<Message>(message.clone()).unwrap());
        discord.dispatch("MESSAGE_CREATE", message);
        for _ in ["the command", "the event handler"] {
            let outcome = tokio::time::timeout(PATIENCE, ended.recv()).await.expect("both end");
            outcome.unwrap().expect("neither is refused");
        }
        assert_eq!(data.sessions.of(origin).get("count").await.unwrap(), Some(2 * number));
    }
    shards.shutdown_all().await;
    running.await.unwrap().unwrap();
    assert_eq!(discord.unknown(), [""; 0]);
}

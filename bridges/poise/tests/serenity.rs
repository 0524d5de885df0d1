//! serenity alone, without poise's framework.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::sync::Arc;

use larder_fake_discord::Discord;
use larder_memory::MemoryStorage;
use larder_poise::{CommandSessions, Origin, Scope, ok};
use poise::serenity_prelude::{
    self as serenity, ClientBuilder, CreateInteractionResponse, CreateInteractionResponseMessage,
    EventHandler, GatewayIntents, Interaction, async_trait,
};
use serde_json::Value;

use self::support::{
    CHANNEL, DIRECT, OLD_GUILD, PATIENCE, PRIVATE, Place, Server, THREAD, TOKEN, bot, button, command, modal,
    nelly,
};

struct Handler(CommandSessions);

#[async_trait]
impl EventHandler for Handler {
    async fn interaction_create(&self, context: serenity::Context, interaction: Interaction) {
        let Interaction::Command(command) = interaction else { return };
        let ponged = self.0.of(&command).update(async |mut session| {
            let ponged = session.get("ponged")?.unwrap_or(0_u64) + 1;
            session.set("ponged", ponged)?;
            ok(ponged)
        });
        let message = CreateInteractionResponseMessage::new().content(ponged.await.unwrap().to_string());
        command.create_response(context, CreateInteractionResponse::Message(message)).await.unwrap();
    }
}

#[tokio::test]
async fn sessions_work_in_an_event_handler() {
    let discord = Discord::start(TOKEN).await.unwrap();
    let sessions = bot::sessions(MemoryStorage::new(), Scope::User);
    let http = Server::http(&discord, TOKEN).build();
    let client = ClientBuilder::new_with_http(http, GatewayIntents::empty()).event_handler(Handler(sessions));
    let mut client = client.await.unwrap();
    let shards = Arc::clone(&client.shard_manager);
    let running = tokio::spawn(async move { client.start().await });
    discord.connected().await;
    for (place, count) in [(CHANNEL, "1"), (DIRECT, "2")] {
        let answer = discord.interact(command(&nelly(), place, "ping"), PATIENCE).await.unwrap();
        assert_eq!(answer.content, count);
    }
    shards.shutdown_all().await;
    running.await.unwrap().unwrap();
    assert_eq!(discord.unknown(), [""; 0]);
}

/// All interactions of a place have the same origin.
#[test]
fn all_interactions_of_a_place_have_the_same_origin() {
    let origin = |interaction: Value| match serde_json::from_value(interaction).unwrap() {
        Interaction::Command(command) => Origin::from(&command),
        Interaction::Component(component) => Origin::from(&component),
        Interaction::Modal(modal) => Origin::from(&modal),
        _ => panic!("another interaction"),
    };
    let places: [(Place, u64, Option<u64>); 5] = [
        (CHANNEL, 42, Some(1)),
        (THREAD, 45, Some(1)),
        (OLD_GUILD, 42, Some(42)),
        (DIRECT, 50, None),
        (PRIVATE, 60, None),
    ];
    for (place, channel, guild) in places {
        for interaction in [
            command(&nelly(), place, "ping"),
            button(&nelly(), place, "again"),
            modal(&nelly(), place, "text"),
        ] {
            let origin = origin(interaction);
            assert_eq!(origin.user().map(serenity::UserId::get), Some(nelly().id));
            assert_eq!(origin.channel().map(serenity::ChannelId::get), Some(channel));
            assert_eq!(origin.guild().map(serenity::GuildId::get), guild);
        }
    }
}

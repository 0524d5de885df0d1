//! The fake behaves as Discord documents.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

use std::{sync::Arc, time::Duration};

use larder_fake_discord::{
    Discord,
    payload::{Person, Place, command},
};
use serde_json::Value;
use serenity::all::{
    self as serenity, ClientBuilder, CommandInteraction, CreateInteractionResponse,
    CreateInteractionResponseFollowup, CreateInteractionResponseMessage, EventHandler, GatewayIntents,
    HttpBuilder, Interaction, async_trait,
};
use tokio::sync::mpsc;

const TOKEN: &str = "MTk4NjIyNDgzNDcxOTI1MjQ4.secret.of-the-bot";
const LIMIT: Duration = Duration::from_secs(60);

fn http_to(discord: &Discord, token: &str) -> HttpBuilder {
    HttpBuilder::new(token).proxy(discord.url()).ratelimiter_disabled(true)
}

/// A user runs `/ping` in a channel.
fn ping() -> Value {
    let user = Person { id: 80_351_110_224_678_912, name: "nelly".to_owned() };
    command(&user, Place::Guild { guild: 1, channel: 42 }, "ping")
}

/// Returns the status and Discord's error code of a rejected request.
fn refused<T>(outcome: serenity::Result<T>) -> (u16, isize) {
    match outcome {
        Err(serenity::Error::Http(serenity::HttpError::UnsuccessfulRequest(response))) => {
            (response.status_code.as_u16(), response.error.code)
        }
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("the request was accepted"),
    }
}

fn message(content: &str) -> CreateInteractionResponse {
    CreateInteractionResponse::Message(CreateInteractionResponseMessage::new().content(content))
}

#[tokio::test]
async fn unknown_requests_fail_and_are_recorded() {
    let discord = Discord::start(TOKEN).await.unwrap();
    let http = http_to(&discord, TOKEN).build();
    assert_eq!(http.get_gateway().await.unwrap().url, http.get_bot_gateway().await.unwrap().url);
    assert_eq!(discord.unknown(), [""; 0]);
    assert_eq!(refused(http.get_guild(1.into()).await), (404, 0));
    assert_eq!(discord.unknown(), ["GET /api/v10/guilds/1"]);

    let stranger = http_to(&discord, "another.token").build();
    assert_eq!(refused(stranger.get_current_user().await), (401, 0));
    http.set_application_id(1.into());
    let nothing: [(); 0] = [];
    assert_eq!(refused(http.create_global_commands(&nothing).await), (404, 10_002), "of another application");
}

/// Sends invalid answers beside the valid one.
struct Wrong(mpsc::UnboundedSender<(CommandInteraction, [(u16, isize); 4])>);

#[async_trait]
impl EventHandler for Wrong {
    async fn interaction_create(&self, context: serenity::Context, interaction: Interaction) {
        let Interaction::Command(command) = interaction else { return };
        let http = &context.http;
        let follow_up = CreateInteractionResponseFollowup::new().content("too early");
        let early = command.create_followup(http, follow_up).await;
        let stranger =
            http.create_interaction_response(1.into(), &command.token, &message("a"), vec![]).await;
        let unknown = http.create_interaction_response(command.id, "token", &message("a"), vec![]).await;
        command.create_response(http, message("right")).await.unwrap();
        let second = command.create_response(http, message("wrong")).await;
        let all = [refused(early), refused(stranger), refused(unknown), refused(second)];
        self.0.send((command, all)).unwrap();
    }
}

#[tokio::test]
async fn an_interaction_has_one_response_and_then_follow_ups() {
    let discord = Discord::start(TOKEN).await.unwrap();
    let http = http_to(&discord, TOKEN).build();
    let (sender, mut answered) = mpsc::unbounded_channel();
    let mut client = ClientBuilder::new_with_http(http, GatewayIntents::empty())
        .event_handler(Wrong(sender))
        .await
        .unwrap();
    let (shards, http) = (Arc::clone(&client.shard_manager), Arc::clone(&client.http));
    let running = tokio::spawn(async move { client.start().await });
    discord.connected().await;

    let answer = discord.interact(ping(), LIMIT).await.unwrap();
    assert_eq!(answer.content, "right");
    let (command, refused) = answered.recv().await.unwrap();
    assert_eq!(refused, [(404, 10_015), (404, 10_062), (404, 10_062), (400, 40_060)]);
    assert_eq!(command.get_response(&http).await.unwrap().content, "right");
    let follow_up = CreateInteractionResponseFollowup::new().content("and more");
    assert_eq!(command.create_followup(&http, follow_up).await.unwrap().content, "and more");

    shards.shutdown_all().await;
    running.await.unwrap().unwrap();
    assert_eq!(discord.unknown(), [""; 0]);
}

#[tokio::test]
async fn an_interaction_without_a_bot_times_out() {
    let discord = Discord::start(TOKEN).await.unwrap();
    let asked = discord.interact(ping(), Duration::from_millis(50)).await;
    assert_eq!(asked.unwrap_err().to_string(), "the application did not respond");
}

#[tokio::test]
async fn the_gateway_rejects_another_token() {
    let discord = Discord::start(TOKEN).await.unwrap();
    let http = http_to(&discord, "another.token").build();
    let mut client = ClientBuilder::new_with_http(http, GatewayIntents::empty()).await.unwrap();
    let ended = client.start_shards(1).await;
    let expected = serenity::GatewayError::InvalidAuthentication.to_string();
    assert_eq!(ended.unwrap_err().to_string(), expected);
}

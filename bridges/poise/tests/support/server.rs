//! A bot that runs on a fake Discord.

use std::time::Duration;

use larder_fake_discord::{Answer, Discord};
use poise::{FrameworkOptions, serenity_prelude::HttpBuilder};
use serde_json::Value;

use super::example::running::Running;

/// The limit of each wait.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const TOKEN: &str = "MTk4NjIyNDgzNDcxOTI1MjQ4.secret.of-the-bot";

pub(crate) struct Server {
    pub(crate) discord: Discord,
    bot: Running,
}

impl Server {
    /// Starts a bot, and waits until it is connected.
    pub(crate) async fn start<D, E>(options: FrameworkOptions<D, E>, data: D) -> Self
    where
        D: Send + Sync + 'static,
        E: Send + Sync + 'static,
    {
        let discord = Discord::start(TOKEN).await.unwrap();
        let bot = Running::start(Self::http(&discord, TOKEN), options, data).await.unwrap();
        discord.connected().await;
        Self { discord, bot }
    }

    pub(crate) fn http(discord: &Discord, token: &str) -> HttpBuilder {
        HttpBuilder::new(token).proxy(discord.url()).ratelimiter_disabled(true)
    }

    pub(crate) async fn ask(&self, interaction: Value) -> Answer {
        self.discord.interact(interaction, PATIENCE).await.expect("the bot answers")
    }

    /// The answer, which all users must see: it is not an error.
    pub(crate) async fn says(&self, interaction: Value) -> String {
        let answer = self.ask(interaction).await;
        assert!(!answer.ephemeral, "{}", answer.content);
        answer.content
    }

    /// The answer, which only the user must see: an error.
    pub(crate) async fn fails(&self, interaction: Value) -> String {
        let answer = self.ask(interaction).await;
        assert!(answer.ephemeral && answer.buttons.is_empty(), "{}", answer.content);
        answer.content
    }

    pub(crate) async fn stop(&self) {
        self.bot.stop().await;
        // The fake implements every request of the bot.
        assert_eq!(self.discord.unknown(), [""; 0]);
    }
}

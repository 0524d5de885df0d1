//! A bot that runs on a Discord of its own.

use std::time::Duration;

use poise::{FrameworkOptions, serenity_prelude::HttpBuilder};
use serde_json::Value;

use super::example::{
    discord::{Answer, Discord},
    running::Running,
};

/// How long a test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const TOKEN: &str = "MTk4NjIyNDgzNDcxOTI1MjQ4.secret.of-the-bot";

pub(crate) struct Server {
    pub(crate) discord: Discord,
    bot: Running,
}

impl Server {
    /// Waits until the bot is connected.
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

    /// An answer that all can see: no error.
    pub(crate) async fn says(&self, interaction: Value) -> String {
        let answer = self.ask(interaction).await;
        assert!(!answer.ephemeral, "{}", answer.content);
        answer.content
    }

    /// An answer that only the user sees: what went wrong.
    pub(crate) async fn fails(&self, interaction: Value) -> String {
        let answer = self.ask(interaction).await;
        assert!(answer.ephemeral && answer.buttons.is_empty(), "{}", answer.content);
        answer.content
    }

    pub(crate) async fn stop(&self) {
        self.bot.stop().await;
        // The bot was answered by what Discord has, and not by a gap in its stand-in.
        assert_eq!(self.discord.unknown(), [""; 0]);
    }
}

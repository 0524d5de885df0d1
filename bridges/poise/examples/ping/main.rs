//! discord.js-mvc's ping controller as a bot of poise. The counts survive a restart, in any persistent store.

pub(crate) mod bot;
pub(crate) mod running;

use std::{
    env::{self, VarError},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use larder::Store;
use larder_poise::{CommandSessions, KvSessions};
use poise::serenity_prelude::HttpBuilder;
use tokio::{select, signal};

use self::running::Running;

const TOKEN: &str = "DISCORD_TOKEN";

/// Counts pings on Discord, and remembers the counts across restarts.
///
/// Needs the token of a bot in DISCORD_TOKEN. Create a bot at https://discord.com/developers/applications and
/// invite it to a server.
#[derive(Parser)]
#[command(name = "ping", version)]
pub(crate) struct Arguments {
    /// The store of the sessions, such as sqlite:FILE.db, file:DIR or redis://HOST (larder/URLS.md lists all)
    #[arg(long, value_name = "URL", default_value = "sqlite:pings.db")]
    storage: String,
    /// The users and places that share a count
    #[arg(long, value_enum, default_value = "user-in-channel")]
    scope: Scope,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scope {
    User,
    Channel,
    Guild,
    UserInChannel,
    UserInGuild,
}

impl From<Scope> for larder_poise::Scope {
    fn from(scope: Scope) -> Self {
        match scope {
            Scope::User => Self::User,
            Scope::Channel => Self::Channel,
            Scope::Guild => Self::Guild,
            Scope::UserInChannel => Self::UserInChannel,
            Scope::UserInGuild => Self::UserInGuild,
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match token(env::var(TOKEN)) {
        Ok(token) => run(arguments, HttpBuilder::new(token)).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ping: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The token that the environment must have.
pub(crate) fn token(found: Result<String, VarError>) -> anyhow::Result<String> {
    match found {
        Ok(token) if !token.trim().is_empty() => Ok(token),
        Ok(_) | Err(VarError::NotPresent) => bail!(
            "{TOKEN} is not set: it must be the token of a bot, from \
             https://discord.com/developers/applications"
        ),
        Err(VarError::NotUnicode(_)) => bail!("{TOKEN} is not a token"),
    }
}

/// Runs the bot until Ctrl-C.
pub(crate) async fn run(arguments: Arguments, http: HttpBuilder) -> anyhow::Result<()> {
    let store = larder::open(&arguments.storage)
        .await
        .with_context(|| format!("cannot open {}", larder::redact(&arguments.storage)))?;
    let served = serve(http, &store, arguments.scope.into()).await;
    // Also after an error: some stores write the last changes when they are closed.
    let closed = store.close().await.context("cannot close the storage");
    served.and(closed)
}

async fn serve(http: HttpBuilder, store: &Store, scope: larder_poise::Scope) -> anyhow::Result<()> {
    let sessions = KvSessions::builder().storage(store).prefix("discord:").build()?;
    let mut bot = Running::start(http, bot::options(), CommandSessions::new(sessions, scope)).await?;
    eprintln!("Type /ping, /session or /forget on Discord. Press Ctrl-C to stop the bot.");
    let ended = select! {
        ended = bot.ended() => ended,
        interrupted = signal::ctrl_c() => interrupted.context("cannot listen for Ctrl-C"),
    };
    bot.stop().await;
    ended
}

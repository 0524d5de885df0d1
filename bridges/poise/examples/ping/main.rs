//! discord.js-mvc's ping controller as a bot of poise. The counts survive a restart, in any persistent store.

pub(crate) mod bot;
pub(crate) mod console;
#[allow(dead_code)] // The tests need more of it.
pub(crate) mod discord;
pub(crate) mod running;

use std::{
    env::{self, VarError},
    io::{self, BufReader, IsTerminal},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Parser, ValueEnum};
use larder::Store;
use larder_poise::{CommandSessions, KvSessions};
use poise::serenity_prelude::HttpBuilder;
use tokio::{select, signal};

use self::running::Running;

/// The environment variable with the bot's token.
const TOKEN: &str = "DISCORD_TOKEN";

/// Counts pings, on Discord if DISCORD_TOKEN is set, otherwise on the console.
#[derive(Parser)]
#[command(name = "ping", version, after_help = console::HELP)]
pub(crate) struct Arguments {
    /// Where to keep the sessions, such as sqlite:FILE.db, file:DIR or redis://HOST (larder/URLS.md lists all
    /// URLs)
    #[arg(long, value_name = "URL", default_value = "sqlite:pings.db")]
    storage: String,
    /// The scope of a count
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
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ping: {error:#}");
            ExitCode::FAILURE
        }
    }
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let store = larder::open(&arguments.storage)
        .await
        .with_context(|| format!("cannot open {}", larder::redact(&arguments.storage)))?;
    let served = serve(&store, arguments.scope.into()).await;
    // Closed even after an error, because some stores write delayed changes only then.
    let closed = store.close().await.context("cannot close the storage");
    served.and(closed)
}

async fn serve(store: &Store, scope: larder_poise::Scope) -> anyhow::Result<()> {
    let sessions = KvSessions::builder().storage(store).prefix("discord:").build()?;
    let sessions = CommandSessions::new(sessions, scope);
    match token(env::var(TOKEN))? {
        Some(token) => on_discord(&token, sessions).await,
        None => {
            if io::stdin().is_terminal() {
                eprintln!("{} Ctrl-D or Ctrl-C ends, --help shows more.", console::HINT);
            }
            let input = BufReader::new(io::stdin());
            console::run(sessions, input, &mut io::stdout()).await
        }
    }
}

/// Returns the token, if the environment has one. An empty token counts as missing.
pub(crate) fn token(found: Result<String, VarError>) -> anyhow::Result<Option<String>> {
    match found {
        Ok(token) => Ok(Some(token).filter(|token| !token.trim().is_empty())),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => bail!("{TOKEN} is not valid Unicode"),
    }
}

/// Runs the bot until Ctrl-C.
async fn on_discord(token: &str, sessions: CommandSessions) -> anyhow::Result<()> {
    let mut bot = Running::start(HttpBuilder::new(token), bot::options(), sessions).await?;
    eprintln!("Type /ping, /session or /forget on Discord. Ctrl-C ends.");
    let ended = select! {
        ended = bot.ended() => ended,
        interrupted = signal::ctrl_c() => interrupted.context("cannot listen for Ctrl-C"),
    };
    bot.stop().await;
    ended
}

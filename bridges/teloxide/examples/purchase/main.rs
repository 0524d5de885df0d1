//! teloxide's purchase bot: a dialogue continues after a restart, in any store.

mod bot;

use std::{env, process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use clap::Parser;
use larder_teloxide::LarderStorage;
use teloxide::{Bot, RequestError, update_listeners};

const TOKEN: &str = "TELOXIDE_TOKEN";

/// Sells fruit on Telegram, and remembers each purchase across restarts.
///
/// Needs the token of a bot in TELOXIDE_TOKEN. @BotFather on Telegram issues one.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The store of the dialogues, such as sqlite:FILE.db, file:DIR or redis://HOST (larder/URLS.md lists
    /// all)
    #[arg(long, value_name = "URL", default_value = "sqlite:purchases.db")]
    storage: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("purchase: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    if env::var_os(TOKEN).is_none_or(|token| token.is_empty()) {
        bail!("{TOKEN} is not set: it must be the token of a bot, which @BotFather on Telegram issues");
    }
    let storage = larder::open(&arguments.storage)
        .await
        .with_context(|| format!("cannot open {}", larder::redact(&arguments.storage)))?;
    let dialogues = LarderStorage::new(storage)?;
    let served = serve(Bot::from_env(), Arc::clone(&dialogues)).await;
    // Also after an error: some stores write the last changes when they are closed.
    let closed = dialogues.storage().close().await.context("cannot close the storage");
    served.and(closed)
}

/// Handles updates until Ctrl-C.
async fn serve(bot: Bot, dialogues: Arc<bot::Dialogues>) -> anyhow::Result<()> {
    let mut dispatcher = bot::dispatcher(bot.clone(), dialogues).enable_ctrlc_handler().build();
    eprintln!("The bot is running. Press Ctrl-C to stop it.");
    let updates = update_listeners::polling_default(bot).await;
    let failed = Arc::new(async |error: RequestError| eprintln!("cannot get updates: {error}"));
    // `dispatch` would panic if Telegram cannot be reached.
    dispatcher.try_dispatch_with_listener(updates, failed).await.context("cannot log in to Telegram")
}

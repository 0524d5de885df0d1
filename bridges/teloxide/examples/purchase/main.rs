//! teloxide's purchase bot, on Telegram or on the console. A dialogue continues after a restart, in any
//! persistent store.

mod bot;
mod console;
#[expect(dead_code, reason = "this crate's tests use it too, and more of it")]
mod telegram;

use std::{env, process::ExitCode, sync::Arc};

use anyhow::Context;
use clap::Parser;
use larder_teloxide::LarderStorage;
use teloxide::{
    Bot, RequestError,
    dispatching::{DefaultKey, Dispatcher},
    update_listeners,
};

use crate::bot::Dialogues;

const TOKEN: &str = "TELOXIDE_TOKEN";

const EXAMPLES: &str = "\
If TELOXIDE_TOKEN contains the token of a bot, the bot runs on Telegram until Ctrl-C.

Otherwise it runs on the console, with a stand-in for Telegram. Each line on standard input is then a
message, `chat id: text`, or the press of a button, `chat id: [label]`:

  42: /start      begins a purchase in chat 42: the bot asks for the name, then for the product
  42: [Banana]    presses a button that the bot has shown
  42: /cancel     ends the purchase
  42: /help       lists the commands

Answers go to standard output in the same form, errors to standard error.

Examples:
  printf '42: /start\\n42: Ann\\n' | purchase
  echo '42: [Banana]' | purchase      (continues the first one)
  purchase --storage redis://localhost
  TELOXIDE_TOKEN=<token from @BotFather> purchase";

/// Sells fruit and a vegetable. It remembers the progress of each purchase across restarts.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Where to keep the dialogues, such as sqlite:FILE.db, file:DIR or redis://HOST (larder/URLS.md lists
    /// all URLs)
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
    let storage = larder::open(&arguments.storage)
        .await
        .with_context(|| format!("cannot open {}", larder::redact(&arguments.storage)))?;
    let dialogues = LarderStorage::new(storage)?;
    let served = if env::var_os(TOKEN).is_some() {
        serve_on_telegram(Arc::clone(&dialogues)).await
    } else {
        console::serve(Arc::clone(&dialogues)).await
    };
    // Closed even after an error, because some stores write delayed changes only then.
    let closed = dialogues.storage().close().await.context("cannot close the storage");
    served.and(closed)
}

async fn serve_on_telegram(dialogues: Arc<Dialogues>) -> anyhow::Result<()> {
    let bot = Bot::from_env();
    let dispatcher = bot::dispatcher(bot.clone(), dialogues).enable_ctrlc_handler().build();
    eprintln!("The bot is on Telegram. Ctrl-C ends.");
    dispatch(bot, dispatcher).await
}

/// Handles updates until the dispatcher is shut down, including all updates that it has already received.
///
/// Replaces [`Dispatcher::dispatch`], which panics if Telegram cannot be reached, and reports errors only to
/// a logger.
async fn dispatch(bot: Bot, mut dispatcher: Dispatcher<Bot, bot::Error, DefaultKey>) -> anyhow::Result<()> {
    let updates = update_listeners::polling_default(bot).await;
    let failed = Arc::new(async |error: RequestError| eprintln!("cannot get updates: {error}"));
    dispatcher.try_dispatch_with_listener(updates, failed).await.context("cannot log in to Telegram")
}

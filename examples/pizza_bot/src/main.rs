//! grammY's pizza counter on the console. The counts survive a restart, in any persistent store.

mod bot;

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
    str, thread,
};

use anyhow::Context;
use clap::Parser;
use tokio::{pin, select, signal, sync::mpsc};

use crate::bot::Bot;

const EXAMPLES: &str = "\
Each line on standard input is a message, `chat id: text`:

  42: 🍕          counts one pizza for chat 42, as does any text with a 🍕 in it
  42: /hunger     shows the count
  42: /reset      deletes the count

Answers go to standard output in the same form, errors to standard error.

Examples:
  printf '42: 🍕\\n42: /hunger\\n' | pizza_bot
  pizza_bot --storage redis://localhost
  pizza_bot --storage 'file:sessions?layout=grammy'     (continues the sessions of a grammY bot)";

const HINT: &str = "Write `chat id: text`, such as `42: 🍕` or `42: /hunger`.";

/// Counts the pizzas that each chat sends, and remembers the counts across restarts.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Where to keep the sessions, such as sqlite:FILE.db, file:DIR or redis://HOST (larder/URLS.md lists all
    /// URLs)
    #[arg(long, value_name = "URL", default_value = "sqlite:pizzas.db")]
    storage: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pizza_bot: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let storage = larder::open(&arguments.storage)
        .await
        .with_context(|| format!("cannot open {}", larder::redact(&arguments.storage)))?;
    let bot = Bot::new(storage)?;
    let served = serve(&bot).await;
    // Closed even after an error, because some stores write delayed changes only then.
    let closed = bot.close().await.context("cannot close the storage");
    served.and(closed)
}

/// Answers messages until the input ends, or Ctrl-C.
async fn serve(bot: &Bot) -> anyhow::Result<()> {
    if io::stdin().is_terminal() {
        eprintln!("{HINT} Ctrl-D or Ctrl-C ends.");
    }
    let mut lines = lines();
    let interrupt = signal::ctrl_c();
    pin!(interrupt);
    for number in 1_u64.. {
        let line = select! {
            // First, so that Ctrl-C works however many lines are waiting.
            biased;
            interrupted = &mut interrupt => {
                return interrupted.context("cannot listen for Ctrl-C");
            }
            line = lines.recv() => line,
        };
        let Some(line) = line else { break };
        let line = line.context("cannot read standard input")?;
        match str::from_utf8(&line).map(str::trim) {
            Ok("") => {}
            Ok(line) => match message(line) {
                Some((chat, text)) => answer(bot, chat, text).await?,
                None => eprintln!("line {number} is not a message. {HINT}"),
            },
            Err(_) => eprintln!("line {number} is not valid UTF-8. {HINT}"),
        }
    }
    Ok(())
}

/// A message that fails does not stop the bot for other chats.
async fn answer(bot: &Bot, chat: i64, text: &str) -> anyhow::Result<()> {
    match bot.answer(chat, text).await {
        Ok(answer) => writeln!(io::stdout(), "{chat}: {answer}").context("cannot write the answer")?,
        Err(error) => eprintln!("{chat}: the message was not handled: {error}"),
    }
    Ok(())
}

/// Returns the id of the chat, and the text.
fn message(line: &str) -> Option<(i64, &str)> {
    let (chat, text) = line.split_once(':')?;
    Some((chat.trim().parse().ok()?, text.trim()))
}

/// Returns the lines of standard input. A separate thread reads them, because such a read cannot be
/// cancelled: in a task of the runtime it would delay Ctrl-C.
fn lines() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(64);
    thread::spawn(move || {
        for line in io::stdin().lock().split(b'\n') {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

//! grammY's pizza counter, on the console: what a chat has sent survives a restart, in any store.

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
  42: /hunger     says how many there were
  42: /reset      forgets them

Answers go to standard output in the same form, problems to standard error.

Examples:
  printf '42: 🍕\\n42: /hunger\\n' | pizza_bot
  pizza_bot --storage redis://localhost
  pizza_bot --storage 'file:sessions?layout=grammy'     (goes on with a grammY bot's sessions)";

const HINT: &str = "Write `chat id: text`, such as `42: 🍕` or `42: /hunger`.";

/// Counts the pizzas that each chat sends, and remembers them when it is stopped and started again.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Where the sessions are kept, such as sqlite:FILE.db, file:DIR or redis://HOST (larder/URLS.md
    /// has them all)
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
    // Closed even after an error: some stores write only then what they have put off.
    let closed = bot.close().await.context("cannot close the storage");
    served.and(closed)
}

/// Answers messages until there are no more, or Ctrl-C.
async fn serve(bot: &Bot) -> anyhow::Result<()> {
    if io::stdin().is_terminal() {
        eprintln!("{HINT} Ctrl-D or Ctrl-C ends.");
    }
    let mut lines = lines();
    let interrupt = signal::ctrl_c();
    pin!(interrupt);
    for number in 1_u64.. {
        let line = select! {
            // First, so that Ctrl-C is heeded however many lines are waiting.
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
                None => eprintln!("line {number} is no message. {HINT}"),
            },
            Err(_) => eprintln!("line {number} is no UTF-8. {HINT}"),
        }
    }
    Ok(())
}

/// One message that fails is no reason to leave the other chats without a bot.
async fn answer(bot: &Bot, chat: i64, text: &str) -> anyhow::Result<()> {
    match bot.answer(chat, text).await {
        Ok(answer) => writeln!(io::stdout(), "{chat}: {answer}").context("cannot write the answer")?,
        Err(error) => eprintln!("{chat}: the message was not handled: {error}"),
    }
    Ok(())
}

/// The id of the chat, and the text.
fn message(line: &str) -> Option<(i64, &str)> {
    let (chat, text) = line.split_once(':')?;
    Some((chat.trim().parse().ok()?, text.trim()))
}

/// The lines of standard input. A thread of its own waits for them: nothing can call off such a wait,
/// so that in a task of the runtime's it would keep Ctrl-C waiting too.
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

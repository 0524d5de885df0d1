//! Runs the bot on the console: each line is a message to it, and a stand-in takes Telegram's place.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    str,
    sync::Arc,
    thread,
};

use anyhow::Context;
use tokio::{pin, select, signal, sync::mpsc, try_join};

use crate::{
    bot::{self, Dialogues},
    dispatch,
    telegram::{Sent, Telegram},
};

const HINT: &str = "Write `chat id: text`, such as `42: /start`; `42: [Banana]` presses a button.";

/// Runs the bot until the input ends, or Ctrl-C, and all messages are handled.
pub(crate) async fn serve(dialogues: Arc<Dialogues>) -> anyhow::Result<()> {
    let telegram = Telegram::start().await.context("cannot start the stand-in for Telegram")?;
    let dispatcher = bot::dispatcher(telegram.bot(), dialogues).build();
    let shutdown = dispatcher.shutdown_token();
    let handled = async {
        dispatch(telegram.bot(), dispatcher).await?;
        telegram.close();
        Ok(())
    };
    let written = async {
        let outcome = write_to_bot(&telegram).await;
        telegram.idle().await;
        // `handled` waits for the shutdown.
        let _ = shutdown.shutdown();
        Ok(outcome)
    };
    let (outcome, (), ()) = try_join!(written, handled, print_answers(&telegram))?;
    outcome
}

/// Sends the messages from the input, until it ends, or Ctrl-C.
async fn write_to_bot(telegram: &Telegram) -> anyhow::Result<()> {
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
            interrupted = &mut interrupt => return interrupted.context("cannot listen for Ctrl-C"),
            line = lines.recv() => line,
        };
        let Some(line) = line else { break };
        let line = line.context("cannot read standard input")?;
        match str::from_utf8(&line).map(str::trim) {
            Ok("") => {}
            Ok(line) => match act(line) {
                Some((chat, Act::Write(text))) => _ = telegram.message(chat, text),
                Some((chat, Act::Press(label))) => _ = telegram.press(chat, label),
                None => eprintln!("line {number} is not a message. {HINT}"),
            },
            Err(_) => eprintln!("line {number} is not valid UTF-8. {HINT}"),
        }
    }
    Ok(())
}

/// Prints the bot's messages until it stops.
async fn print_answers(telegram: &Telegram) -> anyhow::Result<()> {
    while let Some(sent) = telegram.sent().await {
        print(&sent).context("cannot write the answer")?;
    }
    Ok(())
}

/// Prints each line of an answer with the chat's id, and the buttons in the form in which they are pressed.
fn print(Sent { chat, text, buttons }: &Sent) -> io::Result<()> {
    let buttons: String = buttons.iter().map(|label| format!(" [{label}]")).collect();
    let mut stdout = io::stdout().lock();
    for line in (text.clone() + &buttons).lines().filter(|line| !line.is_empty()) {
        writeln!(stdout, "{chat}: {line}")?;
    }
    stdout.flush()
}

/// An action of a user in a chat.
enum Act<'a> {
    Write(&'a str),
    /// The button with this label.
    Press(&'a str),
}

/// Returns the id of the chat, and the action.
fn act(line: &str) -> Option<(i64, Act<'_>)> {
    let (chat, text) = line.split_once(':')?;
    let chat = chat.trim().parse().ok().filter(|chat| *chat != 0)?;
    let text = text.trim();
    let act = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(label) => Act::Press(label),
        // Telegram has no empty messages.
        None if text.is_empty() => return None,
        None => Act::Write(text),
    };
    Some((chat, act))
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

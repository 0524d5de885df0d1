//! The bot on the console: lines are what people write to it, and Telegram is the stand-in.

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

/// Runs the bot until there are no more lines, or Ctrl-C, and all that has been written to it is handled.
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
        // It is `handled` that waits until it has happened.
        let _ = shutdown.shutdown();
        Ok(outcome)
    };
    let (outcome, (), ()) = try_join!(written, handled, print_answers(&telegram))?;
    outcome
}

/// Sends what the lines say, until there are no more, or Ctrl-C.
async fn write_to_bot(telegram: &Telegram) -> anyhow::Result<()> {
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
                None => eprintln!("line {number} is no message. {HINT}"),
            },
            Err(_) => eprintln!("line {number} is no UTF-8. {HINT}"),
        }
    }
    Ok(())
}

/// Prints what the bot sends, until it is done.
async fn print_answers(telegram: &Telegram) -> anyhow::Result<()> {
    while let Some(sent) = telegram.sent().await {
        print(&sent).context("cannot write the answer")?;
    }
    Ok(())
}

/// Each line of an answer is one for itself. The buttons are printed as they are pressed.
fn print(Sent { chat, text, buttons }: &Sent) -> io::Result<()> {
    let buttons: String = buttons.iter().map(|label| format!(" [{label}]")).collect();
    let mut stdout = io::stdout().lock();
    for line in (text.clone() + &buttons).lines().filter(|line| !line.is_empty()) {
        writeln!(stdout, "{chat}: {line}")?;
    }
    stdout.flush()
}

/// What somebody does in a chat.
enum Act<'a> {
    Write(&'a str),
    /// The button with this label.
    Press(&'a str),
}

/// The id of the chat, and what happens there.
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

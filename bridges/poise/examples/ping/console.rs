//! Runs the bot without Discord: each line on standard input is an action of a user.

use std::{
    io::{self, BufRead, Write},
    str, thread,
    time::Duration,
};

use anyhow::Context;
use larder_poise::CommandSessions;
use poise::serenity_prelude::HttpBuilder;
use tokio::{pin, select, signal, sync::mpsc};

use super::{
    bot,
    discord::{
        Discord,
        payload::{self, Person, Place},
    },
    running::Running,
};

pub(crate) const HELP: &str = "\
Each line on standard input is an action of a user, `USER in CHANNEL: COMMAND`:

  nelly in 42: /ping        counts
  nelly in 42: again        presses the button under the answer
  nelly in 42: /session     shows all values of the session
  nelly in 42: /forget      deletes the count
  nelly in 2/43: /ping      in a channel of guild 2; all others are in guild 1
  nelly: /ping              in a direct message";

pub(crate) const HINT: &str = "Write `USER in CHANNEL: COMMAND`, such as `nelly in 42: /ping`.";

/// Not a secret: only the stand-in accepts it, and only in this run.
const TOKEN: &str = "console.stand-in.token";

/// How long Discord waits for an answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Runs the bot on a stand-in for Discord until the input ends, or Ctrl-C.
pub(crate) async fn run(
    sessions: CommandSessions,
    input: impl BufRead + Send + 'static,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let discord = Discord::start(TOKEN).await.context("cannot listen")?;
    let http = HttpBuilder::new(TOKEN).proxy(discord.url()).ratelimiter_disabled(true);
    let bot = Running::start(http, bot::options(), sessions).await?;
    discord.connected().await;
    let served = serve(&discord, input, output).await;
    bot.stop().await;
    served
}

async fn serve(
    discord: &Discord,
    input: impl BufRead + Send + 'static,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let mut lines = lines(input);
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
            Ok(line) => match Deed::parse(line) {
                Some(deed) => deed.happen(discord, output).await?,
                None => eprintln!("line {number} is not an action of a user. {HINT}"),
            },
            Err(_) => eprintln!("line {number} is not valid UTF-8. {HINT}"),
        }
    }
    Ok(())
}

/// An action of a user.
struct Deed<'l> {
    user: &'l str,
    place: Place,
    what: What<'l>,
}

enum What<'l> {
    Command(&'l str),
    Again,
}

impl<'l> Deed<'l> {
    fn parse(line: &'l str) -> Option<Self> {
        let (who, what) = line.split_once(':')?;
        let (user, place) = match who.split_once(" in ") {
            Some((user, place)) => {
                let (guild, channel) = place.split_once('/').unwrap_or(("1", place));
                (user.trim(), Place::Guild { guild: id(guild)?, channel: id(channel)? })
            }
            None => (who.trim(), Place::Direct { channel: id_of(who.trim()) + 1 }),
        };
        let what = match what.trim() {
            bot::AGAIN => What::Again,
            what => What::Command(what.strip_prefix('/')?),
        };
        // Without this, a line with a missing user or channel would be a direct message of a user called "in
        // 42".
        let is_name = !user.is_empty() && user.split_whitespace().all(|word| word != "in");
        is_name.then_some(Self { user, place, what })
    }

    async fn happen(self, discord: &Discord, output: &mut impl Write) -> anyhow::Result<()> {
        let Self { user, place, what } = self;
        let person = Person { id: id_of(user), name: user.to_owned() };
        let interaction = match what {
            What::Again => payload::button(&person, place, bot::AGAIN),
            What::Command(name) => {
                let commands = discord.commands();
                if !commands.contains(name) {
                    let commands = commands.into_iter().collect::<Vec<_>>().join(", /");
                    eprintln!("unknown command /{name}; the commands are /{commands}");
                    return Ok(());
                }
                payload::command(&person, place, name)
            }
        };
        let place = match place {
            Place::Direct { .. } => "direct".to_owned(),
            _ => place.channel().to_string(),
        };
        match discord.interact(interaction, PATIENCE).await {
            Ok(answer) => {
                writeln!(output, "{place} -> {user}: {}", answer.content).context("cannot write the answer")
            }
            Err(no_answer) => {
                eprintln!("{place} -> {user}: {no_answer}");
                Ok(())
            }
        }
    }
}

fn id(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|id| *id != 0)
}

/// Returns an id for a name, the same in each run (FNV-1a). The lowest bit is reserved for the user's direct
/// messages.
fn id_of(name: &str) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash >> 1) & !1 | 2
}

/// Returns the lines of the input. A separate thread reads them, because such a read cannot be cancelled: in
/// a task of the runtime it would delay Ctrl-C.
fn lines(input: impl BufRead + Send + 'static) -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(64);
    thread::spawn(move || {
        for line in input.split(b'\n') {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

//! discord.js-mvc's ping controller with named session values. The interactions come from a file.

mod controller;
mod interaction;

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Parser;
use larder_session::KvSessions;
use serde_json::Value;

use crate::{controller::Controller, interaction::Interaction};

const EXAMPLES: &str = "\
Commands:
  ping       counts in the session of the user in the channel
  session    shows all values of that session
  forget     deletes the count

Examples, in the root of the repository:
  cargo run -p discord_ping
  cargo run -p discord_ping -- --storage redis://localhost --file my.json";

/// Answers Discord interactions from a file, and counts pings per user and channel.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Where to keep the sessions, such as sqlite:FILE.db, file:DIR or redis://HOST (larder/URLS.md lists all
    /// URLs)
    #[arg(long, value_name = "URL", default_value = "sqlite:pings.db")]
    storage: String,
    /// A JSON array of interactions, as Discord sends them to a bot
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/interactions.json"))]
    file: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("discord_ping: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let interactions =
        read(&arguments.file).with_context(|| format!("cannot use {}", arguments.file.display()))?;
    let storage = larder::open(&arguments.storage)
        .await
        .with_context(|| format!("cannot open {}", larder::redact(&arguments.storage)))?;
    let sessions = KvSessions::builder().storage(storage).prefix("discord:").build()?;
    let answered = answer(&Controller::new(sessions.clone()), interactions).await;
    // Closed even after an error, because some stores write delayed changes only then.
    let closed = sessions.sessions().storage().close().await.context("cannot close the storage");
    answered.and(closed)
}

fn read(file: &Path) -> anyhow::Result<Vec<Value>> {
    let text = fs::read(file)?;
    serde_json::from_slice(&text).context("not a JSON array of interactions")
}

/// Answers all interactions. A failure does not stop the others.
async fn answer(controller: &Controller, interactions: Vec<Value>) -> anyhow::Result<()> {
    let mut failed = 0;
    for (number, interaction) in (1..).zip(interactions) {
        match answer_one(controller, interaction).await {
            Ok(answer) => writeln!(io::stdout(), "{answer}").context("cannot write the answer")?,
            Err(error) => {
                eprintln!("interaction {number}: {error:#}");
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of the interactions could not be answered");
    }
    Ok(())
}

async fn answer_one(controller: &Controller, interaction: Value) -> anyhow::Result<String> {
    let interaction: Interaction =
        serde_json::from_value(interaction).context("not an interaction in Discord's format")?;
    let answer = controller.answer(&interaction).await?;
    Ok(format!("{}: {answer}", interaction.place()))
}

//! Migrates sessions that older versions of a program have stored, when it reads them.

mod pets;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::Parser;
use futures_util::TryStreamExt;
use larder_session::Sessions;

use crate::pets::{Owner, migrations};

const PREFIX: &str = "pets:";

/// Sessions from three older versions of the program. The first version had no migrations, and so no
/// envelope.
const OLD_SESSIONS: [(&str, &str); 3] = [
    ("pets:1", r#"{"petNames":["Rex","Minka"]}"#),
    ("pets:2", r#"{"v":2,"__d":{"pets":[{"name":"Rex","age":null,"isFavorite":true}]}}"#),
    (
        "pets:3",
        r#"{"v":10,"__d":{"pets":[{"name":"Minka","age":27,"isFavorite":false}],"settings":{"language":"de"}}}"#,
    ),
];

const EXAMPLES: &str = "\
Examples, in the root of the repository:
  cargo run -p migrate
  cargo run -p migrate -- --storage redis://localhost";

/// Migrates the sessions of a pet bot from any older version, and shows the stored values before and after.
/// If the storage has no sessions, it first writes some old ones.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Where to keep the sessions, under keys that begin with `pets:`, such as sqlite:FILE.db, file:DIR or
    /// redis://HOST (larder/URLS.md lists all URLs)
    #[arg(long, value_name = "URL", default_value = "sqlite:pets.db")]
    storage: String,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("migrate: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let storage = larder::open(&arguments.storage)
        .await
        .with_context(|| format!("cannot open {}", larder::redact(&arguments.storage)))?;
    // Without `persist_migrated` a session keeps its old form until a handler changes it. That is enough for a bot,
    // because each read migrates the session.
    let owners: Sessions<Owner> = Sessions::builder()
        .storage(storage)
        .prefix(PREFIX)
        .migrations(migrations())
        .persist_migrated(true)
        .build()?;
    let migrated = migrate(&owners).await;
    // Closed even after an error, because some stores write delayed changes only then.
    let closed = owners.storage().close().await.context("cannot close the storage");
    migrated.and(closed)
}

async fn migrate(owners: &Sessions<Owner>) -> anyhow::Result<()> {
    if owners.keys().try_next().await?.is_none() {
        for (key, session) in OLD_SESSIONS {
            owners.storage().write(key, session).await?;
        }
        writeln!(io::stdout(), "wrote {} sessions as older versions stored them", OLD_SESSIONS.len())?;
    }
    let mut keys: Vec<String> = owners.keys().try_collect().await?;
    keys.sort_unstable();
    let mut failed = 0;
    for key in &keys {
        match migrate_one(owners, key).await {
            Ok(change) => writeln!(io::stdout(), "\n{PREFIX}{key}: {change}")?,
            Err(error) => {
                eprintln!("{PREFIX}{key} is unchanged: {error}");
                failed += 1;
            }
        }
    }
    if failed > 0 {
        bail!("{failed} of {} sessions could not be migrated", keys.len());
    }
    Ok(())
}

/// Migrates the session, and returns a description of the change.
async fn migrate_one(owners: &Sessions<Owner>, key: &str) -> larder::Result<String> {
    let before = stored(owners, key).await?;
    // The read runs the steps, and the end of the update saves their result.
    let pets = owners.modify(key, |owner| owner.to_string()).await?;
    let after = stored(owners, key).await?;
    Ok(if before == after {
        format!("{pets}\n  is up to date: {after}")
    } else {
        format!("{pets}\n  before: {before}\n  after:  {after}")
    })
}

/// Returns the stored value of a session, with its envelope.
async fn stored(owners: &Sessions<Owner>, key: &str) -> larder::Result<String> {
    let record = owners.storage().read(format!("{PREFIX}{key}")).await?;
    let value = record.map(|record| record.value).unwrap_or_default();
    Ok(String::from_utf8_lossy(&value).into_owned())
}

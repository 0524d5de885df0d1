//! `larder get`.

use futures_util::StreamExt;
use larder::{Key, ReadOptions, Registry, Store};

use super::{
    args::Get,
    exit::Exit,
    output::{Output, entry_json, say},
    problems::Problems,
    store,
};

pub(super) async fn run(arguments: &Get, registry: &Registry, output: &mut Output) -> anyhow::Result<Exit> {
    let store = store::open_existing(&arguments.url, registry).await?;
    store::closing(&store, async {
        match &arguments.key {
            Some(key) => one(&store, key, arguments.json, output).await,
            None => all(&store, arguments.prefix.as_deref().unwrap_or_default(), output).await,
        }
    })
    .await
}

async fn all(store: &Store, prefix: &str, output: &mut Output) -> anyhow::Result<Exit> {
    let mut problems = Problems::new();
    let mut entries = store.entries(prefix);
    while let Some(entry) = entries.next().await {
        if let Some((key, record)) = problems.check(entry)? {
            output.line(entry_json(&key, &record)?)?;
        }
    }
    problems.name(store, prefix).await?;
    Ok(Exit::complete(problems.is_empty()))
}

async fn one(store: &Store, key: &Key, json: bool, output: &mut Output) -> anyhow::Result<Exit> {
    let mut options = ReadOptions::new();
    options.ttl = json && store.info().expiry;
    let Some(record) = store.read_with(key, &options).await? else {
        say("the key has no entry");
        return Ok(Exit::Negative);
    };
    if json {
        output.line(entry_json(key, &record)?)?;
    } else {
        output.value(&record.value)?;
    }
    Ok(Exit::Done)
}

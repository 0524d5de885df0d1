//! `larder get`.

use futures_util::StreamExt;
use larder::{Entry, Expiry, Key, Storage};

use super::{
    args::Get,
    exit::Outcome,
    output::{Output, entry_json, say},
    problems::Problems,
    store,
};

pub(super) async fn run(arguments: &Get, output: &mut Output) -> anyhow::Result<Outcome> {
    let storage = store::open_existing(&arguments.url).await?;
    store::closing(&*storage, async {
        match &arguments.key {
            Some(key) => one(&*storage, key, arguments.json, output).await,
            None => all(&*storage, arguments.prefix.as_deref().unwrap_or_default(), output).await,
        }
    })
    .await
}

async fn all(storage: &dyn Storage, prefix: &str, output: &mut Output) -> anyhow::Result<Outcome> {
    let mut problems = Problems::new();
    let mut entries = storage.entries(prefix);
    while let Some(entry) = entries.next().await {
        if let Some(entry) = problems.check(entry)? {
            output.line(entry_json(&entry)?)?;
        }
    }
    problems.name(storage, prefix).await?;
    Ok(Outcome::complete(problems.is_empty()))
}

async fn one(storage: &dyn Storage, key: &Key, json: bool, output: &mut Output) -> anyhow::Result<Outcome> {
    let Some(record) = storage.read(key).await? else {
        say("there is no entry under this key");
        return Ok(Outcome::Negative);
    };
    if json {
        let expiry = if storage.capabilities().expiry { storage.ttl(key).await? } else { None };
        // Should it have expired since it was read: it was there.
        let entry = Entry::new(key.clone(), record, expiry.unwrap_or(Expiry::Never));
        output.line(entry_json(&entry)?)?;
    } else {
        output.value(&record.value)?;
    }
    Ok(Outcome::Done)
}

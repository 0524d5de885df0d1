//! `larder get`.

use futures_util::TryStreamExt;
use larder::{Entry, Expiry, Key, Storage};

use super::{
    args::Get,
    exit::Outcome,
    output::{Output, entry_json},
    store,
};

pub(super) async fn run(arguments: &Get, output: &mut Output) -> anyhow::Result<Outcome> {
    let storage = store::open_existing(&arguments.url).await?;
    let outcome = match &arguments.key {
        Some(key) => one(&storage, key, arguments.json, output).await?,
        None => {
            let mut entries = storage.entries(arguments.prefix.as_deref().unwrap_or_default());
            while let Some(entry) = entries.try_next().await? {
                output.line(entry_json(&entry)?)?;
            }
            Outcome::Done
        }
    };
    storage.close().await?;
    Ok(outcome)
}

async fn one(storage: &dyn Storage, key: &Key, json: bool, output: &mut Output) -> anyhow::Result<Outcome> {
    let Some(record) = storage.read(key).await? else {
        eprintln!("larder: there is no entry under this key");
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

//! `larder ls`.

use futures_util::StreamExt;
use larder::{Key, Storage};
use serde_json::json;

use super::{
    args::List,
    exit::Outcome,
    output::{Output, ttl_ms},
    problems::Problems,
    store,
};

pub(super) async fn run(arguments: &List, output: &mut Output) -> anyhow::Result<Outcome> {
    let storage = store::open_existing(&arguments.url).await?;
    store::closing(&*storage, list(&*storage, arguments, output)).await
}

async fn list(storage: &dyn Storage, arguments: &List, output: &mut Output) -> anyhow::Result<Outcome> {
    let mut problems = Problems::new();
    let is_wanted =
        |key: &Key| arguments.fingerprint.as_ref().is_none_or(|wanted| *wanted == key.fingerprint());
    let mut found = false;
    if arguments.json {
        let mut entries = storage.entries(&arguments.prefix);
        while let Some(entry) = entries.next().await {
            let Some(entry) = problems.check(entry)?.filter(|entry| is_wanted(&entry.key)) else { continue };
            found = true;
            output.line(json!({
                "key": entry.key.as_str(),
                "bytes": entry.record.value.len(),
                "ttl_ms": ttl_ms(entry.expiry),
            }))?;
        }
    } else {
        let mut keys = storage.keys(&arguments.prefix);
        while let Some(key) = keys.next().await {
            if let Some(key) = problems.check(key)?.filter(is_wanted) {
                found = true;
                output.line(key)?;
            }
        }
    }
    problems.name(storage, &arguments.prefix).await?;
    Ok(Outcome::complete(problems.is_empty() && (found || arguments.fingerprint.is_none())))
}

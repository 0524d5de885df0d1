//! `larder ls`.

use futures_util::StreamExt;
use larder::{Key, Registry, Store};
use serde_json::json;

use super::{
    args::List,
    exit::Exit,
    output::{Output, ttl_ms},
    problems::Problems,
    store,
};

pub(super) async fn run(arguments: &List, registry: &Registry, output: &mut Output) -> anyhow::Result<Exit> {
    let store = store::open_existing(&arguments.url, registry).await?;
    store::closing(&store, list(&store, arguments, output)).await
}

async fn list(store: &Store, arguments: &List, output: &mut Output) -> anyhow::Result<Exit> {
    let mut problems = Problems::new();
    let is_wanted =
        |key: &Key| arguments.fingerprint.as_ref().is_none_or(|wanted| *wanted == key.fingerprint());
    let mut found = false;
    if arguments.json {
        let mut entries = store.entries(&arguments.prefix);
        while let Some(entry) = entries.next().await {
            let Some((key, record)) = problems.check(entry)?.filter(|(key, _)| is_wanted(key)) else {
                continue;
            };
            found = true;
            output.line(json!({
                "key": key.as_str(),
                "bytes": record.value.len(),
                "ttl_ms": ttl_ms(record.expiry),
            }))?;
        }
    } else {
        let mut keys = store.keys(&arguments.prefix);
        while let Some(key) = keys.next().await {
            if let Some(key) = problems.check(key)?.filter(is_wanted) {
                found = true;
                output.line(key)?;
            }
        }
    }
    problems.name(store, &arguments.prefix).await?;
    Ok(Exit::complete(problems.is_empty() && (found || arguments.fingerprint.is_none())))
}

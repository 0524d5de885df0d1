//! `larder ls`.

use futures_util::TryStreamExt;
use serde_json::json;

use super::{
    args::List,
    exit::Outcome,
    output::{Output, ttl_ms},
    store,
};

pub(super) async fn run(arguments: &List, output: &mut Output) -> anyhow::Result<Outcome> {
    let storage = store::open_existing(&arguments.url).await?;
    if arguments.json {
        let mut entries = storage.entries(&arguments.prefix);
        while let Some(entry) = entries.try_next().await? {
            output.line(json!({
                "key": entry.key.as_str(),
                "bytes": entry.record.value.len(),
                "ttl_ms": ttl_ms(entry.expiry),
            }))?;
        }
    } else {
        let mut keys = storage.keys(&arguments.prefix);
        while let Some(key) = keys.try_next().await? {
            output.line(key)?;
        }
    }
    storage.close().await?;
    Ok(Outcome::Done)
}

//! `larder ttl`.

use std::time::Duration;

use larder::{Expiry, Registry};
use serde_json::json;

use super::{
    args::Ttl,
    exit::Exit,
    output::{Output, say, ttl_ms},
    store,
};

pub(super) async fn run(arguments: &Ttl, registry: &Registry, output: &mut Output) -> anyhow::Result<Exit> {
    let store = store::open_existing(&arguments.url, registry).await?;
    let key = &arguments.key;
    let left = store::closing(&store, async {
        Ok(match arguments.set {
            Some(expiry) => store.touch(key, expiry).await?.then_some(expiry),
            None => store.ttl(key).await?,
        })
    });
    let Some(left) = left.await? else {
        say("the key has no entry");
        return Ok(Exit::Negative);
    };
    if arguments.json {
        output.line(json!({ "key": key.as_str(), "ttl_ms": ttl_ms(Some(left)) }))?;
    } else {
        match left {
            Expiry::Never => output.line("never")?,
            Expiry::After(left) => output.line(humantime::format_duration(whole_millis(left)))?,
        }
    }
    Ok(Exit::Done)
}

fn whole_millis(left: Duration) -> Duration {
    Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
}

//! `larder rm`.

use larder::Storage;
use serde_json::json;

use super::{args::Remove, exit::Outcome, output::Output, store};

pub(super) async fn run(arguments: &Remove, output: &mut Output) -> anyhow::Result<Outcome> {
    let storage = store::open_existing(&arguments.url).await?;
    let deleted = match &arguments.prefix {
        Some(prefix) => storage.clear(prefix).await?,
        None => storage.delete_many(&arguments.keys).await?,
    };
    storage.close().await?;
    if arguments.json {
        output.line(json!({ "deleted": deleted }))?;
    } else {
        eprintln!("larder: {deleted} deleted");
    }
    Ok(if deleted == 0 && arguments.prefix.is_none() { Outcome::Negative } else { Outcome::Done })
}

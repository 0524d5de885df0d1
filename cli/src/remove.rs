//! `larder rm`.

use futures_util::StreamExt;
use larder::{Change, Key, Registry, Store};
use serde_json::json;

use super::{
    args::Remove,
    exit::Exit,
    interrupt::Signals,
    output::{Output, say},
    problems::Problems,
    store,
};

/// The number of keys that one call deletes.
const CHUNK: usize = 256;

pub(super) async fn run(
    arguments: &Remove,
    registry: &Registry,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let store = store::open_existing(&arguments.url, registry).await?;
    let mut signals = Signals::new()?;
    let (mut deleted, mut problems) = (0, Problems::new());
    let removed = signals
        .or_until(async {
            if arguments.keys.is_empty() {
                let prefix = arguments.prefix.as_deref().unwrap_or_default();
                all(&store, prefix, &mut deleted, &mut problems).await
            } else {
                each(&store, &arguments.keys, &mut deleted, &mut problems).await
            }
        })
        .await;
    // Also after a failure, because this writes a snapshot file.
    let closed = store::close(&store, &mut signals).await;
    match removed {
        Err(signal) => {
            closed?;
            say(format_args!("{} after {deleted} entries were deleted", signal.done()));
            return Ok(Exit::Interrupted(signal));
        }
        Ok(removed) => removed?,
    }
    if let Some(signal) = closed? {
        return Ok(Exit::Interrupted(signal));
    }
    if arguments.json {
        output.line(json!({ "deleted": deleted }))?;
    } else {
        say(format_args!("{deleted} deleted"));
    }
    Ok(Exit::complete(problems.is_empty() && (deleted > 0 || arguments.keys.is_empty())))
}

/// Deletes every entry whose key begins with `prefix`, except entries without a valid key.
async fn all(store: &Store, prefix: &str, deleted: &mut u64, problems: &mut Problems) -> larder::Result<()> {
    let mut chunks = store.keys(prefix).ready_chunks(CHUNK);
    while let Some(listed) = chunks.next().await {
        let mut keys = Vec::with_capacity(listed.len());
        for key in listed {
            keys.extend(problems.check(key)?);
        }
        each(store, &keys, deleted, problems).await?;
    }
    problems.name(store, prefix).await
}

/// Deletes the entries under `keys`, and counts those that existed.
async fn each(store: &Store, keys: &[Key], deleted: &mut u64, problems: &mut Problems) -> larder::Result<()> {
    let mut stopped = Ok(());
    let changes = keys.iter().cloned().map(Change::delete).collect();
    for (key, done) in keys.iter().zip(store.apply(changes).await) {
        match done {
            Ok(applied) => *deleted += u64::from(applied.existed()),
            Err(error) if error.concerns_one_entry() => {
                problems.show(format_args!("not deleted: {key}: {error}"));
            }
            Err(error) => stopped = stopped.and(Err(error)),
        }
    }
    stopped
}

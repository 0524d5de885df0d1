//! `larder rm`.

use futures_util::StreamExt;
use larder::{Error, ErrorKind, Key, Storage};
use serde_json::json;

use super::{
    args::Remove,
    exit::Outcome,
    interrupt::Signals,
    output::{Output, say},
    problems::Problems,
    store,
};

/// How many keys are deleted with one call.
const CHUNK: usize = 256;

pub(super) async fn run(arguments: &Remove, output: &mut Output) -> anyhow::Result<Outcome> {
    let storage = store::open_existing(&arguments.url).await?;
    let mut signals = Signals::new()?;
    let (mut deleted, mut problems) = (0, Problems::new());
    let removed = signals
        .or_until(async {
            if arguments.keys.is_empty() {
                let prefix = arguments.prefix.as_deref().unwrap_or_default();
                all(&storage, prefix, &mut deleted, &mut problems).await
            } else {
                each(&storage, &arguments.keys, &mut deleted, &mut problems).await
            }
        })
        .await;
    // Also after a failure: a snapshot file is written here.
    let closed = store::close(&storage, &mut signals).await;
    match removed {
        Err(signal) => {
            closed?;
            say(format_args!("{} after {deleted} entries were deleted", signal.done()));
            return Ok(Outcome::Interrupted(signal));
        }
        Ok(removed) => removed?,
    }
    if let Some(signal) = closed? {
        return Ok(Outcome::Interrupted(signal));
    }
    if arguments.json {
        output.line(json!({ "deleted": deleted }))?;
    } else {
        say(format_args!("{deleted} deleted"));
    }
    Ok(Outcome::complete(problems.is_empty() && (deleted > 0 || arguments.keys.is_empty())))
}

/// Deletes every entry whose key begins with `prefix`. Entries that the listing cannot name stay.
async fn all(
    storage: &dyn Storage,
    prefix: &str,
    deleted: &mut u64,
    problems: &mut Problems,
) -> larder::Result<()> {
    let mut chunks = storage.keys(prefix).ready_chunks(CHUNK);
    while let Some(listed) = chunks.next().await {
        let mut keys = Vec::with_capacity(listed.len());
        for key in listed {
            keys.extend(problems.check(key)?);
        }
        chunk(storage, &keys, deleted, problems).await?;
    }
    problems.name(storage, prefix).await
}

/// Deletes the entries under `keys`, and counts those that were there.
async fn each(
    storage: &dyn Storage,
    keys: &[Key],
    deleted: &mut u64,
    problems: &mut Problems,
) -> larder::Result<()> {
    for key in keys {
        match storage.delete(key).await {
            Ok(existed) => *deleted += u64::from(existed),
            Err(error) => not_deleted(Some(key), error, problems)?,
        }
    }
    Ok(())
}

/// Deletes the entries under `keys`, which have just been listed.
async fn chunk(
    storage: &dyn Storage,
    keys: &[Key],
    deleted: &mut u64,
    problems: &mut Problems,
) -> larder::Result<()> {
    match storage.delete_many(keys).await {
        Ok(count) => *deleted += count,
        Err(error) if error.kind() == ErrorKind::Partial => {
            let failures = error.into_failures();
            *deleted += (keys.len() - failures.len()) as u64;
            for failure in failures {
                not_deleted(keys.get(failure.index), failure.error, problems)?;
            }
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn not_deleted(key: Option<&Key>, error: Error, problems: &mut Problems) -> larder::Result<()> {
    match key {
        Some(key) if error.concerns_one_entry() => {
            problems.show(format_args!("not deleted: {key}: {error}"));
            Ok(())
        }
        _ => Err(error),
    }
}

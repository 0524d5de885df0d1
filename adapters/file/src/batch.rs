//! Reads and changes of several keys in one call.

use std::{collections::BTreeMap, sync::Arc};

use larder_core::{Applied, Change, Key, ReadOptions, Record, Result};
use larder_kit::side_by_side;

use crate::{
    entries::{Entries, PARALLEL, call, locked},
    lock::ShardGuard,
    tree::EntryPath,
};

/// Reads entries without a touch. Takes no lock.
pub(crate) async fn read<E: Entries>(
    entries: &Arc<E>,
    keys: &[Key],
    options: &ReadOptions,
) -> Vec<Result<Option<Record>>> {
    let (wanted, options) = (keys.to_vec(), *options);
    let read = move |entries: &E| {
        let read = |key: &Key| {
            let at = entries.path(key)?;
            entries.tree().look(&at, || entries.read(&at, key, &options))
        };
        Ok(wanted.iter().map(read).collect())
    };
    call(entries, read).await.unwrap_or_else(|error| vec![Err(error); keys.len()])
}

/// Makes changes. Those that share a lock, among them those of one key, run together and share the wait for the disk.
pub(crate) async fn apply<E: Entries>(entries: &Arc<E>, changes: Vec<Change>) -> Vec<Result<Applied>> {
    let mut results = Vec::with_capacity(changes.len());
    // By lock: the positions of the changes in the batch, and the changes.
    let mut groups: BTreeMap<usize, (Vec<_>, Vec<_>)> = BTreeMap::new();
    for (place, change) in changes.into_iter().enumerate() {
        match entries.path(&change.key) {
            Ok(at) => {
                let (places, group) = groups.entry(at.lock).or_default();
                places.push(place);
                group.push((at, change));
            }
            Err(error) => results.push((place, Err(error))),
        }
    }
    let apply = |(lock, (places, group)): (usize, (Vec<usize>, Vec<_>))| {
        (places, locked(entries, lock, move |entries, guard| apply_group(entries, guard, &group)))
    };
    let (places, calls): (Vec<_>, Vec<_>) = groups.into_iter().map(apply).unzip();
    for (places, applied) in places.into_iter().zip(side_by_side(calls, PARALLEL).await) {
        let applied = applied.unwrap_or_else(|error| vec![Err(error); places.len()]);
        results.extend(places.into_iter().zip(applied));
    }
    results.sort_by_key(|(place, _)| *place);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Makes changes that share a lock, in their order. Returns one result per change.
fn apply_group<E: Entries>(
    entries: &E,
    guard: &mut ShardGuard,
    group: &[(EntryPath, Change)],
) -> Result<Vec<Result<Applied>>> {
    let mut changes = entries.tree().begin(guard)?;
    let mut results: Vec<Result<Applied>> = Vec::with_capacity(group.len());
    for (at, change) in group {
        let gone = results.last().and_then(|last| last.as_ref().err()?.unsent());
        results.push(gone.map_or_else(|| entries.change(&mut changes, at, change), Err));
    }
    if let Err(error) = changes.commit() {
        for result in results.iter_mut().filter(|result| result.is_ok()) {
            *result = Err(error.clone());
        }
    }
    Ok(results)
}

//! Damaged entries.

use futures_util::StreamExt;
use larder_core::{ErrorKind, Key, ReadOptions};

use super::key;
use crate::{Fails, Handle, Must, Target};

laws![a_damaged_entry_of_read_many_fails_alone, a_damaged_entry_fails_alone];

/// Writes three entries and damages the second one. Returns `None` if the factory cannot damage an entry.
async fn damaged(target: &Target) -> Option<(Handle, [Key; 3])> {
    let handle = target.open().await;
    let keys = ["one", "two", "three"].map(key);
    for key in &keys {
        handle.put(key, &handle.value(key.as_str())).await;
    }
    let damaged = target.damage(&keys[1]).await;
    if !damaged {
        target.ignore("the factory cannot damage an entry");
    }
    damaged.then_some((handle, keys))
}

/// If several entries are read at once, the result of a damaged one is a `Corrupt` error, and the others are returned.
pub async fn a_damaged_entry_of_read_many_fails_alone(target: Target) {
    let Some((handle, keys)) = damaged(&target).await else { return };
    let missing = key("missing");
    let [one, two, three] = keys.clone();
    let asked = [one, two.clone(), missing, three, two];
    let mut options = vec![ReadOptions::new()];
    if handle.info().expiry {
        options.push(ReadOptions::new().with_ttl());
    }
    for options in options {
        let results = handle.read_many(&asked, &options).await;
        assert_eq!(results.len(), asked.len(), "the number of results of read_many");
        for (key, result) in asked.iter().zip(results) {
            if *key == keys[1] {
                result.fails(ErrorKind::Corrupt, "read_many of a damaged entry");
                continue;
            }
            let record = result.must("read_many with a damaged entry");
            let right = match &record {
                Some(record) => handle.same(&record.value, &handle.value(key.as_str())),
                None => key.as_str() == "missing",
            };
            assert!(right, "read_many with a damaged entry returned a wrong entry");
        }
    }
}

/// A read of a damaged entry fails with `Corrupt`. In a listing, it is one error, and the listing continues. The
/// entry can be written again.
pub async fn a_damaged_entry_fails_alone(target: Target) {
    let Some((handle, keys)) = damaged(&target).await else { return };
    handle.read(&keys[1]).await.fails(ErrorKind::Corrupt, "read of a damaged entry");
    for key in [&keys[0], &keys[2]] {
        handle.holds(key, &handle.value(key.as_str()), "read of an undamaged entry").await;
    }
    if handle.info().listing {
        let (mut listed, mut errors) = (std::collections::BTreeSet::new(), 0);
        let mut entries = handle.entries("");
        while let Some(entry) = entries.next().await {
            match entry {
                Ok((key, _)) => drop(listed.insert(key)),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "a listing of a damaged entry: {error}");
                    errors += 1;
                }
            }
        }
        assert!(errors > 0, "a listing does not report a damaged entry");
        let rest = [keys[0].clone(), keys[2].clone()].into();
        assert!(
            listed == rest,
            "a listing with a damaged entry returned {} of 2 other entries",
            listed.len()
        );
    }
    handle.put(&keys[1], &handle.value("again")).await;
    handle.holds(&keys[1], &handle.value("again"), "read of a damaged entry that was written again").await;
}

//! Reads that return the time to live, and reads that touch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use larder_core::{Expiry, Key, ReadOptions, Record};

use super::{key, remains_of};
use crate::{Handle, Must, Target, claims::Ability, guard::guarded, race};

laws![
    a_read_returns_the_ttl_if_asked,
    read_many_returns_each_ttl,
    value_and_ttl_are_of_one_moment,
    a_read_can_touch,
    a_touching_read_returns_an_entry_that_expires_at_once,
    read_many_can_touch,
    a_touching_read_never_brings_an_entry_back,
    a_touching_read_never_changes_the_value,
];

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// Opens a handle, if its store has expiry.
async fn expiring(target: &Target) -> Option<Handle> {
    let handle = target.open().await;
    target.claims(&handle, Ability::Expiry).await.then_some(handle)
}

/// Returns the expiry of a record that was read with the ttl.
fn ttl(record: &Record, what: &str) -> Option<Expiry> {
    assert!(record.expiry.is_some(), "{what}: the record has no expiry, although the read requested it");
    record.expiry
}

/// A read returns the remaining time if requested, with or without the value.
pub async fn a_read_returns_the_ttl_if_asked(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let value = handle.value("x");
    handle.put(&key("stays"), &value).await;
    handle.write(key("goes"), value.clone()).expires_in(HOUR).await.must("write");
    for name in ["stays", "goes"] {
        let plain = handle.read(key(name)).await.must("read").must("read");
        assert_eq!(plain.expiry, None, "the expiry of a read that did not request it");
        let full = handle.read(key(name)).with_ttl().await.must("read").must("read with its ttl");
        assert!(handle.same(&full.value, &value), "a read with the ttl returned another value");
        assert!(full.version == plain.version, "reads with and without the ttl returned different versions");
        let short = handle.read(key(name)).with_ttl().without_value().await.must("read");
        let short = short.must("read the ttl without the value");
        for record in [full, short] {
            let left = ttl(&record, "a read with the ttl");
            let right = if name == "goes" { remains_of(left, HOUR) } else { left == Some(Expiry::Never) };
            assert!(right, "the ttl of the entry `{name}` is {left:?}");
        }
    }
    let missing = handle.read(key("missing")).with_ttl().await.must("read");
    assert!(missing.is_none(), "a read with the ttl found a missing entry");
}

/// `read_many` returns the remaining time of each entry if requested.
pub async fn read_many_returns_each_ttl(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    handle.put(&key("stays"), &handle.value("stays")).await;
    for (name, ttl) in [("hour", HOUR), ("day", DAY)] {
        handle.write(key(name), handle.value(name)).expires_in(ttl).await.must("write");
    }
    let names = ["day", "missing", "stays", "hour", "day"];
    let keys: Vec<Key> = names.map(key).into();
    for options in [ReadOptions::new().with_ttl(), ReadOptions::new().with_ttl().without_value()] {
        let results = handle.read_many(&keys, &options).await;
        assert_eq!(results.len(), keys.len(), "the number of results of read_many");
        for (name, result) in names.into_iter().zip(results) {
            let Some(record) = result.must("read_many with the ttl") else {
                assert_eq!(name, "missing", "read_many with the ttl did not find an entry");
                continue;
            };
            let left = ttl(&record, "read_many with the ttl");
            let right = match name {
                "hour" => remains_of(left, HOUR),
                "day" => remains_of(left, DAY),
                _ => left == Some(Expiry::Never),
            };
            assert!(right, "the ttl that read_many returned for `{name}` is {left:?}");
            if options.value {
                let right = handle.same(&record.value, &handle.value(name));
                assert!(right, "read_many returned a wrong value for `{name}`");
            }
        }
    }
    let plain = handle.read_all(&keys[..1], "read_many").await;
    let plain = plain.into_iter().flatten().next().must("read_many");
    assert_eq!(plain.expiry, None, "the expiry of a read_many that did not request it");
}

/// During writes that alternate between two values with different times to live, a read never returns one value with
/// the time of the other.
pub async fn value_and_ttl_are_of_one_moment(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let kinds = [("short", HOUR), ("long", DAY)];
    let key = key("one");
    handle.write(&key, handle.value("short")).expires_in(HOUR).await.must("write");
    let done = Arc::new(AtomicBool::new(false));
    let writer = {
        let (handle, key, done) = (target.open().await, key.clone(), Arc::clone(&done));
        tokio::spawn(guarded(async move {
            for round in 1.. {
                if done.load(Ordering::Acquire) {
                    return;
                }
                let (text, ttl) = kinds[round % 2];
                handle.write(&key, handle.value(text)).expires_in(ttl).await.must("write during reads");
                tokio::task::yield_now().await;
            }
        }))
    };
    let rounds = target.count(150, 60);
    let readers = race(3, |index| {
        let (handle, key) = (handle.clone(), key.clone());
        guarded(async move {
            for _ in 0..rounds {
                let record = if index == 0 {
                    let options = ReadOptions::new().with_ttl();
                    let mut results = handle.read_many(std::slice::from_ref(&key), &options).await;
                    results.pop().must("a result of read_many").must("read_many during writes")
                } else {
                    handle.read(&key).with_ttl().await.must("read during writes")
                };
                let record = record.must("read during writes");
                let left = ttl(&record, "a read during writes");
                let (_, given) = kinds
                    .into_iter()
                    .find(|(text, _)| handle.same(&record.value, &handle.value(text)))
                    .must("find the written value");
                let other = if given == HOUR { "longer" } else { "shorter" };
                assert!(
                    remains_of(left, given),
                    "a value was read with the {other} time to live of another value: {left:?}"
                );
            }
        })
    })
    .await;
    done.store(true, Ordering::Release);
    let writer = writer.await.must("write during reads");
    for outcome in readers.into_iter().chain([writer]) {
        if let Err(message) = outcome {
            panic!("{message}");
        }
    }
}

/// A read that touches sets the new time to live, and returns it if requested. It keeps value and version, and does
/// not create entries.
pub async fn a_read_can_touch(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let (key, value) = (key("one"), handle.value("x"));
    let missing = handle.read(&key).touching(HOUR).with_ttl().await.must("read and touch a missing entry");
    assert!(missing.is_none(), "a read that touches found a missing entry");
    handle.lacks(&key, "read after a read that touches a missing entry").await;
    handle.put(&key, &value).await;
    let before = handle.read(&key).await.must("read").must("read").version;
    for ttl_given in [Expiry::After(HOUR), Expiry::After(DAY), Expiry::Never, Expiry::After(HOUR)] {
        let record = handle.read(&key).touching(ttl_given).with_ttl().await.must("read and touch");
        let record = record.must("read and touch");
        assert!(handle.same(&record.value, &value), "a read that touches returned another value");
        assert!(record.version == before, "a read that touches changed the version");
        for left in [ttl(&record, "a read that touches"), handle.ttl(&key).await.must("ttl")] {
            let right = match ttl_given {
                Expiry::After(given) => remains_of(left, given),
                _ => left == Some(Expiry::Never),
            };
            assert!(right, "the ttl after a read that touches with {ttl_given:?} is {left:?}");
        }
    }
    // Reads without the remaining time, or without the value.
    let record = handle.read(&key).touching(DAY).await.must("read and touch").must("read and touch");
    assert!(handle.same(&record.value, &value), "a read that touches returned another value");
    let left = handle.ttl(&key).await.must("ttl");
    assert!(remains_of(left, DAY), "the ttl after a read that touches with a day is {left:?}");
    let there = handle.read(&key).touching(HOUR).without_value().await.must("touch by a read");
    assert!(there.is_some(), "a read that touches without returning the value did not find the entry");
    let left = handle.ttl(&key).await.must("ttl");
    assert!(remains_of(left, HOUR), "the ttl after a read that touches with an hour is {left:?}");
    handle.holds(&key, &value, "read after reads that touch").await;
    let after = handle.read(&key).await.must("read").must("read").version;
    assert!(before == after, "reads that touch changed the version");
}

/// A read that touches with the shortest time to live still returns the entry with this time, because value, time
/// and touch are of one moment.
pub async fn a_touching_read_returns_an_entry_that_expires_at_once(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let (key, value) = (key("one"), handle.value("x"));
    for _ in 0..target.count(30, 10) {
        handle.put(&key, &value).await;
        let read = handle.read(&key).touching(Expiry::after_millis(1)).with_ttl().await;
        let record = read.must("read and touch").must("find the touched entry");
        assert!(handle.same(&record.value, &value), "a read that touches returned another value");
        let left = ttl(&record, "a read that touches");
        assert_eq!(left, Some(Expiry::after_millis(1)), "the ttl that a read set and returned");
    }
}

/// A `read_many` that touches touches each entry. It keeps values and versions, and does not create entries.
pub async fn read_many_can_touch(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let names = ["a", "missing", "b"];
    for name in ["a", "b", "other"] {
        handle.put(&key(name), &handle.value(name)).await;
    }
    let keys: Vec<Key> = names.map(key).into();
    let before = handle.read_all(&keys, "read_many").await;
    let options = ReadOptions::new().with_ttl().with_touch(Expiry::After(HOUR));
    let results = handle.read_many(&keys, &options).await;
    assert_eq!(results.len(), keys.len(), "the number of results of read_many");
    for (name, result) in names.into_iter().zip(results) {
        let record = result.must("read_many that touches");
        assert_eq!(record.is_some(), name != "missing", "whether read_many that touches found `{name}`");
        let Some(record) = record else { continue };
        let right = handle.same(&record.value, &handle.value(name));
        assert!(right, "read_many returned a wrong value for `{name}`");
        for left in [ttl(&record, "read_many that touches"), handle.ttl(&key(name)).await.must("ttl")] {
            assert!(remains_of(left, HOUR), "the ttl after a read_many that touches is {left:?}");
        }
    }
    let after = handle.read_all(&keys, "read_many").await;
    for (before, after) in before.into_iter().flatten().zip(after.into_iter().flatten()) {
        assert!(before.version == after.version, "a read_many that touches changed a version");
        assert!(handle.same(&before.value, &after.value), "a read_many that touches changed a value");
    }
    handle.lacks(&key("missing"), "read after a read_many that touches a missing entry").await;
    let left = handle.ttl(&key("other")).await.must("ttl");
    assert_eq!(left, Some(Expiry::Never), "the ttl of an entry that read_many did not read");
}

/// Reads and touches, with a single read or `read_many`.
async fn read_and_touch(handle: &Handle, key: &Key, alone: bool) -> Option<Record> {
    if alone {
        return handle.read(key).touching(HOUR).await.must("read and touch");
    }
    let options = ReadOptions::new().with_touch(Expiry::After(HOUR));
    let result = handle.read_many(std::slice::from_ref(key), &options).await.pop();
    result.must("a result of read_many").must("read_many that touches")
}

/// Reads that touch and race with a deletion come before it or find nothing. They never restore the entry.
pub async fn a_touching_read_never_brings_an_entry_back(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let other = target.open().await;
    for round in 0..target.count(30, 10) {
        let key = key(&format!("raced-{round}"));
        let value = handle.value("x");
        handle.put(&key, &value).await;
        race(5, |index| {
            let handle = if index % 2 == 0 { handle.clone() } else { other.clone() };
            let (key, value) = (key.clone(), value.clone());
            async move {
                if index == 0 {
                    assert!(handle.delete(&key).await.must("delete"), "a delete of an entry returned false");
                } else if let Some(record) = read_and_touch(&handle, &key, index < 3).await {
                    assert!(handle.same(&record.value, &value), "a read that touches returned another value");
                }
            }
        })
        .await;
        handle.lacks(&key, "read after a delete during reads that touch").await;
    }
}

/// Reads that touch and race with a write return the old value or the new one, and the new one remains.
pub async fn a_touching_read_never_changes_the_value(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let other = target.open().await;
    let key = key("raced");
    for round in 0..target.count(30, 10) {
        let (old, new) = (handle.value(&format!("old {round}")), handle.value(&format!("new {round}")));
        handle.put(&key, &old).await;
        let versions = race(5, |index| {
            let handle = if index % 2 == 0 { handle.clone() } else { other.clone() };
            let (key, old, new) = (key.clone(), old.clone(), new.clone());
            async move {
                if index == 0 {
                    return handle.write(&key, new).await.must("write during reads that touch").version;
                }
                let record = read_and_touch(&handle, &key, index < 3).await;
                let record = record.must("read and touch an entry that is only replaced");
                let known = handle.same(&record.value, &old) || handle.same(&record.value, &new);
                assert!(known, "a read that touches returned a value that was not written");
                None
            }
        })
        .await;
        handle.holds(&key, &new, "read after a write during reads that touch").await;
        let after = handle.read(&key).await.must("read").must("read").version;
        assert!(after == versions[0], "a read that touches changed the version of a concurrent write");
    }
}

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

/// The handle, if its store has expiry.
async fn expiring(target: &Target) -> Option<Handle> {
    let handle = target.open().await;
    target.claims(&handle, Ability::Expiry).await.then_some(handle)
}

/// The expiry of a record that was read with it.
fn ttl(record: &Record, what: &str) -> Option<Expiry> {
    assert!(record.expiry.is_some(), "{what}: the record has no expiry, though it was asked for");
    record.expiry
}

/// A read returns the time that is left if it is asked for, with the value or without it.
pub async fn a_read_returns_the_ttl_if_asked(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let value = handle.value("x");
    handle.put(&key("stays"), &value).await;
    handle.write(key("goes"), value.clone()).expires_in(HOUR).await.must("write");
    for name in ["stays", "goes"] {
        let plain = handle.read(key(name)).await.must("read").must("read");
        assert_eq!(plain.expiry, None, "the expiry of a read that did not ask for it");
        let full = handle.read(key(name)).with_ttl().await.must("read").must("read with its ttl");
        assert!(handle.same(&full.value, &value), "a read with the ttl returned another value");
        assert!(full.version == plain.version, "reads with and without the ttl gave two versions");
        let short = handle.read(key(name)).with_ttl().without_value().await.must("read");
        let short = short.must("read the ttl without the value");
        for record in [full, short] {
            let left = ttl(&record, "a read with the ttl");
            let right = if name == "goes" { remains_of(left, HOUR) } else { left == Some(Expiry::Never) };
            assert!(right, "the ttl that was read of the entry that {name} is {left:?}");
        }
    }
    let missing = handle.read(key("missing")).with_ttl().await.must("read");
    assert!(missing.is_none(), "a read with the ttl of a missing entry found one");
}

/// `read_many` returns the time that each entry has left if it is asked for.
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
            assert!(right, "the ttl that read_many gave for `{name}` is {left:?}");
            if options.value {
                assert!(handle.same(&record.value, &handle.value(name)), "the value that read_many gave");
            }
        }
    }
    let plain = handle.read_all(&keys[..1], "read_many").await;
    let plain = plain.into_iter().flatten().next().must("read_many");
    assert_eq!(plain.expiry, None, "the expiry of a read_many that did not ask for it");
}

/// Beside a writer that writes one value with one time to live and another with another, a read never
/// returns the one value with the other's time.
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
                handle.write(&key, handle.value(text)).expires_in(ttl).await.must("write beside reads");
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
                    results.pop().must("a result of read_many").must("read_many beside a writer")
                } else {
                    handle.read(&key).with_ttl().await.must("read beside a writer")
                };
                let record = record.must("read beside a writer");
                let left = ttl(&record, "a read beside a writer");
                let (_, given) = kinds
                    .into_iter()
                    .find(|(text, _)| handle.same(&record.value, &handle.value(text)))
                    .must("read a value that was written");
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
    let writer = writer.await.must("write beside reads");
    for outcome in readers.into_iter().chain([writer]) {
        if let Err(message) = outcome {
            panic!("{message}");
        }
    }
}

/// A read that touches gives the entry its new time to live, returns that one if it is asked, keeps value
/// and version, and creates nothing.
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
            assert!(right, "after a read that touches with {ttl_given:?} the ttl is {left:?}");
        }
    }
    // Without asking for the time that is left, or for the value.
    let record = handle.read(&key).touching(DAY).await.must("read and touch").must("read and touch");
    assert!(handle.same(&record.value, &value), "a read that touches returned another value");
    let left = handle.ttl(&key).await.must("ttl");
    assert!(remains_of(left, DAY), "after a read that touches with a day the ttl is {left:?}");
    let there = handle.read(&key).touching(HOUR).without_value().await.must("touch by a read");
    assert!(there.is_some(), "a read that touches, without the value, did not find the entry");
    let left = handle.ttl(&key).await.must("ttl");
    assert!(remains_of(left, HOUR), "after a read that touches with an hour the ttl is {left:?}");
    handle.holds(&key, &value, "read after reads that touch").await;
    let after = handle.read(&key).await.must("read").must("read").version;
    assert!(before == after, "reads that touch changed the version");
}

/// A read that touches with the shortest time to live still returns the entry, with that time: value, time
/// and touch are of one moment.
pub async fn a_touching_read_returns_an_entry_that_expires_at_once(target: Target) {
    let Some(handle) = expiring(&target).await else { return };
    let (key, value) = (key("one"), handle.value("x"));
    for _ in 0..target.count(30, 10) {
        handle.put(&key, &value).await;
        let read = handle.read(&key).touching(Expiry::after_millis(1)).with_ttl().await;
        let record = read.must("read and touch").must("an entry that is read and touched");
        assert!(handle.same(&record.value, &value), "a read that touches returned another value");
        let left = ttl(&record, "a read that touches");
        assert_eq!(left, Some(Expiry::after_millis(1)), "the ttl that a read gave and returned");
    }
}

/// A `read_many` that touches does so for each entry, keeps values and versions, and creates none.
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
        assert!(handle.same(&record.value, &handle.value(name)), "the value that read_many gave");
        for left in [ttl(&record, "read_many that touches"), handle.ttl(&key(name)).await.must("ttl")] {
            assert!(remains_of(left, HOUR), "after a read_many that touches the ttl is {left:?}");
        }
    }
    let after = handle.read_all(&keys, "read_many").await;
    for (before, after) in before.into_iter().flatten().zip(after.into_iter().flatten()) {
        assert!(before.version == after.version, "a read_many that touches changed a version");
        assert!(handle.same(&before.value, &after.value), "a read_many that touches changed a value");
    }
    handle.lacks(&key("missing"), "read after a read_many that touches a missing entry").await;
    let left = handle.ttl(&key("other")).await.must("ttl");
    assert_eq!(left, Some(Expiry::Never), "the ttl of an entry that read_many did not name");
}

/// Reads and touches, alone or by `read_many`.
async fn read_and_touch(handle: &Handle, key: &Key, alone: bool) -> Option<Record> {
    if alone {
        return handle.read(key).touching(HOUR).await.must("read and touch");
    }
    let options = ReadOptions::new().with_touch(Expiry::After(HOUR));
    let result = handle.read_many(std::slice::from_ref(key), &options).await.pop();
    result.must("a result of read_many").must("read_many that touches")
}

/// Beside a deletion, reads that touch come before it or find nothing: none brings the entry back.
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
                    assert!(handle.same(&record.value, &value), "a read that touches gave another value");
                }
            }
        })
        .await;
        handle.lacks(&key, "read after a delete beside reads that touch").await;
    }
}

/// Beside a write, reads that touch return the old value or the new one, and the new one stays.
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
                    return handle.write(&key, new).await.must("write beside reads that touch").version;
                }
                let record = read_and_touch(&handle, &key, index < 3).await;
                let record = record.must("read and touch an entry that is only ever replaced");
                let known = handle.same(&record.value, &old) || handle.same(&record.value, &new);
                assert!(known, "a read that touches gave a value that was not written");
                None
            }
        })
        .await;
        handle.holds(&key, &new, "read after a write beside reads that touch").await;
        let after = handle.read(&key).await.must("read").must("read").version;
        assert!(after == versions[0], "a read that touches changed the version of a write beside it");
    }
}

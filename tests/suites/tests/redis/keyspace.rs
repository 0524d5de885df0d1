//! Prefixes, and keys that others left.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{Condition, Error, ErrorKind, Expiry, Storage, Write};
use larder_redis::{RedisStorage, redis};
use larder_testkit::{Context, Fails, Must};

use crate::places::{Place, key, open, private, raw, url};

pub(crate) async fn prefixes_do_not_collide(context: Context<Place>) {
    let space = context.target.space();
    let server = &context.factory.server;
    let prefixes = [space.to_owned(), format!("{space}-one"), format!("{space}:x"), format!("{space}%253Ax")];
    let mut storages = Vec::new();
    for prefix in &prefixes {
        storages.push(open(server, prefix, "").await);
    }
    // Keys that would meet if prefix and key were only joined.
    let keys = ["k", "x:k", "one:k", ":k", "-one:k"].map(key);
    for (number, storage) in storages.iter().enumerate() {
        for key in &keys {
            storage.write(key, number.to_string().into(), Expiry::Never).await.must("write");
        }
    }
    for (number, storage) in storages.iter().enumerate() {
        for key in &keys {
            let record = storage.read(key).await.must("read").must("find the entry");
            assert_eq!(record.value, number.to_string());
        }
        let listed: BTreeSet<_> = storage.keys("").try_collect().await.must("list");
        assert_eq!(listed, keys.iter().cloned().collect());
    }
    assert_eq!(storages[0].clear("").await.must("clear"), 5);
    for storage in &storages[1..] {
        assert_eq!(storage.clear("").await.must("clear"), 5);
    }
}

pub(crate) async fn another_type(context: Context<Place>) {
    let storage = context.target.open().await;
    let mut raw = raw(context.factory.server.url()).await;
    let list = format!("{}:list", context.target.space());
    let push = || {
        let mut push = redis::cmd("LPUSH");
        push.arg(&list).arg("hunter2");
        push
    };
    push().exec_async(&mut raw).await.must("make a list");
    storage.write(&key("text"), "value").await.must("write");

    let error = storage.read(&key("list")).await.fails(ErrorKind::Corrupt, "read of a list");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let both = [key("text"), key("list")];
    let mut both = storage.read_many(&both, &larder_core::v2::ReadOptions::new()).await.into_iter();
    both.next().must("a first result").must("read_many of a text with a list");
    both.next().must("a second result").fails(ErrorKind::Corrupt, "read_many with a list");
    let version = storage.read(&key("text")).await.must("read").and_then(|record| record.version);
    let condition = Condition::from(version);
    let write = storage.write_if(&key("list"), "new".into(), Expiry::Never, condition).await;
    write.fails(ErrorKind::Corrupt, "write_if over a list");
    let write = storage.write_if(&key("list"), "new".into(), Expiry::Never, Condition::Absent).await;
    write.fails(ErrorKind::Conflict, "write_if_absent over a list");
    let listed: Vec<_> = storage.keys("").try_collect().await.must("list keys");
    assert_eq!(listed, [key("text")]);
    let listed: Vec<_> = storage.entries("").try_collect().await.must("list entries");
    assert_eq!(listed.len(), 1);

    // It can be got rid of, or written over.
    assert!(storage.delete(&key("list")).await.must("delete"));
    push().exec_async(&mut raw).await.must("make a list");
    storage.write(&key("list"), "new").await.must("write over a list");
    assert_eq!(storage.read(&key("list")).await.must("read").must("find it").value, "new");
}

/// An entry of another program whose name is not a key is an error of its own in a listing.
pub(crate) async fn unnameable_keys(context: Context<Place>) {
    let storage = open(&context.factory.server, context.target.space(), "&scan_count=2").await;
    let mut raw = raw(context.factory.server.url()).await;
    let names: BTreeSet<_> = (0..20).map(|number| key(format!("k{number}"))).collect();
    let writes: Vec<_> = names.iter().map(|key| Write::new(key.clone(), "value", Expiry::Never)).collect();
    storage.write_many(&writes).await.must("write");
    let foreign = [&b""[..], b"\xff", b"line\nbreak", &[b'k'; 600]];
    for key in foreign {
        let full = [context.target.space().as_bytes(), b":", key].concat();
        redis::cmd("SET").arg(&full).arg("hunter2").exec_async(&mut raw).await.must("write past it");
    }
    let name = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::InvalidKey, "{error}");
        assert!(!format!("{error} {error:?}").contains("break"), "an error prints a key");
        error.stored_name().must("find the name in the store").to_vec()
    };
    // A listing of Redis may name a key twice.
    let foreign: BTreeSet<_> = foreign.map(<[u8]>::to_vec).into();
    let (mut found, mut unnameable) = (BTreeSet::new(), BTreeSet::new());
    let mut keys = storage.keys("");
    while let Some(listed) = keys.next().await {
        match listed {
            Ok(key) => _ = found.insert(key),
            Err(error) => _ = unnameable.insert(name(error)),
        }
    }
    drop(keys);
    assert_eq!((&found, &unnameable), (&names, &foreign));
    let (mut found, mut unnameable) = (BTreeSet::new(), BTreeSet::new());
    let mut entries = storage.entries("");
    while let Some(listed) = entries.next().await {
        match listed {
            Ok(entry) => _ = found.insert(entry.key),
            Err(error) => _ = unnameable.insert(name(error)),
        }
    }
    drop(entries);
    assert_eq!((&found, &unnameable), (&names, &foreign));
    assert_eq!(storage.clear("").await.must("clear"), 20);
    assert!(storage.keys("").all(|key| async move { key.is_err() }).await);
}

/// An empty prefix would list and clear what belongs to every other prefix.
pub(crate) async fn empty_prefix(context: Context<Place>) {
    let url = format!("{}?prefix=", context.factory.server.url());
    let error = RedisStorage::connect(&url).await.fails(ErrorKind::InvalidConfig, "an empty prefix");
    assert!(error.message().contains("layout=grammy"), "{error}");
}

pub(crate) async fn small_pages(context: Context<Place>) {
    let storage = open(&context.factory.server, context.target.space(), "&scan_count=1").await;
    let keys: BTreeSet<_> = (0..300).map(|number| key(format!("k{number}"))).collect();
    let writes: Vec<_> =
        keys.iter().map(|key| Write::new(key.clone(), key.to_string(), Expiry::after_secs(600))).collect();
    storage.write_many(&writes).await.must("write");
    let listed: BTreeSet<_> = storage.keys("k").try_collect().await.must("list keys");
    assert_eq!(listed, keys);
    let mut entries = storage.entries("k");
    let mut seen = BTreeSet::new();
    while let Some(entry) = entries.next().await {
        let entry = entry.must("list entries");
        assert_eq!(entry.record.value, entry.key.as_bytes());
        assert!(matches!(entry.expiry, Expiry::After(_)));
        seen.insert(entry.key);
    }
    drop(entries);
    assert_eq!(seen, keys);
    assert_eq!(storage.clear("k").await.must("clear"), 300);
}

pub(crate) async fn forced_ifeq(context: Context<Place>) {
    let url = format!("{}&cas=ifeq", url(&context.factory.server, context.target.space()));
    let storage = RedisStorage::connect(&url).await.must("connect");
    storage.write(&key("k"), "old".into(), Expiry::Never).await.must("write");
    let version = storage.read(&key("k")).await.must("read").and_then(|record| record.version);
    let outcome = storage.write_if(&key("k"), "new".into(), Expiry::Never, Condition::from(version)).await;
    // The official image may be new enough to have it.
    if let Err(error) = outcome {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(storage.read(&key("k")).await.must("read").must("find it").value, "old");
    }
}

pub(crate) async fn partial_failures(context: Context<Place>) {
    // Full for large values, but not for small ones.
    let server = private(larder_test_servers::Kind::Redis, &[]).await;
    let mut raw = raw(server.url()).await;
    let storage = open(&server, context.target.space(), "").await;
    let used: String = redis::cmd("INFO").arg("memory").query_async(&mut raw).await.must("INFO");
    let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")).must("find used_memory");
    let limit = used.parse::<u64>().must("parse used_memory") + (8 << 20);
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("maxmemory").arg(limit).exec_async(&mut raw).await.must("limit the memory");
    let value = vec![b'x'; 1 << 20];
    let writes: Vec<_> =
        (0..64).map(|number| Write::new(key(format!("k{number}")), value.clone(), Expiry::Never)).collect();
    let error =
        storage.write_many(&writes).await.fails(ErrorKind::Partial, "write_many of 64 MiB into 8 MiB");
    assert!(!error.is_retryable());
    let failed: BTreeSet<_> = error.failures().iter().map(|failure| failure.index).collect();
    assert!(!failed.is_empty() && failed.len() < 64);
    assert!(error.failures().iter().all(|failure| failure.error.kind() == ErrorKind::StorageFull));
    for (index, write) in writes.iter().enumerate() {
        let stored = storage.contains(&write.key).await.must("contains");
        assert_ne!(stored, failed.contains(&index), "entry {index}");
    }
}

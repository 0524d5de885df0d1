//! Prefixes, and keys of other programs.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{Change, Condition, Error, ErrorKind, Expiry, Key, ReadOptions};
use larder_redis::redis;
use larder_testkit::{Context, Fails, Must};

use crate::places::{Place, apply, key, open, private, raw, url};

pub(crate) async fn prefixes_do_not_collide(context: Context<Place>) {
    let space = context.target.space();
    let server = &context.factory.server;
    let prefixes = [space.to_owned(), format!("{space}-one"), format!("{space}:x"), format!("{space}%253Ax")];
    let mut storages = Vec::new();
    for prefix in &prefixes {
        storages.push(open(server, prefix, "").await);
    }
    // Keys that would collide if prefix and key were simply joined.
    let keys = ["k", "x:k", "one:k", ":k", "-one:k"].map(key);
    for (number, storage) in storages.iter().enumerate() {
        for key in &keys {
            storage.write(key, number.to_string()).await.must("write");
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
    let storage = open(&context.factory.server, context.target.space(), "").await;
    let mut raw = raw(context.factory.server.url()).await;
    let list = format!("{}:list", context.target.space());
    let push = || {
        let mut push = redis::cmd("LPUSH");
        push.arg(&list).arg("hunter2");
        push
    };
    push().exec_async(&mut raw).await.must("make a list");
    storage.write(key("text"), "value").await.must("write");

    let error = storage.read(key("list")).await.fails(ErrorKind::Corrupt, "read of a list");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    let both = [key("text"), key("list")];
    for options in [ReadOptions::new(), ReadOptions::new().with_ttl()] {
        let mut records = storage.read_many(&both, &options).await;
        records.remove(1).fails(ErrorKind::Corrupt, "read_many with a list");
        assert_eq!(records.remove(0).must("read the text").must("find the text").value, "value");
    }
    let sliding = storage.read(key("list")).touching(Expiry::after_secs(1)).await;
    sliding.fails(ErrorKind::Corrupt, "read and touch of a list");
    let version = storage.read(key("text")).await.must("read").and_then(|record| record.version);
    let condition = Condition::unchanged(version);
    let write = storage.write(key("list"), "new").condition(condition.clone()).await;
    write.fails(ErrorKind::Corrupt, "conditional write over a list");
    let touch = storage.touch(key("list"), Expiry::Never).condition(condition.clone()).await;
    touch.fails(ErrorKind::Corrupt, "conditional touch of a list");
    let delete = storage.delete(key("list")).condition(condition).await;
    delete.fails(ErrorKind::Corrupt, "conditional deletion of a list");
    let write = storage.write(key("list"), "new").if_absent().await;
    write.fails(ErrorKind::Conflict, "write over a list if absent");
    let listed: Vec<_> = storage.keys("").try_collect().await.must("list keys");
    assert_eq!(listed, [key("text")]);
    let listed: Vec<_> = storage.entries("").try_collect().await.must("list entries");
    assert_eq!(listed.len(), 1);

    // It can be deleted or overwritten.
    assert!(storage.delete(key("list")).await.must("delete"));
    push().exec_async(&mut raw).await.must("make a list");
    storage.write(key("list"), "new").await.must("write over a list");
    assert_eq!(storage.read(key("list")).await.must("read").must("find it").value, "new");
}

/// In a listing, each entry of another program without a valid key is an error.
pub(crate) async fn unnameable_keys(context: Context<Place>) {
    let storage = open(&context.factory.server, context.target.space(), "&scan_count=2").await;
    let mut raw = raw(context.factory.server.url()).await;
    let names: BTreeSet<_> = (0..20).map(|number| key(format!("k{number}"))).collect();
    apply(&storage, names.iter().map(|key| Change::put(key.clone(), "value", Expiry::Never))).await;
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
    // Redis may list a key twice.
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
            Ok((key, _)) => _ = found.insert(key),
            Err(error) => _ = unnameable.insert(name(error)),
        }
    }
    drop(entries);
    assert_eq!((&found, &unnameable), (&names, &foreign));
    assert_eq!(storage.clear("").await.must("clear"), 20);
    assert!(storage.keys("").all(|key| async move { key.is_err() }).await);
}

/// An empty prefix would list and clear the entries of every other prefix.
pub(crate) async fn empty_prefix(context: Context<Place>) {
    let url = format!("{}?prefix=", context.factory.server.url());
    let error = larder_redis::connect(&url).await.fails(ErrorKind::InvalidConfig, "an empty prefix");
    assert!(error.message().contains("layout=grammy"), "{error}");
}

pub(crate) async fn small_pages(context: Context<Place>) {
    let storage = open(&context.factory.server, context.target.space(), "&scan_count=1").await;
    let keys: BTreeSet<_> = (0..300).map(|number| key(format!("k{number}"))).collect();
    let put = |key: &Key| Change::put(key.clone(), key.to_string(), Expiry::after_secs(600));
    apply(&storage, keys.iter().map(put)).await;
    let listed: BTreeSet<_> = storage.keys("k").try_collect().await.must("list keys");
    assert_eq!(listed, keys);
    let mut entries = storage.entries("k");
    let mut seen = BTreeSet::new();
    while let Some(entry) = entries.next().await {
        let (key, record) = entry.must("list entries");
        assert_eq!(record.value, key.as_bytes());
        assert!(matches!(record.expiry, Some(Expiry::After(_))));
        seen.insert(key);
    }
    drop(entries);
    assert_eq!(seen, keys);
    assert_eq!(storage.clear("k").await.must("clear"), 300);
}

pub(crate) async fn forced_ifeq(context: Context<Place>) {
    let url = format!("{}&cas=ifeq", url(&context.factory.server, context.target.space()));
    let storage = larder_redis::connect(&url).await.must("connect");
    storage.write(key("k"), "old").await.must("write");
    let version = storage.read(key("k")).await.must("read").and_then(|record| record.version);
    let outcome = storage.write(key("k"), "new").condition(Condition::unchanged(version)).await;
    // The official image may be new enough to support it.
    if let Err(error) = outcome {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert_eq!(storage.read(key("k")).await.must("read").must("find it").value, "old");
    }
}

pub(crate) async fn partial_failures(context: Context<Place>) {
    // The server has room only for small values.
    let server = private(larder_test_servers::Kind::Redis, &[]).await;
    let mut raw = raw(server.url()).await;
    let storage = open(&server, context.target.space(), "").await;
    let used: String = redis::cmd("INFO").arg("memory").query_async(&mut raw).await.must("INFO");
    let used = used.lines().find_map(|line| line.strip_prefix("used_memory:")).must("find used_memory");
    let limit = used.parse::<u64>().must("parse used_memory") + (8 << 20);
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("maxmemory").arg(limit).exec_async(&mut raw).await.must("limit the memory");
    let value = vec![b'x'; 1 << 20];
    let keys: Vec<_> = (0..64).map(|number| key(format!("k{number}"))).collect();
    // 64 MiB do not fit into 8 MiB.
    let writes = keys.iter().map(|key| Change::put(key.clone(), value.clone(), Expiry::Never));
    let results = storage.apply(writes.collect()).await;
    let failed = results.iter().filter(|result| result.is_err()).count();
    assert!(failed > 0 && failed < 64, "{failed} of 64 writes failed");
    for (key, result) in keys.iter().zip(results) {
        assert_eq!(storage.contains(key).await.must("contains"), result.is_ok());
        if result.is_err() {
            assert!(!result.fails(ErrorKind::StorageFull, "write into full memory").is_retryable());
        }
    }
}

//! Redis Cluster.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{Applied, Change, Error, ErrorKind, Expiry, ReadOptions};
use larder_redis::redis;
use larder_test_servers::{Kind, Server};
use larder_testkit::{Context, Fails, Must, until};

use crate::places::{Place, apply, command, key, location, open, private};

pub(crate) async fn listings_cover_every_node(context: Context<Place>) {
    let server = &context.factory.server;
    let storage = open(server, context.target.space(), "&scan_count=10").await;
    let keys: BTreeSet<_> = (0..500).map(|number| key(format!("k{number}"))).collect();
    apply(&storage, keys.iter().map(|key| Change::put(key.clone(), "v", Expiry::Never))).await;
    let listed: BTreeSet<_> = storage.keys("").try_collect().await.must("list");
    assert_eq!(listed, keys);
    // The keys are on several nodes.
    for url in server.urls() {
        let size = command(url, "DBSIZE").await;
        assert!(matches!(size, redis::Value::Int(1..)), "a node is empty: {size:?}");
    }
    assert_eq!(storage.clear("").await.must("clear"), 500);
}

/// A plain URL leads to one node, which has only some keys. The error says how to open the cluster.
pub(crate) async fn plain_url(context: Context<Place>) {
    let server = &context.factory.server;
    let plain = format!("{}?prefix={}", server.url(), context.target.space());
    let storage = larder_redis::connect(&plain).await.must("connect to one node");
    assert!(!storage.info().fenced);
    let mut refused = 0;
    for number in 0..32 {
        if let Err(error) = storage.read(key(format!("k{number}"))).await {
            assert!(error.message().contains("redis-cluster://"), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 0);
    let deletions = (0..32).map(|number| Change::delete(key(format!("k{number}"))));
    let results = storage.apply(deletions.collect()).await;
    let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert_eq!(errors.len(), refused);
    assert!(errors.iter().all(|error| error.message().contains("redis-cluster://")), "{errors:?}");
    // A listing would return only the keys of this node.
    let listed: Vec<_> = storage.keys("").collect().await;
    assert_eq!(listed.len(), 1, "one node of a cluster lists keys");
    let error = listed[0].as_ref().err().must("be refused by one node");
    assert!(error.message().contains("redis-cluster://"), "{error}");
    // A cluster has only database 0.
    let numbered = format!("{}/1", server.url());
    let error = larder_redis::connect(&numbered).await;
    let error = error.fails(ErrorKind::InvalidConfig, "a number of a database on a node");
    assert!(error.message().contains("redis-cluster://"), "{error}");
}

/// It does not depend on which nodes the URL names.
pub(crate) async fn one_location(context: Context<Place>) {
    let server = &context.factory.server;
    let space = context.target.space();
    let here = location(&open(server, space, "").await).await;
    for url in server.urls() {
        for url in [url.clone(), url.replacen("redis://", "redis-cluster://", 1)] {
            let storage = larder_redis::connect(&format!("{url}?prefix={space}")).await.must("connect");
            assert_eq!(location(&storage).await, here, "{url}");
        }
    }
}

async fn ask(server: &Server, node: usize, words: &str) -> String {
    let mut raw = crate::places::raw(&server.urls()[node]).await;
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().must("name a command"));
    command.arg(words.collect::<Vec<_>>());
    let value: redis::Value = command.query_async(&mut raw).await.must("ask a node");
    match value {
        redis::Value::BulkString(text) => String::from_utf8(text).must("read text"),
        redis::Value::Int(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

pub(crate) async fn slots_move(context: Context<Place>) {
    let server = private(Kind::RedisCluster, &[]).await;
    let space = context.target.space();
    let storage = open(&server, space, "").await;
    storage.write(key("{tag}a"), "1").await.must("write");
    storage.write(key("{tag}b"), "2").await.must("write");
    // `{tag}` decides the slot.
    let slot = ask(&server, 0, &format!("CLUSTER KEYSLOT {space}:{{tag}}a")).await;
    let mut from = 0;
    for node in 0..3 {
        if ask(&server, node, &format!("CLUSTER COUNTKEYSINSLOT {slot}")).await == "2" {
            from = node;
        }
    }
    let to = (from + 1) % 3;
    let (source, target) = (ask(&server, from, "CLUSTER MYID").await, ask(&server, to, "CLUSTER MYID").await);
    ask(&server, to, &format!("CLUSTER SETSLOT {slot} IMPORTING {source}")).await;
    ask(&server, from, &format!("CLUSTER SETSLOT {slot} MIGRATING {target}")).await;
    let port = server.ports()[to];
    ask(&server, from, &format!("MIGRATE 127.0.0.1 {port} {space}:{{tag}}a 0 5000")).await;

    // Half of the move: one key is on the old node, the other on the new one.
    for (name, value) in [("{tag}a", "1"), ("{tag}b", "2")] {
        assert_eq!(storage.read(key(name)).await.must("read midway").must("find it").value, value);
    }
    storage.write(key("{tag}c"), "3").await.must("write midway");
    let counter = key("{tag}counter");
    for _ in 0..10 {
        let count = |count: Option<u64>| Some(count.unwrap_or(0) + 1);
        storage.update(&counter, Expiry::Never, count).await.must("count midway");
    }

    ask(&server, from, &format!("MIGRATE 127.0.0.1 {port} {space}:{{tag}}b 0 5000")).await;
    for node in [to, from] {
        ask(&server, node, &format!("CLUSTER SETSLOT {slot} NODE {target}")).await;
    }
    // After the move: the storage, which has the old map, finds them at once.
    for (name, value) in [("{tag}a", "1"), ("{tag}b", "2"), ("{tag}c", "3"), ("{tag}counter", "10")] {
        assert_eq!(storage.read(key(name)).await.must("read").must("find it").value, value);
    }
    let all = ["{tag}a", "{tag}b", "{tag}c", "{tag}counter"].map(key);
    until("every node knows", Duration::from_secs(20), || async {
        let listed: Result<BTreeSet<_>, _> = storage.keys("").try_collect().await;
        listed.is_ok_and(|listed| listed == all.iter().cloned().collect())
    })
    .await;
    let deleted = storage.apply(all.into_iter().map(Change::delete).collect()).await;
    assert!(deleted.into_iter().all(|result| result.must("delete") == Applied::Deleted(true)));
}

pub(crate) async fn node_killed(context: Context<Place>) {
    let server = private(Kind::RedisCluster, &[]).await;
    let storage = open(&server, context.target.space(), "&timeout=2s&connect_timeout=2s").await;
    let keys: Vec<_> = (0..60).map(|number| key(format!("k{number}"))).collect();
    let writes: Vec<_> =
        keys.iter().map(|key| Change::put(key.clone(), key.to_string(), Expiry::Never)).collect();
    apply(&storage, writes.clone()).await;
    server.kill_node(1).await.must("kill a node");
    let mut failed = 0;
    for key in &keys {
        match storage.read(key).await {
            Ok(record) => assert!(record.is_some(), "an error is not an absence"),
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                failed += 1;
            }
        }
    }
    assert!(failed > 0, "a node was killed, and no write failed");
    let results = storage.apply(writes.clone()).await;
    let errors: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    assert!(!errors.is_empty());
    assert!(errors.iter().all(Error::is_retryable), "{errors:?}");
    server.start_node(1).await.must("start the node");
    server.wait_ready().await.must("wait for the cluster");
    until("the storage works again", Duration::from_secs(30), || async {
        let mut works = true;
        for (key, record) in keys.iter().zip(storage.read_many(&keys, &ReadOptions::new()).await) {
            match record {
                Ok(record) => assert_eq!(record.must("find an acknowledged write").value, key.as_bytes()),
                Err(error) => {
                    assert!(error.is_retryable(), "{error:?}");
                    works = false;
                }
            }
        }
        works
    })
    .await;
    apply(&storage, writes).await;
}

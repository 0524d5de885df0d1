//! One command per operation, counted by the server.

use std::{collections::BTreeMap, num::NonZeroUsize};

use futures_util::TryStreamExt;
use larder_core::{Change, Condition, ErrorKind, Expiry, Key, ListOptions, ReadOptions, Store};
use larder_redis::redis;
use larder_test_servers::{Kind, Server};
use larder_testkit::{Context, Factory, Must, until};

use crate::places::{PATIENCE, Place, apply, key, open, private, raw};

const TIMES: u64 = 20;

/// Counts commands by name, without the commands of the test.
struct Counter {
    raw: redis::aio::MultiplexedConnection,
    seen: BTreeMap<String, u64>,
}

impl Counter {
    async fn new(server: &Server) -> Self {
        let mut counter = Self { raw: raw(server.url()).await, seen: BTreeMap::new() };
        counter.take().await;
        counter
    }

    /// The calls of each command since the last time.
    async fn take(&mut self) -> BTreeMap<String, u64> {
        let text: String = redis::cmd("INFO")
            .arg("commandstats")
            .query_async(&mut self.raw)
            .await
            .must("ask for the statistics");
        let calls = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse::<u64>().ok()?))
        };
        let now: BTreeMap<_, _> = text.lines().filter_map(calls).filter(|(name, _)| name != "info").collect();
        let before = std::mem::replace(&mut self.seen, now);
        let since = |(name, &calls): (&String, &u64)| {
            let new = calls - before.get(name).copied().unwrap_or(0);
            (new > 0).then(|| (name.clone(), new))
        };
        self.seen.iter().filter_map(since).collect()
    }

    async fn expect(&mut self, what: &str, commands: &[(&str, u64)]) {
        let expected: BTreeMap<_, _> =
            commands.iter().map(|(name, calls)| ((*name).to_owned(), *calls)).collect();
        assert_eq!(self.take().await, expected, "{what}");
    }
}

/// The commands that all servers have in common.
async fn plain(storage: &Store, counter: &mut Counter) {
    let hour = Expiry::after_secs(3600);
    for number in 0..TIMES {
        storage.write(key("k"), number.to_string()).expiry(hour).await.must("write");
    }
    counter.expect("write", &[("set", TIMES)]).await;
    for _ in 0..TIMES {
        storage.read(key("k")).await.must("read").must("find it");
    }
    counter.expect("read", &[("get", TIMES)]).await;
    for _ in 0..TIMES {
        storage.ttl(&key("k")).await.must("ttl");
        storage.contains(&key("k")).await.must("contains");
        storage.touch(key("k"), hour).await.must("touch");
    }
    counter.expect("the rest", &[("exists", TIMES), ("pexpire", TIMES), ("pttl", TIMES)]).await;
    for _ in 0..TIMES {
        storage.delete(key("k")).await.must("delete");
    }
    counter.expect("delete", &[("del", TIMES)]).await;
    for number in 0..TIMES {
        let key = key(format!("k{number}"));
        storage.write(&key, "v").expiry(hour).if_absent().await.must("write if absent");
        storage.write(&key, "v").expiry(hour).if_present().await.must("write if present");
    }
    counter.expect("writes if absent and if present", &[("set", 2 * TIMES)]).await;
    for number in 0..TIMES {
        let key = key(format!("k{number}"));
        storage.read(&key).touching(hour).await.must("read and touch");
        storage.touch(&key, hour).if_present().await.must("touch if present");
        storage.delete(&key).if_present().await.must("delete if present");
    }
    counter.expect("more natives", &[("del", TIMES), ("getex", TIMES), ("pexpire", TIMES)]).await;
    storage.write(key("k"), "v").await.must("write");
    counter.take().await;
    for _ in 0..TIMES {
        let record = storage.read(key("k")).touching(hour).with_ttl().await.must("read, touch and TTL");
        assert_eq!(record.must("find it").expiry, Some(hour));
        let record = storage.read(key("k")).touching(hour).with_ttl().without_value().await;
        assert_eq!(record.must("touch by a read").must("find it").expiry, Some(hour));
    }
    // A read without the value fetches none.
    counter.expect("reads with touch and TTL", &[("getex", TIMES), ("pexpire", TIMES)]).await;
}

/// Scripts. The server also counts the commands that they run.
async fn scripts(storage: &Store, counter: &mut Counter) {
    let keys: Vec<_> = (0..TIMES).map(|number| key(format!("s{number}"))).collect();
    apply(storage, keys.iter().map(|key| Change::put(key.clone(), "v", Expiry::after_secs(60)))).await;
    storage.read(&keys[0]).with_ttl().await.must("read with the TTL");
    storage.touch(&keys[0], Expiry::Never).await.must("touch without an expiry");
    counter.take().await;
    for key in &keys {
        let record = storage.read(key).with_ttl().await.must("read with the TTL").must("find it");
        assert!(record.expiry.is_some());
    }
    counter.expect("reads with the TTL", &[("evalsha", TIMES), ("get", TIMES), ("pttl", TIMES)]).await;
    let records = storage.read_many(&keys, &ReadOptions::new().with_ttl()).await;
    assert!(records.into_iter().all(|record| record.must("read").must("find it").expiry.is_some()));
    counter.expect("one read of many", &[("evalsha", TIMES), ("get", TIMES), ("pttl", TIMES)]).await;
    for key in &keys {
        storage.touch(key, Expiry::Never).await.must("touch without an expiry");
    }
    counter.expect("touches", &[("evalsha", TIMES), ("exists", TIMES), ("persist", TIMES)]).await;
    let version = storage.read(&keys[0]).await.must("read").must("find it").version;
    let condition = Condition::unchanged(version);
    counter.take().await;
    let touch = |key: &Key| Change::touch(key.clone(), Expiry::after_secs(60)).on(condition.clone());
    apply(storage, keys.iter().map(touch)).await;
    counter.expect("touches of a version", &[("evalsha", TIMES), ("get", TIMES), ("pexpire", TIMES)]).await;
    apply(storage, keys.iter().map(|key| Change::delete(key.clone()).on(condition.clone()))).await;
    counter.expect("deletions of a version", &[("del", TIMES), ("evalsha", TIMES), ("get", TIMES)]).await;
}

/// The number of bytes that the server has sent to all clients.
async fn sent(server: &Server) -> u64 {
    let info = redis::cmd("INFO").arg("stats").query_async(&mut raw(server.url()).await).await;
    let info: String = info.must("ask for the statistics");
    let sent = info.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
    sent.must("find the bytes sent").parse().must("parse a number")
}

/// A listing with a limit fetches few more keys and no more values.
pub(crate) async fn limit(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let storage = open(&server, context.target.space(), "").await;
    let keys = (0..2_000).map(|number| key(format!("k{number:0>300}")));
    apply(&storage, keys.map(|key| Change::put(key, vec![b'x'; 300], Expiry::Never))).await;
    let mut counter = Counter::new(&server).await;
    for count in [1, 3, 40] {
        let options = ListOptions::new().limit(NonZeroUsize::new(count).must("make a limit"));
        for options in [options.clone(), options.keys_only()] {
            let before = sent(&server).await;
            counter.take().await;
            let listed: Vec<_> = storage.list(options.clone()).try_collect().await.must("list");
            let commands = counter.take().await;
            let bytes = sent(&server).await - before;
            assert_eq!(listed.len(), count);
            let values = commands.get("get").copied().unwrap_or(0);
            assert_eq!(values, if options.values { count as u64 } else { 0 }, "values read");
            // 512 keys would be 150 KB. The statistics are a few kilobytes.
            assert!(bytes < 60_000 + 1_000 * count as u64, "{bytes} bytes for {count} entries");
        }
    }
}

/// All commands of a batch are sent before the first reply, to every node at the same time.
pub(crate) async fn one_flight(context: Context<Place>) {
    const COUNT: usize = 256;
    const LENGTH: usize = 300;
    let opened = context.factory.open_over_line(context.target.space()).await.must("connect");
    let Some((storage, line)) = opened else { return };
    let keys: Vec<_> = (0..COUNT).map(|number| key(format!("{number:0>LENGTH$}"))).collect();
    let version = storage.write(&keys[0], "v").await.must("write").version;
    let conditions = [Condition::Any, Condition::Absent, Condition::Present, Condition::unchanged(version)];
    let changes: Vec<_> = keys
        .iter()
        .zip(conditions.iter().cycle())
        .map(|(key, condition)| Change::put(key.clone(), "v", Expiry::Never).on(condition.clone()))
        .collect();
    let held = || until("all of it is on its way", PATIENCE, || async { line.held() >= COUNT * LENGTH });

    line.hold();
    let batch = tokio::spawn({
        let storage = storage.clone();
        async move { storage.apply(changes).await }
    });
    held().await;
    line.release().await;
    // A reply that was held back may come too late.
    for result in batch.await.must("join") {
        assert!(
            result
                .as_ref()
                .err()
                .is_none_or(|error| error.kind() == ErrorKind::Conflict || error.is_retryable())
        );
    }

    until("the storage works again", PATIENCE, || async { storage.read(&keys[0]).await.is_ok() }).await;
    line.hold();
    let batch = tokio::spawn(async move { storage.read_many(&keys, &ReadOptions::new()).await });
    held().await;
    line.release().await;
    batch.await.must("join");
}

async fn swap(storage: &Store, times: u64) {
    let mut written = storage.write(key("c"), "start").if_absent().await.must("write if absent");
    for number in 0..times {
        let version = written.version.must("find the version");
        let write = storage.write(key("c"), number.to_string()).expiry(Expiry::after_secs(60)).if_at(version);
        written = write.await.must("write if unchanged");
    }
    let version = written.version.must("find the version");
    storage.delete(key("c")).if_at(version).await.must("delete if unchanged");
}

pub(crate) async fn script(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let storage = open(&server, context.target.space(), "&cas=script").await;
    let mut counter = Counter::new(&server).await;
    plain(&storage, &mut counter).await;
    // The first time a script is sent by its digest, rejected, and sent in full.
    swap(&storage, 1).await;
    counter.take().await;
    swap(&storage, TIMES).await;
    // The client sent `evalsha` and the first `set`; the scripts ran the others.
    let inside = [("del", 1), ("get", TIMES + 1), ("set", TIMES + 1)];
    counter.expect("changes of a version", &[&[("evalsha", TIMES + 1)], &inside[..]].concat()).await;
    scripts(&storage, &mut counter).await;
}

pub(crate) async fn ifeq(context: Context<Place>) {
    let server = private(Kind::Valkey, &[]).await;
    let storage = open(&server, context.target.space(), "").await;
    let mut counter = Counter::new(&server).await;
    plain(&storage, &mut counter).await;
    swap(&storage, 1).await;
    counter.take().await;
    swap(&storage, TIMES).await;
    let deletion = [("del", 1), ("evalsha", 1), ("get", 1)];
    counter.expect("changes of a version", &[&deletion[..], &[("set", TIMES + 1)]].concat()).await;
    scripts(&storage, &mut counter).await;
    // The digest of a large old value is sent, and not the value.
    let large = vec![b'x'; 64 * 1024];
    let written = storage.write(key("large"), large.clone()).await.must("write");
    counter.take().await;
    let version = written.version.must("find the version");
    storage.write(key("large"), large).if_at(version).await.must("write over a large value");
    counter.expect("a large value", &[("evalsha", 1), ("get", 1), ("set", 1)]).await;
}

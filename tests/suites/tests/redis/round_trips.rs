//! One command per operation, counted by the server.

use std::collections::BTreeMap;

use larder_core::{Condition, Expiry, Storage};
use larder_redis::{RedisStorage, redis};
use larder_test_servers::{Kind, Server};
use larder_testkit::{Context, Must};

use crate::places::{Place, key, open, private, raw};

const TIMES: u64 = 20;

/// Counts commands by name, our own questions left out.
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

/// What every server does alike.
async fn plain(storage: &RedisStorage, counter: &mut Counter) {
    let hour = Expiry::after_secs(3600);
    for number in 0..TIMES {
        storage.write(&key("k"), number.to_string().into(), hour).await.must("write");
    }
    counter.expect("write", &[("set", TIMES)]).await;
    for _ in 0..TIMES {
        storage.read(&key("k")).await.must("read").must("find it");
    }
    counter.expect("read", &[("get", TIMES)]).await;
    for _ in 0..TIMES {
        storage.ttl(&key("k")).await.must("ttl");
        storage.contains(&key("k")).await.must("contains");
        storage.touch(&key("k"), hour).await.must("touch");
    }
    counter.expect("the rest", &[("exists", TIMES), ("pexpire", TIMES), ("pttl", TIMES)]).await;
    for _ in 0..TIMES {
        storage.delete(&key("k")).await.must("delete");
    }
    counter.expect("delete", &[("del", TIMES)]).await;
    for number in 0..TIMES {
        let key = key(format!("k{number}"));
        storage.write_if(&key, "v".into(), hour, Condition::Absent).await.must("write_if absent");
    }
    counter.expect("write_if absent", &[("set", TIMES)]).await;
}

async fn swap(storage: &RedisStorage, times: u64) {
    let mut version = storage
        .write_if(&key("c"), "start".into(), Expiry::Never, Condition::Absent)
        .await
        .must("write_if absent");
    for number in 0..times {
        let value = number.to_string().into();
        version = storage
            .write_if(&key("c"), value, Expiry::after_secs(60), Condition::At(version))
            .await
            .must("write_if");
    }
    storage.delete_if(&key("c"), &version).await.must("delete_if");
}

pub(crate) async fn script(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let storage = open(&server, context.target.space(), "&cas=script").await;
    let mut counter = Counter::new(&server).await;
    plain(&storage, &mut counter).await;
    // The first time a script is sent by its digest, refused, and sent whole.
    swap(&storage, 1).await;
    counter.take().await;
    swap(&storage, TIMES).await;
    // What came from outside is `evalsha` and the first `set`; the scripts ran the others.
    let inside = [("del", 1), ("get", TIMES + 1), ("set", TIMES + 1)];
    counter.expect("write_if", &[&[("evalsha", TIMES + 1)], &inside[..]].concat()).await;
}

pub(crate) async fn ifeq(context: Context<Place>) {
    let server = private(Kind::Valkey, &[]).await;
    let storage = open(&server, context.target.space(), "").await;
    let mut counter = Counter::new(&server).await;
    plain(&storage, &mut counter).await;
    swap(&storage, 1).await;
    counter.take().await;
    swap(&storage, TIMES).await;
    let delete_if = [("del", 1), ("evalsha", 1), ("get", 1)];
    counter.expect("write_if", &[&delete_if[..], &[("set", TIMES + 1)]].concat()).await;
    // A large old value is not sent along: its digest is.
    let large = vec![b'x'; 64 * 1024];
    let version = storage
        .write_if(&key("large"), large.clone().into(), Expiry::Never, Condition::Absent)
        .await
        .must("write_if absent");
    counter.take().await;
    storage
        .write_if(&key("large"), large.into(), Expiry::Never, Condition::At(version))
        .await
        .must("write_if of a large value");
    let calls = counter.take().await;
    assert!(calls.contains_key("eval") && calls.contains_key("get"), "{calls:?}");
}

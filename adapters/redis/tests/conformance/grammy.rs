//! grammY's layout. It has no prefix, so every space is its own database.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use larder_core::{Error, Expiry, Result, Store, async_trait};
use larder_test_servers::{Kind, Server};
use larder_testkit::{Context, Factory, Line, Missing, Must, Suite};
use serde_json::Value;

use crate::places::{key, missing, needs_private, open_over_line, raw};

/// More databases than the suite opens.
const DATABASES: &str = "4096";

pub(crate) struct Databases {
    server: Server,
    numbers: Mutex<HashMap<String, usize>>,
}

pub(crate) fn suite() -> Suite<Databases> {
    Suite::connect("redis_grammy", connect)
        .across_processes(Databases::store_url, |url| async move { larder_redis::connect(&url).await })
        .case("sessions_of_grammy_are_read", sessions_of_grammy_are_read)
        .case("grammy_can_read_new_sessions", grammy_can_read_new_sessions)
}

async fn connect() -> Result<Databases, Missing> {
    needs_private(Kind::Redis).await?;
    let server = Kind::Redis.private_with(&["--databases", DATABASES]).await.map_err(missing)?;
    Ok(Databases { server, numbers: Mutex::default() })
}

impl Databases {
    /// The URL of the database of a space.
    fn url(&self, space: &str) -> String {
        let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
        let next = numbers.len();
        let number = numbers.entry(space.to_owned()).or_insert(next);
        format!("{}/{number}", self.server.url())
    }

    /// The same, for a store.
    fn store_url(&self, space: &str) -> String {
        format!("{}?layout=grammy", self.url(space))
    }
}

#[async_trait]
impl Factory for Databases {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        larder_redis::connect(&self.store_url(space)).await
    }

    async fn open_over_line(&self, space: &str) -> Result<Option<(Store, Arc<dyn Line>)>, Error> {
        open_over_line(&self.store_url(space)).await.map(Some)
    }
}

fn fixture(name: &str) -> serde_json::Map<String, Value> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/grammy").join(name);
    let text = std::fs::read(path).must("read a fixture");
    serde_json::from_slice(&text).must("parse a fixture")
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry[field].as_str().must("find a text in the fixture")
}

async fn sessions_of_grammy_are_read(context: Context<Databases>) {
    let url = context.factory.url(context.target.space());
    let mut redis = raw(&url).await;
    let sessions = fixture("redis.json");
    let lasting = fixture("redis-ttl.json");
    for (name, entry) in &sessions {
        let mut set = larder_redis::redis::cmd("SET");
        set.arg(name).arg(text(entry, "value"));
        set.exec_async(&mut redis).await.must("write as grammY does");
    }
    let storage = context.factory.open(context.target.space()).await.must("connect");
    for (name, entry) in &sessions {
        let record = storage.read(key(name)).await.must("read").must("find the session");
        assert_eq!(record.value, text(entry, "value"));
        assert_eq!(storage.ttl(&key(name)).await.must("ttl"), Some(Expiry::Never));
    }
    for (name, entry) in &lasting {
        let seconds = entry["ttl_seconds"].as_u64().must("find the time to live in the fixture");
        let mut set = larder_redis::redis::cmd("SET");
        set.arg(name).arg(text(entry, "value")).arg("EX").arg(seconds);
        set.exec_async(&mut redis).await.must("write as grammY does");
        let left = match storage.ttl(&key(name)).await.must("ttl") {
            Some(Expiry::After(left)) => Some(left),
            _ => None,
        };
        let left = left.must("find the time to live that grammY gave it");
        let written = Duration::from_secs(seconds);
        assert!(left <= written && left + Duration::from_secs(60) > written, "{left:?} of {written:?}");
    }
    let expected = fixture("expected.json");
    for (name, session) in &expected {
        let record = storage.read(key(name)).await.must("read").must("find the session");
        let read: Value = serde_json::from_slice(&record.value).must("parse the session");
        assert_eq!(&read, session);
    }
}

async fn grammy_can_read_new_sessions(context: Context<Databases>) {
    let url = context.factory.url(context.target.space());
    let storage = context.factory.open(context.target.space()).await.must("connect");
    for (name, entry) in &fixture("redis.json") {
        let value = text(entry, "value").to_owned();
        storage.write(key(name), value.clone()).expiry(Expiry::after_secs(100)).await.must("write");
        let mut redis = raw(&url).await;
        let seen: String = larder_redis::redis::cmd("GET")
            .arg(name)
            .query_async(&mut redis)
            .await
            .must("read as grammY does");
        assert_eq!(seen, value);
        let left: i64 = larder_redis::redis::cmd("TTL")
            .arg(name)
            .query_async(&mut redis)
            .await
            .must("read the time to live as grammY does");
        assert!((95..=100).contains(&left), "{left}");
    }
}

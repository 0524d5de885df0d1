//! The SDK's log of the requests of a store.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_sdk_dynamodb::{
    Client,
    config::{BehaviorVersion, Config, Credentials, Region},
    types::AttributeValue,
};
use larder_core::{Expiry, Key, Store};
use tracing::{Metadata, Subscriber, subscriber::Interest};
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::SubscriberExt};

const SECRET: &str = "hunter2-log";

/// The log of this process at all levels.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn contains_secret(&self) -> bool {
        String::from_utf8_lossy(&self.0.lock().unwrap()).contains(SECRET)
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Counts how often `tracing` asks whether a place in the program is logged. It asks for all places again whenever a
/// subscriber is registered.
#[derive(Clone, Default)]
struct Asked(Arc<AtomicUsize>);

impl<S: Subscriber> Layer<S> for Asked {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        self.0.fetch_add(1, Ordering::Relaxed);
        Interest::always()
    }
}

async fn use_all(store: &Store) {
    let key = Key::new(SECRET).unwrap();
    store.write(&key, SECRET).await.unwrap();
    assert!(store.read(&key).await.unwrap().is_some());
    assert!(store.touch(&key, Expiry::Never).await.unwrap());
    assert!(store.delete(&key).await.unwrap());
    store.write(&key, SECRET).await.unwrap();
}

/// A request neither logs its content nor registers a subscriber of its own, which would slow down all concurrent
/// requests.
#[tokio::test]
async fn requests_are_not_logged() {
    let server = match larder_test_servers::dynamodb().await {
        Ok(server) => server,
        Err(missing) if missing.required() => panic!("{missing}"),
        Err(missing) => return println!("ignored: {missing}"),
    };
    let (log, asked) = (Log::default(), Asked::default());
    let lines = tracing_subscriber::fmt::layer().with_writer(log.clone());
    let subscriber = tracing_subscriber::registry().with(lines).with(asked.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let table = format!("log-{:016x}", larder_core::unique::id64());
    let url = server.url().replacen("dynamodb:", &format!("dynamodb:{table}"), 1);
    let store = larder_dynamodb::connect(&url).await.unwrap();
    use_all(&store).await;
    let before = asked.0.load(Ordering::Relaxed);
    for _ in 0..8 {
        use_all(&store).await;
    }
    let asked = asked.0.load(Ordering::Relaxed) - before;
    assert!(asked < 40, "40 requests have asked {asked} times");
    assert!(!log.contains_secret());

    // Another client still logs what it reads.
    let endpoint = server.url().split_once("endpoint=").unwrap().1.split('&').next().unwrap();
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("id", "secret", None, None, "test"));
    let client = Client::from_conf(config.build());
    let id = AttributeValue::S(SECRET.to_owned());
    assert!(client.get_item().table_name(table).key("id", id).send().await.unwrap().item.is_some());
    assert!(log.contains_secret());
}

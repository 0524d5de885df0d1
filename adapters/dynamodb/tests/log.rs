//! The SDK's log of the requests of a store.

// A test fails by panicking.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{
    fmt::{self, Write as _},
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
use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
    subscriber::Interest,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
};

const SECRET: &str = "hunter2-log";

/// The log of this process at all levels, and how often `tracing` has asked whether a place in the program is logged. It
/// asks for all places again whenever a subscriber is registered.
#[derive(Clone, Default)]
struct Log {
    text: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl Log {
    fn push(&self, logged: &dyn fmt::Debug) {
        writeln!(self.text.lock().unwrap(), "{logged:?}").unwrap();
    }

    fn contains_secret(&self) -> bool {
        self.text.lock().unwrap().contains(SECRET)
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        self.asked.fetch_add(1, Ordering::Relaxed);
        Interest::always()
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        self.push(attributes);
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        self.push(values);
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.push(event);
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
    let log = Log::default();
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(log.clone())).unwrap();

    let table = format!("log-{:016x}", larder_core::unique::id64());
    let url = server.url().replacen("dynamodb:", &format!("dynamodb:{table}"), 1);
    let store = larder_dynamodb::connect(&url).await.unwrap();
    use_all(&store).await;
    let before = log.asked();
    for _ in 0..8 {
        use_all(&store).await;
    }
    let asked = log.asked() - before;
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

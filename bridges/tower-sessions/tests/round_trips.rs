//! The number of operations on the storage.

#![allow(clippy::unwrap_used)] // A test fails by panicking.

use axum::{Router, routing::get};
use larder_bridge_tests::{Browser, Steps};
use larder_tower_sessions::LarderStore;
use tokio::net::TcpListener;
use tower_sessions::{
    Expiry, Session, SessionManagerLayer, SessionStore,
    cookie::time::{Duration, OffsetDateTime},
    session::{Id, Record},
};

fn record() -> Record {
    let expiry_date = OffsetDateTime::now_utc() + Duration::hours(1);
    Record { id: Id::default(), data: [("count".to_owned(), 1.into())].into(), expiry_date }
}

/// Sessions that expire after inactivity are saved by every request.
#[tokio::test]
async fn a_rolling_expiry_costs_one_operation_beyond_the_load() {
    let steps = Steps::default();
    let sessions = SessionManagerLayer::new(LarderStore::new(steps.clone()).unwrap())
        .with_expiry(Expiry::OnInactivity(Duration::hours(1)))
        .with_always_save(true)
        .with_secure(false);
    let router = Router::new()
        .route("/login", get(async |session: Session| session.insert("name", "ann").await.unwrap()))
        .route("/name", get(async |session: Session| session.get::<String>("name").await.unwrap().unwrap()))
        .route("/other", get(async || ()))
        .layer(sessions);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut browser = Browser::new(listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });

    browser.says("GET", "/login").await;
    assert_eq!(steps.take_calls(), ["write if absent"]);
    for path in ["/name", "/other", "/name"] {
        browser.says("GET", path).await;
        assert_eq!(steps.take_calls(), ["read", "write if present"], "{path}");
    }
}

#[tokio::test]
async fn a_session_that_another_process_has_saved_is_read_again() {
    let steps = Steps::default();
    let [one, other] = [(); 2].map(|()| LarderStore::new(steps.clone()).unwrap());
    let mut record = record();
    one.create(&mut record).await.unwrap();
    other.load(&record.id).await.unwrap().unwrap();
    other.save(&record).await.unwrap();
    assert_eq!(steps.take_calls(), ["write if absent", "read", "write if present"]);
    one.save(&record).await.unwrap();
    assert_eq!(steps.take_calls(), ["write if present", "read", "write if present"]);
    one.delete(&record.id).await.unwrap();
    assert_eq!(steps.take_calls(), ["delete"]);
    other.save(&record).await.unwrap_err();
    assert_eq!(steps.take_calls(), ["write if present", "read"]);
}

#[tokio::test]
async fn the_migration_costs_as_much_as_documented() {
    let steps = Steps::default();
    let plain = LarderStore::new(steps.clone()).unwrap().with_plain_ids();
    let mut record = record();
    plain.create(&mut record).await.unwrap();
    let store = plain.migrating_plain_ids();
    steps.take_calls();

    store.load(&record.id).await.unwrap().unwrap();
    assert_eq!(steps.take_calls(), ["read", "read"]);
    assert_eq!(store.load(&Id::default()).await.unwrap(), None);
    assert_eq!(steps.take_calls(), ["read", "read", "read"]);
    store.save(&record).await.unwrap();
    assert_eq!(steps.take_calls(), ["read", "write if absent", "read", "write if present", "delete"]);

    store.load(&record.id).await.unwrap().unwrap();
    store.save(&record).await.unwrap();
    assert_eq!(steps.take_calls(), ["read", "write if present"]);
    store.delete(&record.id).await.unwrap();
    assert_eq!(steps.take_calls(), ["delete", "delete"]);
}

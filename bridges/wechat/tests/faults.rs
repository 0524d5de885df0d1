//! A store that is down: it causes an error, never a panic or a session that looks empty.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::time::Duration;

use larder_bridge_tests::{OCCUPIED, Probe};
use larder_core::{Expiry, Key, Store};
use larder_memory::MemoryStorage;
use larder_wechat::{Protocol, Session, WechatLayer};
use reqwest::Method;
use serde_json::{Value, json};
use support::{
    APP_ID, APP_SECRET, MAGIC, SESSION_KEY, SKEY,
    claims::{forged, malformed, malformed_skeys},
    service::{Service, key},
};
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;

#[tokio::test]
async fn requests_with_a_session_fail_while_the_store_is_down() {
    let storage = Probe::new();
    let service = Service::start(storage.clone()).await;
    let mut client = service.client();
    client.post("/count/visits", Value::Null).await.unwrap();
    let (session, handled) = (client.session.clone(), service.handled());
    storage.set_down(true);

    for path in ["/open", "/me", "/api/login"] {
        let names = client.names();
        let names: Vec<_> = names.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = client.wx_request(Method::GET, path, &names, None).await;
        assert_eq!((answer.status, &answer.data[MAGIC]), (503, &json!(1)), "{path}");
        assert_eq!(answer.data["error"], "ERR_CHECK_LOGIN_FAILED");
        assert!(!answer.data.to_string().contains("gone"), "the client does not learn the reason");
    }
    assert_eq!(client.get("/me").await.map(drop).unwrap_err().kind, "ERR_CHECK_LOGIN_FAILED");
    // A request without a session needs no store.
    let answer = client.wx_request(Method::GET, "/open", &[], None).await;
    assert_eq!(answer.data, json!({ "session": false }));
    assert_eq!(service.handled(), handled + 1);

    storage.set_down(false);
    client.session = session;
    assert_eq!(client.get("/fields").await.unwrap().data, json!({ "visits": 1 }));
}

#[tokio::test]
async fn a_session_above_the_maximum_size_is_not_stored() {
    for hashed in [false, true] {
        let storage = Probe::new();
        let service =
            Service::with(storage.clone(), |builder| builder.hashed_ids(hashed).max_size(2_000)).await;
        let mut client = service.client();
        client.post("/set/cart", json!("x".repeat(1_000))).await.unwrap();
        let session = client.session.clone();
        let error = client.post("/set/cart", json!("x".repeat(2_000))).await.map(drop).unwrap_err();
        assert_eq!(error.kind, "ERR_CHECK_LOGIN_FAILED");
        client.session = session;
        assert_eq!(client.get("/fields").await.unwrap().data, json!({ "cart": "x".repeat(1_000) }));
        // A login too.
        let service = Service::with(storage.clone(), |builder| builder.hashed_ids(hashed).max_size(10)).await;
        assert!(service.client().login().await.is_err());
        assert_eq!(storage.entries(), 1);
    }
}

#[tokio::test]
async fn unsaved_changes_are_not_acknowledged() {
    let storage = Probe::new();
    let service = Service::start(storage.clone()).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let session = client.session.clone();
    storage.set_read_only(true);

    // Reading continues.
    assert_eq!(client.get("/me").await.unwrap().data["nickName"], "Band");
    for path in ["/set/cart", "/count/visits", "/logout"] {
        let failed = client.post(path, json!(1)).await.map(drop).unwrap_err();
        assert_eq!(failed.kind, "ERR_CHECK_LOGIN_FAILED", "{path}");
        client.session.clone_from(&session);
    }
    // A login that cannot be stored fails.
    let mut other = service.client();
    let failed = other.login().await.unwrap_err();
    assert!(failed.message.starts_with("ERR_LOGIN_FAILED: the session store"), "{}", failed.message);
    assert_eq!(other.session, None);

    storage.set_read_only(false);
    assert_eq!(client.get("/fields").await.unwrap().data, json!({}));
}

#[tokio::test]
async fn a_session_that_cannot_be_extended_is_served() {
    let storage = Probe::new();
    let service =
        Service::with(storage.clone(), |builder| builder.cover_time(Duration::from_secs(3600))).await;
    let mut client = service.client();
    client.login().await.unwrap();
    assert!(storage.storage().touch(key(&client.id()), Expiry::after_secs(60)).await.unwrap());
    storage.set_read_only(true);
    assert_eq!(client.get("/me").await.unwrap().data["nickName"], "Band");
    storage.set_read_only(false);
    client.get("/me").await.unwrap();
    let Some(Expiry::After(left)) = storage.storage().ttl(key(&client.id())).await.unwrap() else {
        panic!("the session is gone")
    };
    assert!(left > Duration::from_secs(3000));
}

/// Stores a session; returns its key and a request that claims it.
async fn stored(storage: &Store) -> (Key, http::Request<()>) {
    let id = "ab".repeat(32);
    let fields = json!({ "id": id, "skey": SKEY, "sessionKey": SESSION_KEY, "userInfo": {} });
    storage.write(key(&id), fields.to_string()).expiry(Expiry::after_secs(60)).await.unwrap();
    let request = http::Request::get("/").header("X-WX-Id", &id).header("X-WX-Skey", SKEY).body(()).unwrap();
    (key(&id), request)
}

#[tokio::test]
async fn a_service_that_fails_or_is_dropped_changes_nothing() {
    let storage = Store::new(MemoryStorage::new());
    let layer = WechatLayer::builder(APP_ID, APP_SECRET).storage(&storage).build().unwrap();
    let (key, request) = stored(&storage).await;
    let before = storage.read(&key).await.unwrap();

    let failing = layer.layer(service_fn(|request: http::Request<()>| async move {
        request.extensions().get::<Session>().unwrap().set("field", &1).unwrap();
        Err::<http::Response<()>, _>("it broke")
    }));
    assert_eq!(failing.oneshot(request.clone()).await.map(drop), Err("it broke"));
    assert_eq!(storage.read(&key).await.unwrap(), before);

    let hanging = layer.layer(service_fn(|request: http::Request<()>| async move {
        request.extensions().get::<Session>().unwrap().destroy();
        std::future::pending::<Result<http::Response<()>, &str>>().await
    }));
    let mut future = Box::pin(hanging.oneshot(request));
    assert!(futures_util::FutureExt::now_or_never(&mut future).is_none());
    drop(future);
    assert_eq!(storage.read(&key).await.unwrap(), before);
}

#[tokio::test]
async fn malformed_claims_do_not_reach_the_store() {
    let storage = Probe::new();
    let service = Service::start(storage.clone()).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let id = client.id();
    storage.set_down(true);
    for (claims, expected) in [
        (malformed(&id), (200, "ERR_INVALID_SESSION")),
        // These claims need the store.
        (forged(&id), (503, "ERR_CHECK_LOGIN_FAILED")),
    ] {
        for claim in claims {
            client.by_query = claim.by_query;
            let answer = client.wx_request(Method::GET, "/open", &claim.names(), None).await;
            assert_eq!((answer.status, answer.data["error"].as_str().unwrap()), expected, "{claim:?}");
        }
    }
    assert_eq!(service.handled(), 0);
}

#[tokio::test]
async fn a_taken_id_is_replaced_by_another() {
    let storage = Probe::new();
    let service = Service::start(storage.clone()).await;
    let mut client = service.client();
    storage.occupy(5);
    client.login().await.unwrap();
    let taken = storage.occupied();
    assert_eq!(taken.len(), 5);
    assert!(!taken.contains(&key(&client.id())));
    // The session stores the new id.
    client.post("/set/cart", json!(1)).await.unwrap();
    assert_eq!(service.stored(&client.id()).await.unwrap()["id"], client.id());
    assert_eq!(client.logins, 1);

    storage.occupy(usize::MAX);
    let failed = service.client().login().await.unwrap_err();
    assert!(failed.message.starts_with("ERR_LOGIN_FAILED: the session store"), "{}", failed.message);
    for taken in storage.occupied() {
        assert_eq!(storage.storage().read(&taken).await.unwrap().unwrap().value, OCCUPIED.as_bytes());
    }
}

#[tokio::test]
async fn an_id_that_the_service_has_seen_is_not_replaced() {
    let storage = Probe::new();
    let service = Service::with(storage.clone(), |builder| builder.login_next(true)).await;
    storage.occupy(1);
    let failed = service.client().login().await.unwrap_err();
    assert!(failed.message.starts_with("ERR_LOGIN_FAILED: the session store"), "{}", failed.message);
    assert_eq!(storage.storage().clear("").await.unwrap(), 1, "only the occupied entry remains");
    service.client().login().await.unwrap();
}

#[tokio::test]
async fn version_2_keeps_its_session_while_the_store_is_down() {
    let storage = Probe::new();
    let service = Service::with(storage.clone(), |builder| builder.protocol(Protocol::Wafer2)).await;
    let mut client = service.client();
    client.login2(true).await.unwrap();
    let session = client.session.clone();
    let skey = session.as_ref().unwrap()["skey"].as_str().unwrap();

    storage.set_down(true);
    // The SDK calls the mini-program's `success`, which sees the status.
    let answer = client.request2("/me").await.unwrap();
    assert_eq!((answer.status, &answer.data["code"]), (503, &json!(1)));
    assert_eq!(answer.data["error"], "ERR_CHECK_LOGIN_FAILED");
    assert!(answer.data.get(MAGIC).is_none());
    for wrong in malformed_skeys(skey) {
        let answer = client.wx_request(Method::GET, "/me", &[("X-WX-Skey", &wrong)], None).await;
        assert_eq!((answer.status, &answer.data["code"]), (401, &json!(-1)), "{wrong}");
    }
    storage.set_down(false);
    storage.set_read_only(true);
    let answer = client.wx_request(Method::POST, "/count/visits", &[("X-WX-Skey", skey)], None).await;
    assert_eq!((answer.status, &answer.data["code"]), (503, &json!(1)));
    storage.set_read_only(false);
    assert_eq!(client.request2("/me").await.unwrap().data["nickName"], "Band");
    assert_eq!((client.logins, &client.session), (1, &session));

    storage.set_down(true);
    assert_eq!(client.login2(true).await.unwrap_err().kind, "ERR_LOGIN_FAILED");
}

//! Requests that are interrupted or overtaken at each of their changes, and the number of their operations.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::{convert::Infallible, time::Duration};

use Operation::{Delete, Read, Touch, Write};
use futures_util::TryStreamExt;
use http::{Request, Response};
use larder_bridge_tests::Probe;
use larder_core::{Expiry, Operation, Store};
use larder_wechat::{Protocol, Session, WechatBuilder, WechatLayer};
use serde_json::{Value, json};
use support::{APP_ID, APP_SECRET, DATA, IV, OPEN_ID, SESSION_KEY, SKEY, service::Service, wechat::Wechat};
use tokio::sync::oneshot;
use tower::{ServiceExt, service_fn};
use tower_layer::Layer;

/// The id of the only session.
fn id() -> String {
    "0123456789abcdef".repeat(4)
}

fn layer(storage: &Probe, options: impl FnOnce(WechatBuilder) -> WechatBuilder) -> WechatLayer {
    let builder = WechatLayer::builder(APP_ID, APP_SECRET).storage(storage.clone());
    options(builder).build().unwrap()
}

fn migrating(builder: WechatBuilder) -> WechatBuilder {
    builder.owners(true).migrating_plain_ids()
}

/// Stores a plain session, as mp-session-koa2 does, and puts it into the index.
async fn stored() -> Probe {
    let storage = Probe::new();
    let fields =
        json!({ "id": id(), "skey": SKEY, "sessionKey": SESSION_KEY, "userInfo": { "openId": OPEN_ID } });
    let expiry = Expiry::after_secs(60);
    storage.storage().write(format!("session:{}", id()), fields.to_string()).expiry(expiry).await.unwrap();
    let layer = layer(&storage, |builder| builder.owners(true));
    assert_eq!(count(&layer).await, Some(1));
    assert_eq!(layer.sessions_of(OPEN_ID).await.unwrap().len(), 1);
    let _ = storage.calls();
    storage
}

/// Sends a request with the session to a service that does `what`. Returns whether the session was valid.
async fn send<T: Send + 'static>(layer: &WechatLayer, what: fn(&Session) -> T) -> Option<T> {
    let (sender, mut receiver) = oneshot::channel();
    let sender = std::sync::Arc::new(std::sync::Mutex::new(Some(sender)));
    let service = layer.layer(service_fn(move |request: Request<()>| {
        let result = what(request.extensions().get::<Session>().unwrap());
        drop(sender.lock().unwrap().take().unwrap().send(result));
        async { Ok::<_, Infallible>(Response::new(())) }
    }));
    let request = Request::get("/").header("X-WX-Id", id()).header("X-WX-Skey", SKEY).body(()).unwrap();
    assert_eq!(service.oneshot(request).await.unwrap().status(), 200);
    receiver.try_recv().ok()
}

/// Counts this visit. Returns the number of visits, if the session is valid.
async fn count(layer: &WechatLayer) -> Option<u64> {
    send(layer, |session| {
        session.update("visits", |visits: Option<u64>| Some(visits.unwrap_or(0) + 1)).unwrap().unwrap()
    })
    .await
}

/// Returns the number of saved visits, if the session is valid.
async fn visits(layer: &WechatLayer) -> Option<u64> {
    send(layer, |session| session.get("visits").unwrap().unwrap()).await
}

async fn log_out(layer: &WechatLayer) {
    send(layer, Session::destroy).await;
}

async fn keys(storage: &Store) -> Vec<String> {
    let keys: Vec<_> = storage.keys("").try_collect().await.unwrap();
    keys.iter().map(|key| key.as_str().to_owned()).collect()
}

/// The changes of a request that moves a session: the entry in the index, the announcement, the session, the deletion
/// of the plain one and the removal of its entry.
const MOVE: usize = 5;

/// Returns the number of changes since the last call.
fn changes(storage: &Probe) -> usize {
    storage.calls().iter().filter(|call| **call != Read).count()
}

/// Runs `request`, and ends its process before one of its changes, counted from 1.
async fn interrupt<T: Send>(
    storage: &Probe,
    change: usize,
    request: impl Future<Output = T> + Send + 'static,
) {
    let (alive, dead) = oneshot::channel::<()>();
    let (end, ended) = oneshot::channel::<()>();
    let request = async move {
        let _alive = alive;
        tokio::select! {
            _ = request => panic!("it was not interrupted"),
            _ = ended => {}
        }
    };
    let during = async {
        end.send(()).unwrap();
        dead.await.unwrap_err();
    };
    storage.before(change, request, during).await;
}

/// Checks that everything in the store expires.
async fn all_expires(storage: &Store) {
    for key in keys(storage).await {
        assert!(matches!(storage.ttl(&*key).await.unwrap(), Some(Expiry::After(_))));
    }
}

#[tokio::test]
async fn an_interrupted_move_loses_nothing_and_can_be_revoked() {
    for change in 1..=MOVE {
        let storage = stored().await;
        let layer = layer(&storage, migrating);
        let request = layer.clone();
        interrupt(&storage, change, async move { count(&request).await }).await;
        all_expires(storage.storage()).await;
        let saved = if change > 3 { 2 } else { 1 };
        assert_eq!(visits(&layer).await, Some(saved), "{change}");
        assert_eq!(layer.sessions_of(OPEN_ID).await.unwrap().len(), 1, "{change}");
        assert!(layer.delete_by_owner(OPEN_ID).await.unwrap() > 0, "{change}");
        assert_eq!(visits(&layer).await, None, "{change}");
    }
}

/// Another request during a pause.
#[derive(Clone, Copy, Debug)]
enum During {
    Count,
    LogOut,
    Revoke,
}

impl During {
    async fn run(self, layer: &WechatLayer) {
        match self {
            Self::Count => drop(count(layer).await.unwrap()),
            Self::LogOut => log_out(layer).await,
            // While it moves, it can count twice.
            Self::Revoke => assert!(layer.delete_by_owner(OPEN_ID).await.unwrap() > 0),
        }
    }
}

#[tokio::test]
async fn a_move_that_is_overtaken_loses_nothing_and_restores_nothing() {
    let storage = stored().await;
    assert_eq!(count(&layer(&storage, migrating)).await, Some(2));
    assert_eq!(changes(&storage), MOVE);
    for change in 1..=MOVE {
        for during in [During::Count, During::LogOut, During::Revoke] {
            let storage = stored().await;
            let layer = layer(&storage, migrating);
            let request = {
                let layer = layer.clone();
                async move { count(&layer).await }
            };
            storage.before(change, request, during.run(&layer)).await;
            let expected = matches!(during, During::Count).then_some(3);
            assert_eq!(visits(&layer).await, expected, "{change} {during:?}");
            let listed = layer.sessions_of(OPEN_ID).await.unwrap().len();
            assert_eq!(listed, usize::from(expected.is_some()), "{change} {during:?}");
            let plain = format!("session:{}", id());
            assert!(!storage.storage().contains(plain).await.unwrap(), "{change} {during:?}");
        }
    }
}

#[tokio::test]
async fn a_deletion_that_is_overtaken_by_a_move_is_final() {
    for deletion in [During::LogOut, During::Revoke] {
        let storage = stored().await;
        deletion.run(&layer(&storage, migrating)).await;
        let all = changes(&storage);
        assert!(all > 1, "{deletion:?}");
        for change in 1..=all {
            let storage = stored().await;
            let layer = layer(&storage, migrating);
            let request = layer.clone();
            let request = async move { deletion.run(&request).await };
            let moves = async { assert_eq!(count(&layer).await.is_some(), change == 1) };
            storage.before(change, request, moves).await;
            assert_eq!(visits(&layer).await, None, "{change} {deletion:?}");
            assert!(layer.sessions_of(OPEN_ID).await.unwrap().is_empty(), "{change} {deletion:?}");
        }
    }
}

#[tokio::test]
async fn an_interrupted_login_leaves_nothing_that_keeps_a_session_alive() {
    let wechat = Wechat::start().await;
    for change in 1..=2 {
        let storage = Probe::new();
        let layer = layer(&storage, |builder| builder.owners(true).base_url(&wechat.url));
        let log_in = |layer: WechatLayer| async move {
            let service =
                layer.layer(service_fn(|_: Request<()>| async { Ok::<_, Infallible>(Response::new(())) }));
            let code = format!("ok-{}", fastrand::u64(..));
            let request = Request::get("/api/login").header("X-WX-Code", code);
            let request = request.header("X-WX-Encrypted-Data", DATA).header("X-WX-IV", IV).body(()).unwrap();
            service.oneshot(request).await.unwrap()
        };
        interrupt(&storage, change, log_in(layer.clone())).await;
        assert_eq!(storage.entries(), change - 1, "the index is written first");
        all_expires(storage.storage()).await;
        assert!(layer.sessions_of(OPEN_ID).await.unwrap().is_empty());
        assert_eq!(layer.delete_by_owner(OPEN_ID).await.unwrap(), 0);

        log_in(layer.clone()).await;
        assert_eq!(layer.sessions_of(OPEN_ID).await.unwrap().len(), 1);
        assert_eq!(layer.delete_by_owner(OPEN_ID).await.unwrap(), 1);
    }
}

#[tokio::test]
async fn the_options_cost_as_much_as_documented() {
    let storage = Probe::new();
    let service = Service::start(storage.clone()).await;
    let hashed = Service::with(storage.clone(), |builder| builder.hashed_ids(true)).await;
    for service in [&service, &hashed] {
        let mut client = service.client();
        client.login().await.unwrap();
        assert_eq!(storage.calls(), [Write]);
        client.get("/fields").await.unwrap();
        assert_eq!(storage.calls(), [Read]);
        client.post("/set/cart", json!(1)).await.unwrap();
        assert_eq!(storage.calls(), [Read, Write]);
        client.post("/logout", Value::Null).await.unwrap();
        assert_eq!(storage.calls(), [Read, Delete]);
    }

    let index = Service::with(storage.clone(), |builder| builder.owners(true)).await;
    let mut client = index.client();
    client.login().await.unwrap();
    assert_eq!(storage.calls(), [Read, Write, Write]);
    client.get("/fields").await.unwrap();
    assert_eq!(storage.calls(), [Read]);
    // A session that does not live longer is never noted again.
    let shorter = Duration::from_secs(3_000);
    let shorter = Service::with(storage.clone(), |builder| builder.owners(true).max_age(shorter)).await;
    client = shorter.same(&client);
    client.post("/set/cart", json!(1)).await.unwrap();
    assert_eq!(storage.calls(), [Read, Write]);
    client.post("/logout", Value::Null).await.unwrap();
    assert_eq!(storage.calls(), [Read, Read, Delete, Read, Delete]);

    // Of sessions without an owner.
    let mut client = service.client();
    let service = Service::with(storage.clone(), WechatBuilder::migrating_plain_ids).await;
    client.login().await.unwrap();
    client = service.same(&client);
    let _ = storage.calls();
    client.get("/fields").await.unwrap();
    assert_eq!(storage.calls(), [Read, Read]);
    client.post("/set/cart", json!(1)).await.unwrap();
    assert_eq!(storage.calls(), [Read, Read, Write, Read, Write, Delete]);
    client.post("/set/cart", json!(2)).await.unwrap();
    assert_eq!(storage.calls(), [Read, Write]);
    client.post("/logout", Value::Null).await.unwrap();
    assert_eq!(storage.calls(), [Read, Read, Delete]);
    client.get("/fields").await.unwrap();
    assert_eq!(storage.calls(), [Read, Read, Read, Write, Read]);

    let service = Service::with(storage.clone(), |builder| builder.protocol(Protocol::Wafer2)).await;
    let hashed =
        Service::with(storage.clone(), |builder| builder.protocol(Protocol::Wafer2).hashed_ids(true)).await;
    for service in [&service, &hashed] {
        let mut client = service.client();
        client.login2(true).await.unwrap();
        assert_eq!(storage.calls(), [Read, Write, Write]);
    }
    let hour = Duration::from_secs(3600);
    let service = Service::with(storage.clone(), |builder| builder.cover_time(hour)).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let _ = storage.calls();
    client.get("/fields").await.unwrap();
    assert_eq!(storage.calls(), [Read, Touch]);
}

//! A service inside the layer.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use larder_core::{Key, Store};
use larder_wechat::{Session, WechatBuilder, WechatLayer};
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

use super::{APP_ID, APP_SECRET, client::MiniProgram, serve, wechat::Wechat};

/// State that the handlers share with the test.
pub(crate) struct Probe {
    /// The number of handler runs.
    pub(crate) handled: AtomicUsize,
    /// One permit for each request that has reached `/hold`.
    pub(crate) held: Semaphore,
    /// One permit for each held request that may continue.
    pub(crate) go: Semaphore,
}

/// The service, the stand-in for WeChat's server, and the storage.
pub(crate) struct Service {
    pub(crate) url: String,
    pub(crate) wechat: Wechat,
    pub(crate) storage: Store,
    pub(crate) layer: WechatLayer,
    pub(crate) probe: Arc<Probe>,
}

impl Service {
    pub(crate) async fn start(storage: impl Into<Store>) -> Self {
        Self::with(storage, |builder| builder).await
    }

    pub(crate) async fn with(
        storage: impl Into<Store>,
        options: impl FnOnce(WechatBuilder) -> WechatBuilder,
    ) -> Self {
        Self::of(APP_ID, storage, options).await
    }

    /// Starts the service of the mini-program `app_id`.
    pub(crate) async fn of(
        app_id: &str,
        storage: impl Into<Store>,
        options: impl FnOnce(WechatBuilder) -> WechatBuilder,
    ) -> Self {
        let storage = storage.into();
        let wechat = Wechat::start().await;
        let builder = WechatLayer::builder(app_id, APP_SECRET).storage(&storage).base_url(&wechat.url);
        let layer = options(builder).build().unwrap();
        let probe =
            Arc::new(Probe { handled: AtomicUsize::new(0), held: Semaphore::new(0), go: Semaphore::new(0) });
        let url = serve(router(Arc::clone(&probe)).layer(layer.clone())).await;
        Self { url, wechat, storage, layer, probe }
    }

    pub(crate) fn client(&self) -> MiniProgram {
        MiniProgram::new(&self.url)
    }

    /// Returns another client with the session of `client`.
    pub(crate) fn same(&self, client: &MiniProgram) -> MiniProgram {
        let mut other = self.client();
        other.session.clone_from(&client.session);
        other
    }

    pub(crate) fn handled(&self) -> usize {
        self.probe.handled.load(Ordering::SeqCst)
    }

    pub(crate) async fn stored(&self, id: &str) -> Option<Value> {
        let record = self.storage.read(key(id)).await.unwrap();
        record.map(|record| serde_json::from_slice(&record.value).unwrap())
    }
}

pub(crate) fn key(id: &str) -> Key {
    Key::new(format!("session:{id}")).unwrap()
}

type Maybe = Option<Extension<Session>>;
type Shared = State<Arc<Probe>>;

fn router(probe: Arc<Probe>) -> Router {
    let count = Arc::clone(&probe);
    Router::new()
        .route("/open", get(|session: Maybe| async move { Json(json!({ "session": session.is_some() })) }))
        .route("/me", get(me))
        .route("/fields", get(fields))
        .route("/handle", get(|Extension(session): Extension<Session>| async move { Json(session.handle()) }))
        .route("/set/{field}", post(set))
        .route("/count/{field}", post(add))
        .route("/remove/{field}", post(remove))
        .route("/hold/{field}", post(hold))
        .route("/fail/{field}", post(fail))
        .route("/logout", post(logout))
        // Called only with `login_next`.
        .route("/api/login", get(next))
        .layer(axum::middleware::from_fn(move |request, next: axum::middleware::Next| {
            count.handled.fetch_add(1, Ordering::SeqCst);
            async move { next.run(request).await }
        }))
        .with_state(probe)
}

async fn me(session: Maybe) -> Response {
    let Some(Extension(session)) = session else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let user: Value = session.user_info().unwrap().unwrap();
    let remaining = session.remaining().await.unwrap().unwrap().as_millis() as u64;
    Json(json!({ "nickName": user["nickName"], "openId": session.open_id(), "remaining": remaining }))
        .into_response()
}

/// Returns all fields except those of the protocol.
async fn fields(Extension(session): Extension<Session>) -> Json<Map<String, Value>> {
    let names = session.fields().into_iter();
    let own = names.filter(|name| !["id", "skey", "sessionKey", "userInfo"].contains(&name.as_str()));
    Json(own.map(|name| (name.clone(), session.get(&name).unwrap().unwrap())).collect())
}

async fn set(
    Extension(session): Extension<Session>,
    Path(field): Path<String>,
    Json(value): Json<Value>,
) -> Response {
    match session.set(&field, &value) {
        Ok(()) => "set".into_response(),
        Err(error) => (StatusCode::FORBIDDEN, error.to_string()).into_response(),
    }
}

async fn add(Extension(session): Extension<Session>, Path(field): Path<String>) -> Json<Value> {
    let count = session.update(&field, |count: Option<u64>| Some(count.unwrap_or(0) + 1)).unwrap();
    Json(json!({ "count": count }))
}

async fn remove(Extension(session): Extension<Session>, Path(field): Path<String>) -> &'static str {
    session.remove(&field).unwrap();
    "removed"
}

async fn hold(
    State(probe): Shared,
    Extension(session): Extension<Session>,
    Path(field): Path<String>,
) -> &'static str {
    session.set(&field, &true).unwrap();
    session.update("held", |count: Option<u64>| Some(count.unwrap_or(0) + 1)).unwrap();
    probe.held.add_permits(1);
    probe.go.acquire().await.unwrap().forget();
    "held"
}

async fn fail(Extension(session): Extension<Session>, Path(field): Path<String>) -> StatusCode {
    session.set(&field, &true).unwrap();
    StatusCode::IM_A_TEAPOT
}

async fn logout(
    State(probe): Shared,
    Extension(session): Extension<Session>,
    axum::extract::RawQuery(query): axum::extract::RawQuery,
) -> &'static str {
    session.destroy();
    if query.as_deref() == Some("hold") {
        probe.held.add_permits(1);
        probe.go.acquire().await.unwrap().forget();
    }
    assert!(session.set("after", &1).is_err());
    "bye"
}

async fn next(
    session: Maybe,
    axum::extract::RawQuery(query): axum::extract::RawQuery,
) -> (StatusCode, &'static str) {
    let Some(Extension(session)) = session else {
        return (StatusCode::INTERNAL_SERVER_ERROR, "the session is missing");
    };
    assert!(session.is_new());
    session.set("greeted", &true).unwrap();
    match query.as_deref() {
        Some("deny") => (StatusCode::FORBIDDEN, "not you"),
        Some("destroy") => {
            session.destroy();
            (StatusCode::OK, "")
        }
        _ => (StatusCode::OK, "this body is not sent"),
    }
}

//! `Session` as an axum extractor, and its methods in a handler.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, http::StatusCode, routing::get};
use larder_core::ErrorKind;
use larder_memory::MemoryStorage;
use larder_wechat::{Session, WechatLayer};
use reqwest::Method;
use serde_json::{Value, json};
use support::{
    APP_ID, APP_SECRET, DATA, IV, OPEN_ID, SESSION_KEY, client::MiniProgram, serve, wechat::Wechat,
};

async fn service(routes: Router) -> (MiniProgram, Wechat) {
    let wechat = Wechat::start().await;
    let layer = WechatLayer::builder(APP_ID, APP_SECRET)
        .storage(MemoryStorage::new())
        .base_url(&wechat.url)
        .build()
        .unwrap();
    (MiniProgram::new(&serve(routes.layer(layer)).await), wechat)
}

#[tokio::test]
async fn handlers_take_the_session_as_an_argument() {
    async fn needed(session: Session) -> String {
        session.open_id().unwrap()
    }
    async fn optional(session: Option<Session>) -> Json<bool> {
        Json(session.is_some())
    }
    let routes = Router::new().route("/needed", get(needed)).route("/optional", get(optional));
    let (mut client, _wechat) = service(routes).await;
    assert_eq!(client.wx_request(Method::GET, "/needed", &[], None).await.status, 401);
    assert_eq!(client.wx_request(Method::GET, "/optional", &[], None).await.data, false);
    // No route handles the login path; the layer does.
    assert_eq!(client.get("/needed").await.unwrap().data, OPEN_ID);
    assert_eq!(client.get("/optional").await.unwrap().data, true);
    assert_eq!(client.get("/nowhere").await.unwrap().status, 404);
}

#[tokio::test]
async fn the_login_path_is_the_path_that_the_layer_sees() {
    async fn me(session: Session) -> String {
        session.open_id().unwrap()
    }
    let wechat = Wechat::start().await;
    let layer = |login_path: &str| {
        WechatLayer::builder(APP_ID, APP_SECRET)
            .storage(MemoryStorage::new())
            .base_url(&wechat.url)
            .login_path(login_path)
            .build()
            .unwrap()
    };
    let routes = || Router::new().route("/me", get(me));
    // The layers of a nested router see only requests that its routes handle.
    let with_login = || routes().route("/api/login", get(|| async { StatusCode::NOT_FOUND }));
    for (number, router) in [
        Router::new().nest("/shop", with_login().layer(layer("/api/login"))),
        Router::new().nest("/shop", routes()).layer(layer("/shop/api/login")),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = MiniProgram::new(&format!("{}/shop", serve(router).await));
        assert_eq!(client.get("/me").await.unwrap().data, OPEN_ID, "{number}");
    }
}

#[tokio::test]
async fn a_handler_can_decrypt_with_the_sessions_key() {
    async fn decrypt(session: Session) -> Json<Value> {
        assert_eq!(session.session_key().as_deref(), Some(SESSION_KEY));
        assert!(!format!("{session:?}").contains(session.id()));
        let error = session.decrypt::<Value>(&DATA[..64], IV).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidValue);
        assert_eq!(session.get::<u64>("userInfo").unwrap_err().kind(), ErrorKind::Codec);
        Json(session.decrypt(DATA, IV).unwrap())
    }
    let (mut client, _wechat) = service(Router::new().route("/decrypt", get(decrypt))).await;
    assert_eq!(client.get("/decrypt").await.unwrap().data["nickName"], "Band");
}

#[tokio::test]
async fn changes_after_the_response_are_errors() {
    let kept: Arc<std::sync::Mutex<Option<Session>>> = Arc::default();
    let keep = Arc::clone(&kept);
    let routes = Router::new().route(
        "/keep",
        get(|session: Session| async move {
            *keep.lock().unwrap() = Some(session);
        }),
    );
    let (mut client, _wechat) = service(routes).await;
    client.get("/keep").await.unwrap();
    let session = kept.lock().unwrap().take().unwrap();
    assert_eq!(session.set("late", &1).unwrap_err().kind(), ErrorKind::Closed);
    session.destroy();
    let left = session.remaining().await.unwrap().unwrap();
    assert!(left > Duration::from_secs(3500));
    client.get("/keep").await.unwrap();
    assert_eq!((client.logins, json!(session.is_new())), (1, json!(false)));
}

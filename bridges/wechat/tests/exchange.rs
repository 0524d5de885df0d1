//! Every way in which a login can fail, and WeChat's server can.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use larder_core::{ErrorKind, Storage};
use larder_memory::MemoryStorage;
use larder_wechat::{WechatBuilder, WechatLayer};
use reqwest::Method;
use support::{APP_ID, APP_SECRET, DATA, IV, MAGIC, OTHER_APP_ID, service::Service, wechat::Wechat};

fn memory() -> Arc<dyn Storage> {
    Arc::new(MemoryStorage::new())
}

/// The status, error and message of a login, and that nothing was stored.
async fn login(service: &Service, code: &str, data: &str, iv: &str) -> (u16, String) {
    let client = service.client();
    let names = [("X-WX-Code", code), ("X-WX-Encrypted-Data", data), ("X-WX-IV", iv)];
    let answer = client.wx_request(Method::GET, "/api/login", &names, None).await;
    assert_eq!(answer.data[MAGIC], 1, "{code}: {}", answer.data);
    assert_eq!(answer.data["error"], "ERR_LOGIN_FAILED", "{code}");
    assert!(answer.data.get("session").is_none(), "{code}");
    assert_eq!(service.storage.clear("").await.unwrap(), 0, "{code}");
    (answer.status, answer.data["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn each_failure_is_shown() {
    let service = Service::start(memory()).await;
    let damaged = DATA.replacen('C', "D", 1);
    for (code, data, iv, status, message) in [
        ("", DATA, IV, 200, "the header X-WX-Code is missing"),
        ("ok-1", "", IV, 200, "the header X-WX-Encrypted-Data is missing"),
        ("ok-2", DATA, "", 200, "the header X-WX-IV is missing"),
        ("invalid", DATA, IV, 200, "the login code is not valid (errcode 40029)"),
        ("limited", DATA, IV, 200, "there were too many logins, try again later (errcode 45011)"),
        ("otherkey-1", DATA, IV, 200, "the user data cannot be decrypted"),
        ("ok-3", &damaged, IV, 200, "the user data cannot be decrypted"),
        ("ok-4", &DATA[..64], IV, 200, "the user data cannot be decrypted"),
        ("ok-5", "%%%", IV, 200, "the user data cannot be decrypted"),
        ("ok-6", DATA, "AAAA", 200, "the user data cannot be decrypted"),
        ("garbage", DATA, IV, 502, "WeChat's server gave an answer that cannot be understood"),
        ("empty", DATA, IV, 502, "WeChat's server gave an answer that cannot be understood"),
        ("large", DATA, IV, 502, "WeChat's server gave an answer that cannot be understood"),
        ("broken", DATA, IV, 502, "WeChat's server gave an answer that cannot be understood"),
        // It would lead to a good answer, and carry the secret there.
        ("redirect", DATA, IV, 502, "WeChat's server gave an answer that cannot be understood"),
    ] {
        assert_eq!(login(&service, code, data, iv).await, (status, message.to_owned()), "{code}");
    }
    let long = "c".repeat(513);
    assert_eq!(login(&service, &long, DATA, IV).await, (200, "the login code is malformed".to_owned()));
    assert_eq!(service.handled(), 0);
}

#[tokio::test]
async fn a_code_is_good_for_one_login() {
    let service = Service::start(memory()).await;
    let mut client = service.client();
    client.code = Box::new(|| "ok-once".to_owned());
    client.login().await.unwrap();
    client.session = None;
    let failed = client.login().await.unwrap_err();
    assert_eq!(failed.message, "ERR_LOGIN_FAILED: the login code has been used (errcode 40163)");
}

#[tokio::test]
async fn another_mini_programs_data_are_refused() {
    let wechat = Wechat::start().await;
    let layer = |app_id: &str| WechatLayer::builder(app_id, APP_SECRET).base_url(&wechat.url);
    // The exchange is good, but the data have the watermark of the sample's app.
    let answer = through(layer(OTHER_APP_ID), "ok-1").await;
    assert!(answer.contains("the user data are not this mini-program's"), "{answer}");
    assert!(answer.contains(MAGIC) && answer.contains("ERR_LOGIN_FAILED"), "{answer}");
    let answer = through(layer("wx1"), "ok-2").await;
    assert!(answer.contains("40013"), "{answer}");
    assert!(through(layer(APP_ID), "ok-3").await.contains("session"));
}

/// The message of a login through a layer with no service in it, and with no HTTP.
async fn through(builder: WechatBuilder, code: &str) -> String {
    use tower::{ServiceExt, service_fn};
    use tower_layer::Layer;
    let layer = builder.storage(memory()).build().unwrap();
    let service = layer.layer(service_fn(|_request: http::Request<()>| async {
        Ok::<_, std::convert::Infallible>(http::Response::new(axum::body::Body::empty()))
    }));
    let request = http::Request::get("/api/login")
        .header("X-WX-Code", code)
        .header("X-WX-Encrypted-Data", DATA)
        .header("X-WX-IV", IV)
        .body(())
        .unwrap();
    let body = service.oneshot(request).await.unwrap().into_body();
    String::from_utf8(axum::body::to_bytes(axum::body::Body::new(body), 4096).await.unwrap().into()).unwrap()
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let service = Service::start(memory()).await;
    let mut client = service.client();
    client.code = Box::new(|| "busy-2".to_owned());
    client.login().await.unwrap();
    assert_eq!(service.wechat.queries().len(), 3);

    let (status, message) = login_after(&service, "busy-3").await;
    assert_eq!((status, message.as_str()), (502, "WeChat's server is busy, try again later (errcode -1)"));
    assert_eq!(service.wechat.queries().len(), 6);
}

async fn login_after(service: &Service, code: &str) -> (u16, String) {
    service.storage.clear("").await.unwrap();
    login(service, code, DATA, IV).await
}

#[tokio::test]
async fn nothing_else_is_asked_again() {
    let service = Service::start(memory()).await;
    for code in ["invalid", "limited", "garbage", "broken"] {
        login(&service, code, DATA, IV).await;
    }
    assert_eq!(service.wechat.queries().len(), 4);
}

#[tokio::test]
async fn a_server_that_hangs_costs_the_time_out_and_no_more() {
    let timeout = Duration::from_millis(250);
    let service = Service::with(memory(), |builder| builder.timeout(timeout)).await;
    let start = Instant::now();
    let (status, message) = login(&service, "hangs", DATA, IV).await;
    assert_eq!((status, message.as_str()), (504, "WeChat's server did not answer in time"));
    assert!(start.elapsed() >= timeout && start.elapsed() < Duration::from_secs(20));
    assert_eq!(service.wechat.queries().len(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_said_so() {
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://{closed}");
    let service = Service::with(memory(), |builder| builder.base_url(url)).await;
    let (status, message) = login(&service, "ok-1", DATA, IV).await;
    assert_eq!((status, message.as_str()), (502, "WeChat's server cannot be reached"));
}

#[tokio::test]
async fn the_stand_in_may_have_a_path_and_the_request_is_what_wechat_asks_for() {
    let service = Service::start(memory()).await;
    let mut client = service.client();
    client.code = Box::new(|| "ok-x&secret=evil#f\u{20}+".to_owned());
    client.login().await.unwrap();
    let expected = format!(
        "appid={APP_ID}&secret={APP_SECRET}&js_code=ok-x%26secret%3Devil%23f+%2B&grant_type=authorization_code"
    );
    assert_eq!(service.wechat.queries(), [expected]);
}

#[tokio::test]
async fn injected_headers_go_nowhere() {
    let service = Service::start(memory()).await;
    let mut client = service.client();
    client.by_query = true;
    client.code = Box::new(|| "ok-1\r\nHost: evil\r\n\r\nGET /".to_owned());
    let failed = client.login().await.unwrap_err();
    assert_eq!(failed.message, "ERR_LOGIN_FAILED: the login code is malformed");
    assert!(service.wechat.queries().is_empty());

    client.code = Box::new(|| "ok-2".to_owned());
    client.iv = "\r\nSet-Cookie: a=b".to_owned();
    let failed = client.login().await.unwrap_err();
    assert_eq!(failed.message, "ERR_LOGIN_FAILED: the user data cannot be decrypted");
}

#[test]
fn wrong_options_are_errors_at_the_start() {
    fn kind(builder: WechatBuilder) -> ErrorKind {
        let error = builder.build().map(drop).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hush"));
        error.kind()
    }
    let good = || WechatLayer::builder(APP_ID, "hush");
    good().build().unwrap();
    let configuration = [
        WechatLayer::builder("", "hush"),
        WechatLayer::builder(APP_ID, ""),
        WechatLayer::builder(APP_ID, "hush\n"),
        WechatLayer::builder("wx 1", "hush"),
        good().grant_type(""),
        good().login_path("login"),
        good().login_path("/login?a=b"),
        good().login_path(""),
        good().max_age(Duration::ZERO),
        good().max_age(Duration::from_secs(10)).cover_time(Duration::from_secs(11)),
        good().timeout(Duration::ZERO),
        good().attempts(0),
        good().key_prefix("x".repeat(449)),
        good().key_prefix("line\n"),
        good().base_url("api.weixin.qq.com"),
    ];
    for builder in configuration {
        assert_eq!(kind(builder), ErrorKind::Configuration);
    }
    assert_eq!(kind(good().storage(support::faults::Poor)), ErrorKind::Unsupported);
}

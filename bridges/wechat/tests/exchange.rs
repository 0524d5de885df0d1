//! Requests to WeChat's server, and invalid options.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::time::Duration;

use larder_core::{ErrorKind, Store};
use larder_memory::MemoryStorage;
use larder_wechat::{WechatBuilder, WechatLayer};
use support::{APP_ID, APP_SECRET, DATA, IV, service::Service};

fn memory() -> Store {
    Store::new(MemoryStorage::new())
}

#[tokio::test]
async fn only_a_busy_server_is_asked_again() {
    let service = Service::start(memory()).await;
    for code in ["invalid", "limited", "garbage", "broken"] {
        service.refuses(code, DATA, IV).await;
    }
    assert_eq!(service.wechat.queries().len(), 4);
}

#[tokio::test]
async fn the_request_has_exactly_wechats_parameters() {
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
async fn line_breaks_in_parameters_inject_nothing() {
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
fn invalid_options_are_rejected_by_build() {
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
        good().device(|_| None),
        good().max_per_owner(2),
        good().owners(true).max_per_owner(0),
        good().base_url("api.weixin.qq.com"),
    ];
    for builder in configuration {
        assert_eq!(kind(builder), ErrorKind::InvalidConfig);
    }
    assert_eq!(kind(good().storage(larder_bridge_tests::Poor::default())), ErrorKind::Unsupported);
}

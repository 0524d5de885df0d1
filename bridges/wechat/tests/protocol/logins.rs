//! Logins, and each way in which they fail.

use std::time::{Duration, Instant};

use larder_testkit::Context;
use larder_wechat::WechatBuilder;
use reqwest::Method;
use serde_json::json;

use crate::{
    Stores, start, storage,
    support::{APP_ID, DATA, IV, MAGIC, OTHER_APP_ID, SKEY, service::Service},
};

pub(crate) async fn each_failure_has_a_message(context: Context<Stores>) {
    let service = start(&context).await;
    let damaged = DATA.replacen('C', "D", 1);
    for (code, data, iv, status, message) in [
        ("", DATA, IV, 200, "the header X-WX-Code is missing"),
        ("ok-1", "", IV, 200, "the header X-WX-Encrypted-Data is missing"),
        ("ok-2", DATA, "", 200, "the header X-WX-IV is missing"),
        ("invalid", DATA, IV, 200, "the login code is not valid (errcode 40029)"),
        ("limited", DATA, IV, 200, "too many logins, try again later (errcode 45011)"),
        ("otherkey-1", DATA, IV, 200, "the user data cannot be decrypted"),
        ("ok-3", &damaged, IV, 200, "the user data cannot be decrypted"),
        ("ok-4", &DATA[..64], IV, 200, "the user data cannot be decrypted"),
        ("ok-5", "%%%", IV, 200, "the user data cannot be decrypted"),
        ("ok-6", DATA, "AAAA", 200, "the user data cannot be decrypted"),
        ("garbage", DATA, IV, 502, "WeChat's server returned an invalid answer"),
        ("empty", DATA, IV, 502, "WeChat's server returned an invalid answer"),
        ("large", DATA, IV, 502, "WeChat's server returned an invalid answer"),
        ("broken", DATA, IV, 502, "WeChat's server returned an invalid answer"),
        // The redirect's target would return a good answer, but must not get the secret.
        ("redirect", DATA, IV, 502, "WeChat's server returned an invalid answer"),
    ] {
        assert_eq!(service.refuses(code, data, iv).await, (status, message.to_owned()), "{code}");
    }
    let long = "A".repeat(100_000);
    for (code, data, iv, message) in [
        (&long[..513], DATA, IV, "the login code is malformed"),
        (&long, DATA, IV, "the login code is malformed"),
        ("ok-7", &long, IV, "the user data cannot be decrypted"),
        ("ok-8", DATA, &long, "the user data cannot be decrypted"),
    ] {
        assert_eq!(service.refuses(code, data, iv).await, (200, message.to_owned()));
    }
    assert_eq!(service.handled(), 0);
}

pub(crate) async fn a_code_is_good_for_one_login(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.code = Box::new(|| "ok-once".to_owned());
    client.login().await.unwrap();
    client.session = None;
    let failed = client.login().await.unwrap_err();
    assert_eq!(failed.message, "ERR_LOGIN_FAILED: the login code has been used (errcode 40163)");
}

pub(crate) async fn data_of_another_mini_program_are_refused(context: Context<Stores>) {
    let storage = storage(&context).await;
    let service = |app_id| Service::of(app_id, &storage, |builder| builder);
    // The exchange succeeds, but the data have the watermark of the sample's app.
    let (status, message) = service(OTHER_APP_ID).await.refuses("ok-1", DATA, IV).await;
    assert_eq!((status, message.as_str()), (200, "the user data do not belong to this mini-program"));
    let (status, message) = service("wx1").await.refuses("ok-2", DATA, IV).await;
    assert_eq!((status, message.as_str()), (200, "the app id is not valid (errcode 40013)"));
    service(APP_ID).await.client().login().await.unwrap();
}

pub(crate) async fn a_busy_server_is_asked_again(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.code = Box::new(|| "busy-2".to_owned());
    client.login().await.unwrap();
    assert_eq!(service.wechat.queries().len(), 3);
    assert_eq!(service.storage.clear("").await.unwrap(), 1);

    let (status, message) = service.refuses("busy-3", DATA, IV).await;
    assert_eq!((status, message.as_str()), (502, "WeChat's server is busy, try again later (errcode -1)"));
    assert_eq!(service.wechat.queries().len(), 6);
}

pub(crate) async fn a_hanging_server_fails_at_the_timeout(context: Context<Stores>) {
    let timeout = Duration::from_millis(250);
    let service = Service::with(storage(&context).await, |builder| builder.timeout(timeout)).await;
    let start = Instant::now();
    let (status, message) = service.refuses("hangs", DATA, IV).await;
    assert_eq!((status, message.as_str()), (504, "WeChat's server did not answer in time"));
    assert!(start.elapsed() >= timeout && start.elapsed() < Duration::from_secs(20));
    assert_eq!(service.wechat.queries().len(), 1);
}

pub(crate) async fn an_unreachable_server_is_reported(context: Context<Stores>) {
    // Nothing listens on port 1.
    let options = |builder: WechatBuilder| builder.base_url("http://127.0.0.1:1");
    let service = Service::with(storage(&context).await, options).await;
    let (status, message) = service.refuses("ok-1", DATA, IV).await;
    assert_eq!((status, message.as_str()), (502, "WeChat's server cannot be reached"));
}

/// A store of each kind that fails because it is closed.
pub(crate) async fn a_closed_store_rejects_all_requests(context: Context<Stores>) {
    const STORE: &str = "the session store failed, try again later";
    let service = start(&context).await;
    let mut client = service.client();
    client.login().await.unwrap();
    service.storage.close().await.unwrap();

    for path in ["/open", "/me", "/api/login"] {
        let names = client.names();
        let names: Vec<_> = names.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = client.wx_request(Method::GET, path, &names, None).await;
        assert_eq!((answer.status, &answer.data[MAGIC]), (503, &json!(1)), "{path}");
        assert_eq!(answer.data["error"], "ERR_CHECK_LOGIN_FAILED");
        assert_eq!(answer.data["message"], STORE, "the client does not learn the reason");
    }
    let failed = service.client().login().await.unwrap_err();
    assert_eq!(failed.message, format!("ERR_LOGIN_FAILED: {STORE}"));
    assert_eq!(service.handled(), 0);
}

pub(crate) async fn login_next_prepares_and_refuses(context: Context<Stores>) {
    let storage = storage(&context).await;
    let service = Service::with(storage, |builder| builder.login_next(true)).await;
    let mut client = service.client();
    let fields = client.get("/fields").await.unwrap().data;
    assert_eq!(fields, json!({ "greeted": true }));
    assert_eq!(service.stored(&client.id()).await.unwrap()["skey"], SKEY);

    let code = (client.code)();
    let (data, iv) = (client.data.clone(), client.iv.clone());
    for (query, status) in [("deny", 403), ("destroy", 200)] {
        let code = format!("{code}-{query}");
        let names = [("X-WX-Code", code.as_str()), ("X-WX-Encrypted-Data", &data), ("X-WX-IV", &iv)];
        let answer = client.wx_request(Method::GET, &format!("/api/login?{query}"), &names, None).await;
        assert_eq!((answer.status, &answer.data["error"]), (status, &json!("ERR_LOGIN_FAILED")), "{query}");
        assert_eq!(answer.data[MAGIC], 1);
    }
    // No route handles this login path.
    let storage = &service.storage;
    let options = |builder: WechatBuilder| builder.login_next(true).login_path("/nowhere");
    let elsewhere = Service::with(storage, options).await;
    let names = [("X-WX-Code", "ok-1"), ("X-WX-Encrypted-Data", data.as_str()), ("X-WX-IV", iv.as_str())];
    let answer = elsewhere.client().wx_request(Method::GET, "/nowhere", &names, None).await;
    assert_eq!((answer.status, &answer.data["error"]), (404, &json!("ERR_LOGIN_FAILED")));
    let mut keys = service.storage.keys("session:");
    let mut count = 0;
    while let Some(key) = futures_util::StreamExt::next(&mut keys).await {
        key.unwrap();
        count += 1;
    }
    assert_eq!(count, 1, "a refused login stores nothing");
}

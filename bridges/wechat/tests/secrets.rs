//! No log and no `Debug` contains an skey, a session key, the app secret, or an id.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use larder_bridge_tests::{Log, Probe};
use larder_wechat::{Protocol, WechatBuilder, WechatLayer};
use serde_json::json;
use support::{
    APP_ID, DATA, IV, OPEN_ID, SESSION_KEY, SKEY,
    service::{Service, key},
};

/// The SHA-1 of the session key.
const SKEY_2: &str = "7b69dc787384c988eb0e4ca9920295396aeb9e8a";
/// Codes whose login fails, each for a different reason.
const BAD_CODES: [&str; 7] = ["invalid", "garbage", "otherkey-1", "broken", "redirect", "large", "busy-9"];

type Options = fn(WechatBuilder) -> WechatBuilder;
/// Returns the name of a session in the store.
type Name = fn(&str) -> String;

/// Causes every log message of version 1; returns the ids of the sessions.
async fn version_1(options: Options, name: Name) -> Vec<String> {
    let storage = Probe::new();
    let service = Service::with(storage.clone(), options).await;
    let mut client = service.client();
    client.post("/set/cart", json!(1)).await.unwrap();
    let session = client.session.clone();
    let mut ids = vec![client.id()];
    for code in BAD_CODES {
        let mut other = service.client();
        other.code = Box::new(move || code.to_owned());
        other.login().await.unwrap_err();
    }
    client.session = Some(json!({ "id": ids[0], "skey": "0".repeat(40) }));
    client.get("/me").await.unwrap();
    ids.push(client.id());
    storage.storage().write(key(&name(&ids[0])), "{\"secret\":1}").await.unwrap();
    client.session.clone_from(&session);
    client.get("/me").await.map(drop).unwrap_err();
    for break_it in [Probe::set_read_only, Probe::set_down] {
        break_it(&storage, true);
        client.session = None;
        client.login().await.unwrap_err();
        client.session.clone_from(&session);
        client.get("/me").await.map(drop).unwrap_err();
    }
    ids
}

/// The same for version 2, where the skey is the id.
async fn version_2(options: Options, name: Name) {
    let storage = Probe::new();
    let service = Service::with(storage.clone(), |builder| options(builder).protocol(Protocol::Wafer2)).await;
    let mut client = service.client();
    client.login2(true).await.unwrap();
    let session = client.session.clone();
    assert_eq!(session.as_ref().unwrap()["skey"], SKEY_2);
    client.request2("/me").await.unwrap();
    for code in BAD_CODES {
        let mut other = service.client();
        other.code = Box::new(move || code.to_owned());
        other.login2(true).await.unwrap_err();
    }
    for name in [&name(SKEY_2), &format!("user:{OPEN_ID}")] {
        let before = storage.storage().read(key(name)).await.unwrap().unwrap().value;
        storage.storage().write(key(name), "{\"secret\":1}").await.unwrap();
        client.login2(true).await.unwrap_err();
        client.request2("/me").await.unwrap();
        storage.storage().write(key(name), before).await.unwrap();
    }
    for break_it in [Probe::set_read_only, Probe::set_down] {
        break_it(&storage, true);
        client.login2(true).await.unwrap_err();
        client.session.clone_from(&session);
        client.request2("/me").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_not_logged() {
    let log = Log::capture();

    // The default storage logs a warning.
    let layer = WechatLayer::builder(APP_ID, "secret").build().unwrap();
    let printed = format!("{layer:?} {:?}", WechatLayer::builder(APP_ID, "hush-hush"));
    assert!(printed.contains(APP_ID) && !printed.contains("hush"));
    assert!(log.line_with("memory").is_some());

    let mut ids = Vec::new();
    let modes: [(Options, Name); 2] = [
        (|builder| builder.owners(true), str::to_owned),
        (
            |builder| builder.owners(true).hashed_ids(true),
            |id| format!("#{}", larder_web_sessions::handle(id)),
        ),
    ];
    for (options, name) in modes {
        ids.extend(version_1(options, name).await);
        version_2(options, name).await;
    }

    for said in ["larder_wechat", "a session could not be read or saved", "a login was refused"] {
        assert!(log.line_with(said).is_some(), "{said}");
    }
    for secret in [SKEY, SKEY_2, SESSION_KEY, "secret", &DATA[..40], IV, "ok-1"]
        .into_iter()
        .chain(ids.iter().map(String::as_str))
    {
        assert_eq!(log.line_with(secret), None, "{secret} was logged");
    }
}

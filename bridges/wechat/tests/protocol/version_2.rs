//! Version 2 of the protocol.

use std::time::Duration;

use larder_testkit::Context;
use larder_wechat::Protocol;
use reqwest::Method;
use serde_json::json;

use crate::{
    HOUR, Stores, left, storage,
    support::{
        self, MAGIC, OPEN_ID, SESSION_KEY,
        claims::malformed_skeys,
        service::{Service, key},
    },
};

pub(crate) async fn version_2(context: Context<Stores>) {
    let storage = storage(&context).await;
    let service = Service::with(storage, |builder| builder.protocol(Protocol::Wafer2)).await;
    let mut client = service.client();

    // No user is remembered yet.
    let failed = client.login2(false).await.unwrap_err();
    assert_eq!(failed.kind, "ERR_HEADER_MISSED");
    assert_eq!(client.login2(true).await.unwrap()["nickName"], "Band");
    let session = client.session.clone().unwrap();
    // The SHA-1 of the session key.
    assert_eq!(session["skey"], "7b69dc787384c988eb0e4ca9920295396aeb9e8a");
    assert!(session["time"].as_u64().unwrap() > 1_477_314_187);
    let id = session["skey"].as_str().unwrap().to_owned();
    assert!(left(&service, &id).await > Duration::from_secs(2 * HOUR - 60));
    let stored = service.stored(&id).await.unwrap();
    assert_eq!((&stored["sessionKey"], stored.get("id")), (&json!(SESSION_KEY), None));

    assert_eq!(client.request2("/me").await.unwrap().data["openId"], OPEN_ID);
    assert_eq!(client.wx_request(Method::GET, "/me", &[], None).await.status, 401);
    let answer = client.wx_request(Method::GET, "/open", &[], None).await;
    assert_eq!(answer.data, json!({ "session": false }));

    // After an invalid session the client logs in with the code alone, and retries once.
    service.storage.delete(key(&id)).await.unwrap();
    let handled = service.handled();
    assert_eq!(client.request2("/me").await.unwrap().data["nickName"], "Band");
    assert_eq!((service.handled(), client.logins), (handled + 1, 3));
    for skey in ["0".repeat(40)].into_iter().chain(malformed_skeys(&id)) {
        let answer = client.wx_request(Method::GET, "/me", &[("X-WX-Skey", &skey)], None).await;
        assert_eq!((answer.status, &answer.data["code"]), (401, &json!(-1)));
        assert_eq!(answer.data["error"], "ERR_SKEY_INVALID");
        assert!(answer.data.get(MAGIC).is_none());
    }

    // The name of each failure.
    for (names, error) in [
        (vec![], "ERR_HEADER_MISSED"),
        (vec![("X-WX-Code", "ok-a"), ("X-WX-IV", support::IV)], "ERR_HEADER_MISSED"),
        (vec![("X-WX-Code", "invalid")], "ERR_GET_SESSION_KEY"),
        (vec![("X-WX-Code", "stranger-1")], "ERR_HEADER_MISSED"),
        (
            vec![
                ("X-WX-Code", "otherkey-1"),
                ("X-WX-IV", support::IV),
                ("X-WX-Encrypted-Data", support::DATA),
            ],
            "ERR_IN_DECRYPT_DATA",
        ),
    ] {
        let answer = client.wx_request(Method::GET, "/api/login", &names, None).await;
        assert_eq!((&answer.data["code"], &answer.data["error"]), (&json!(-1), &json!(error)), "{names:?}");
    }

    // Foreign data under the key of a session or a user are left unchanged.
    let foreign = json!({ "foreign": true });
    for name in [id.clone(), format!("user:{OPEN_ID}")] {
        service.storage.write(key(&name), foreign.to_string()).await.unwrap();
        let failed = client.login2(true).await.unwrap_err();
        assert_eq!(failed.kind, "ERR_LOGIN_FAILED");
        assert_eq!(service.stored(&name).await.unwrap(), foreign);
        service.storage.delete(key(&name)).await.unwrap();
    }
}

pub(crate) async fn version_2_keeps_fields(context: Context<Stores>) {
    let storage = storage(&context).await;
    let service = Service::with(storage, |builder| builder.protocol(Protocol::Wafer2).login_next(true)).await;
    let mut client = service.client();
    client.login2(true).await.unwrap();
    let skey = client.session.clone().unwrap()["skey"].as_str().unwrap().to_owned();
    client.wx_request(Method::POST, "/set/cart", &[("X-WX-Skey", &skey)], Some(&json!([1]))).await;
    client.login2(false).await.unwrap();
    assert_eq!(client.request2("/fields").await.unwrap().data, json!({ "cart": [1], "greeted": true }));
}

//! The stored form of a session, and sessions from other programs.

use larder_core::{Expiry, Key};
use larder_testkit::Context;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    Stores, start, storage,
    support::{
        APP_ID, MAGIC, OPEN_ID, SESSION_KEY, SKEY,
        service::{Service, key},
    },
};

pub(crate) async fn stored_sessions_match_mp_session_koa2(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.post("/set/cart", json!([1, 2])).await.unwrap();
    let id = client.id();
    let stored = service.stored(&id).await.unwrap();
    let mut names: Vec<_> = stored.as_object().unwrap().keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["cart", "id", "sessionKey", "skey", "userInfo"]);
    assert_eq!(stored["id"], id);
    assert_eq!(stored["skey"], SKEY);
    assert_eq!(stored["sessionKey"], SESSION_KEY);
    assert_eq!(stored["userInfo"]["unionId"], "ocMvos6NjeKLIBqg5Mr9QjxrP1FA");
    assert_eq!(stored["userInfo"]["watermark"], json!({ "timestamp": 1_477_314_187, "appid": APP_ID }));
    assert_eq!(stored["cart"], json!([1, 2]));
}

pub(crate) async fn a_session_of_mp_session_koa2_remains_valid(context: Context<Stores>) {
    let service = start(&context).await;
    let id = "0123456789abcdef".repeat(4);
    // The text that `JSON.stringify` writes.
    let stored = json!({
        "id": id, "skey": SKEY, "sessionKey": SESSION_KEY,
        "userInfo": { "openId": OPEN_ID, "nickName": "Band", "userId": "testId12345" },
        "score": 0.123_456_789_012_345_68, "big": 9007199254740991_u64,
    });
    service.storage.write(key(&id), stored.to_string()).expiry(Expiry::after_secs(500)).await.unwrap();
    let mut client = service.client();
    client.session = Some(json!({ "id": id, "skey": SKEY }));

    assert_eq!(client.get("/me").await.unwrap().data["openId"], OPEN_ID);
    client.post("/set/more", json!("of it")).await.unwrap();
    assert_eq!(client.logins, 0);
    let mut expected = stored;
    expected["more"] = json!("of it");
    assert_eq!(service.stored(&id).await.unwrap(), expected);
}

/// connect-redis uses another prefix, and the fields include express-session's cookie.
pub(crate) async fn a_session_of_wafer_node_session_remains_valid(context: Context<Stores>) {
    let storage = storage(&context).await;
    let service = Service::with(storage, |builder| builder.key_prefix("sess:")).await;
    let id = "0123456789abcdef".repeat(4);
    let stored = json!({
        "id": id, "skey": SKEY, "sessionKey": SESSION_KEY, "userInfo": { "nickName": "Band" },
        "cookie": { "originalMaxAge": 86_400_000, "expires": "2026-11-25T00:00:00.000Z", "path": "/" },
    });
    let key = Key::new(format!("sess:{id}")).unwrap();
    service.storage.write(&key, stored.to_string()).expiry(Expiry::after_secs(500)).await.unwrap();
    let mut client = service.client();
    client.session = Some(json!({ "id": id, "skey": SKEY }));
    assert_eq!(client.get("/me").await.unwrap().data["nickName"], "Band");
    client.post("/set/more", json!(1)).await.unwrap();
    assert_eq!(client.get("/fields").await.unwrap().data["cookie"], stored["cookie"]);
    assert_eq!(client.logins, 0);
}

pub(crate) async fn foreign_data_are_an_error_and_unchanged(context: Context<Stores>) {
    let service = start(&context).await;
    let client = service.client();
    let id = "ab".repeat(32);
    let names = [("X-WX-Id", id.as_str()), ("X-WX-Skey", SKEY)];
    for foreign in [
        // Values of express-session, koa-session2, grammY, another version of the protocol, and another
        // session.
        json!({ "cookie": { "originalMaxAge": 1, "path": "/" }, "user": 7 }),
        json!({ "id": id, "user": "somebody" }),
        json!({ "v": 2, "__d": { "id": id, "sessionKey": SESSION_KEY } }),
        json!({ "id": "cd".repeat(32), "skey": SKEY, "sessionKey": SESSION_KEY, "userInfo": {} }),
        json!([1, 2, 3]),
        json!("text"),
        Value::Null,
    ] {
        service.storage.write(key(&id), foreign.to_string()).await.unwrap();
        for path in ["/me", "/open", "/logout", "/set/x", "/api/login"] {
            let answer = client.wx_request(Method::POST, path, &names, Some(&json!(1))).await;
            assert_eq!((answer.status, &answer.data[MAGIC]), (500, &json!(1)), "{path}: {foreign}");
            assert_eq!(answer.data["error"], "ERR_CHECK_LOGIN_FAILED");
            assert!(answer.data.get("session").is_none());
        }
        assert_eq!(service.stored(&id).await.unwrap(), foreign);
        assert_eq!(service.storage.ttl(&key(&id)).await.unwrap(), Some(Expiry::Never));
    }
    assert_eq!(service.handled(), 0);

    // Foreign data replace a session while a request of it runs.
    let mut client = service.client();
    client.login().await.unwrap();
    let id = client.id();
    let mut other = service.same(&client);
    let held = tokio::spawn(async move { other.post("/hold/late", Value::Null).await.map(|it| it.status) });
    service.probe.held.acquire().await.unwrap().forget();
    let foreign = json!({ "foreign": true });
    service.storage.write(key(&id), foreign.to_string()).await.unwrap();
    service.probe.go.add_permits(1);
    assert_eq!(held.await.unwrap().unwrap_err().kind, "ERR_CHECK_LOGIN_FAILED");
    assert_eq!(service.stored(&id).await.unwrap(), foreign);
}

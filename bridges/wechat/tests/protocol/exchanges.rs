//! The five exchanges of the protocol, and the client's retries.

use larder_testkit::Context;
use reqwest::Method;
use serde_json::json;

use crate::{
    HOUR, Stores, start,
    support::{MAGIC, OPEN_ID, SKEY, service::key},
};

pub(crate) async fn the_five_exchanges(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();

    // 1. The login.
    client.login().await.unwrap();
    assert_eq!(client.session.as_ref().unwrap().as_object().unwrap().len(), 2);
    assert_eq!(client.id().len(), 64);
    assert_eq!(client.session.as_ref().unwrap()["skey"], SKEY);
    let names = client.names();
    let names: Vec<_> = names.iter().map(|(name, value)| (*name, value.as_str())).collect();

    // 2. A request.
    let answer = client.wx_request(Method::GET, "/me", &names, None).await;
    assert_eq!(answer.data["nickName"], "Band");
    assert_eq!(answer.data["openId"], OPEN_ID);
    let remaining = answer.data["remaining"].as_u64().unwrap();
    assert!((HOUR * 1000 - 60_000..=HOUR * 1000).contains(&remaining), "{remaining} ms are left");

    // 3. A login with a valid session.
    let answer = client.wx_request(Method::GET, "/api/login", &names, None).await;
    assert_eq!(answer.data["code"], 0);
    assert!(answer.data["message"].is_string() && answer.data.get(MAGIC).is_none());
    let claim = [("X-WX-Id", "0".repeat(64)), ("X-WX-Skey", SKEY.to_owned())];
    let claim: Vec<_> = claim.iter().map(|(name, value)| (*name, value.as_str())).collect();
    for path in ["/me", "/api/login"] {
        let answer = client.wx_request(Method::GET, path, &claim, None).await;
        assert_eq!((answer.status, &answer.data["error"]), (200, &json!("ERR_INVALID_SESSION")), "{path}");
        assert_eq!(answer.data[MAGIC], 1);
    }

    // 4. No session.
    let answer = client.wx_request(Method::GET, "/open", &[], None).await;
    assert_eq!(answer.data, json!({ "session": false }));
    assert_eq!(client.wx_request(Method::GET, "/me", &[], None).await.status, 401);

    // A login that fails with a reason.
    let answer = client.wx_request(Method::POST, "/api/login", &[("X-WX-Code", "ok")], None).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.data[MAGIC], 1);
    assert_eq!(answer.data["error"], "ERR_LOGIN_FAILED");
    assert_eq!(answer.data["message"], "the header X-WX-Encrypted-Data is missing");
}

pub(crate) async fn query_parameters_work_like_headers(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.by_query = true;
    assert_eq!(client.get("/me").await.unwrap().data["nickName"], "Band");
    assert_eq!(client.logins, 1);
}

pub(crate) async fn the_client_logs_in_again_once(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.get("/me").await.unwrap();
    let id = client.id();
    assert!(service.storage.delete(key(&id)).await.unwrap());
    let handled = service.handled();

    assert_eq!(client.get("/me").await.unwrap().data["nickName"], "Band");
    assert_ne!(client.id(), id);
    assert_eq!((client.logins, client.requests), (2, 3));
    assert_eq!(service.handled(), handled + 1, "the request with the old session was not served");
}

pub(crate) async fn the_client_stops_after_one_retry(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.spoils_sessions = true;
    let failed = client.get("/me").await.map(drop).unwrap_err();
    assert_eq!(failed.kind, "ERR_INVALID_SESSION");
    assert_eq!((client.logins, client.requests, service.handled()), (2, 2, 0));
}

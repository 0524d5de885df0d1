//! The protocol, as the real clients speak it, on each kind of store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test fails by panicking.

mod support;

use std::{sync::Arc, time::Duration};

use larder_bridge_tests::Stores;
use larder_core::{Expiry, Key, Storage};
use larder_testkit::{Context, Missing, Runner, Suite, until};
use larder_wechat::Protocol;
use reqwest::Method;
use serde_json::{Value, json};
use support::{
    APP_ID, MAGIC, OPEN_ID, SESSION_KEY, SKEY,
    client::MiniProgram,
    service::{Service, key},
};

const HOUR: u64 = 3600;

fn main() {
    Runner::new()
        .suite(suite("memory", || async { Ok(Stores::memory()) }))
        .suite(suite("redis", Stores::redis))
        .suite(suite("postgres", Stores::postgres))
        .suite(suite("postgres_jsonb", Stores::postgres_jsonb))
        .main()
}

fn suite<C>(name: &str, connect: impl Fn() -> C + Send + Sync + 'static) -> Suite<Stores>
where
    C: Future<Output = Result<Stores, Missing>> + Send + 'static,
{
    Suite::connect(name, connect)
        .without_laws()
        .case("the_five_exchanges", the_five_exchanges)
        .case("query_parameters_do_as_headers_do", query_parameters_do_as_headers_do)
        .case("the_client_logs_in_again_once", the_client_logs_in_again_once)
        .case("the_client_gives_up_after_one_retry", the_client_gives_up_after_one_retry)
        .case("what_is_stored_is_what_mp_session_koa2_stores", what_is_stored_is_what_mp_session_koa2_stores)
        .case("a_session_of_mp_session_koa2_goes_on", a_session_of_mp_session_koa2_goes_on)
        .case("a_session_of_wafer_node_session_goes_on", a_session_of_wafer_node_session_goes_on)
        .case("fields_are_saved_and_nothing_is_written_for_nothing", fields_are_saved)
        .case("concurrent_requests_lose_no_field", concurrent_requests_lose_no_field)
        .case("requests_that_overlap_are_merged", requests_that_overlap_are_merged)
        .case("a_destroyed_session_stays_destroyed", a_destroyed_session_stays_destroyed)
        .case("a_session_expires", a_session_expires)
        .case("cover_time_extends_what_runs_out", cover_time_extends_what_runs_out)
        .case("foreign_data_are_an_error_and_stay", foreign_data_are_an_error_and_stay)
        .case("bad_claims_never_reach_the_service", bad_claims_never_reach_the_service)
        .case("login_next_prepares_and_refuses", login_next_prepares_and_refuses)
        .case("version_2", version_2)
        .case("version_2_keeps_the_fields_of_a_key_that_comes_back", version_2_keeps_fields)
}

async fn storage(context: &Context<Stores>) -> Arc<dyn Storage> {
    Arc::clone(&*context.target.open().await)
}

async fn start(context: &Context<Stores>) -> Service {
    Service::start(storage(context).await).await
}

async fn left(service: &Service, id: &str) -> Duration {
    match service.storage.ttl(&key(id)).await.unwrap() {
        Some(Expiry::After(left)) => left,
        other => panic!("the session has no end: {other:?}"),
    }
}

async fn the_five_exchanges(context: Context<Stores>) {
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

    // A login that fails, and says why.
    let answer = client.wx_request(Method::POST, "/api/login", &[("X-WX-Code", "ok")], None).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.data[MAGIC], 1);
    assert_eq!(answer.data["error"], "ERR_LOGIN_FAILED");
    assert_eq!(answer.data["message"], "the header X-WX-Encrypted-Data is missing");
}

async fn query_parameters_do_as_headers_do(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.by_query = true;
    assert_eq!(client.get("/me").await.unwrap().data["nickName"], "Band");
    assert_eq!(client.logins, 1);
}

async fn the_client_logs_in_again_once(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.get("/me").await.unwrap();
    let id = client.id();
    assert!(service.storage.delete(&key(&id)).await.unwrap());
    let handled = service.handled();

    assert_eq!(client.get("/me").await.unwrap().data["nickName"], "Band");
    assert_ne!(client.id(), id);
    assert_eq!((client.logins, client.requests), (2, 3));
    assert_eq!(service.handled(), handled + 1, "the request with the old session was not served");
}

async fn the_client_gives_up_after_one_retry(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.spoils_sessions = true;
    let failed = client.get("/me").await.map(drop).unwrap_err();
    assert_eq!(failed.kind, "ERR_INVALID_SESSION");
    assert_eq!((client.logins, client.requests, service.handled()), (2, 2, 0));
}

async fn what_is_stored_is_what_mp_session_koa2_stores(context: Context<Stores>) {
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

async fn a_session_of_mp_session_koa2_goes_on(context: Context<Stores>) {
    let service = start(&context).await;
    let id = "0123456789abcdef".repeat(4);
    // As `JSON.stringify` writes it.
    let stored = json!({
        "id": id, "skey": SKEY, "sessionKey": SESSION_KEY,
        "userInfo": { "openId": OPEN_ID, "nickName": "Band", "userId": "testId12345" },
        "score": 0.123_456_789_012_345_68, "big": 9007199254740991_u64,
    });
    service.storage.write(&key(&id), stored.to_string().into(), Expiry::after_secs(500)).await.unwrap();
    let mut client = service.client();
    client.session = Some(json!({ "id": id, "skey": SKEY }));

    assert_eq!(client.get("/me").await.unwrap().data["openId"], OPEN_ID);
    client.post("/set/more", json!("of it")).await.unwrap();
    assert_eq!(client.logins, 0);
    let mut expected = stored;
    expected["more"] = json!("of it");
    assert_eq!(service.stored(&id).await.unwrap(), expected);
}

/// connect-redis keeps it under another prefix, and express-session's cookie is among its fields.
async fn a_session_of_wafer_node_session_goes_on(context: Context<Stores>) {
    let storage = storage(&context).await;
    let service = Service::with(storage, |builder| builder.key_prefix("sess:")).await;
    let id = "0123456789abcdef".repeat(4);
    let stored = json!({
        "id": id, "skey": SKEY, "sessionKey": SESSION_KEY, "userInfo": { "nickName": "Band" },
        "cookie": { "originalMaxAge": 86_400_000, "expires": "2026-11-25T00:00:00.000Z", "path": "/" },
    });
    let key = Key::new(format!("sess:{id}")).unwrap();
    service.storage.write(&key, stored.to_string().into(), Expiry::after_secs(500)).await.unwrap();
    let mut client = service.client();
    client.session = Some(json!({ "id": id, "skey": SKEY }));
    assert_eq!(client.get("/me").await.unwrap().data["nickName"], "Band");
    client.post("/set/more", json!(1)).await.unwrap();
    assert_eq!(client.get("/fields").await.unwrap().data["cookie"], stored["cookie"]);
    assert_eq!(client.logins, 0);
}

async fn fields_are_saved(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.post("/set/cart", json!({ "apples": 3 })).await.unwrap();
    assert_eq!(client.post("/count/visits", Value::Null).await.unwrap().data["count"], 1);
    assert_eq!(client.post("/count/visits", Value::Null).await.unwrap().data["count"], 2);
    let fields = client.get("/fields").await.unwrap().data;
    assert_eq!(fields, json!({ "cart": { "apples": 3 }, "visits": 2 }));

    // Reading, and setting what is there already, writes nothing: the time goes on running.
    let id = client.id();
    assert!(service.storage.touch(&key(&id), Expiry::after_secs(100)).await.unwrap());
    client.get("/fields").await.unwrap();
    client.post("/set/cart", json!({ "apples": 3 })).await.unwrap();
    assert!(left(&service, &id).await <= Duration::from_secs(100));
    // A change gives it the full time, as with mp-session-koa2.
    client.post("/remove/cart", Value::Null).await.unwrap();
    assert!(left(&service, &id).await > Duration::from_secs(HOUR - 60));

    // The status does not matter to what is saved; the protocol's fields are not to be changed.
    assert_eq!(client.post("/fail/failed", Value::Null).await.unwrap().status, 418);
    for field in ["id", "skey", "sessionKey"] {
        let answer = client.post(&format!("/set/{field}"), json!("mine")).await.unwrap();
        assert_eq!(answer.status, 403, "{field}");
    }
    client.post("/set/userInfo", json!({ "nickName": "Bandit" })).await.unwrap();
    assert_eq!(client.get("/fields").await.unwrap().data, json!({ "failed": true, "visits": 2 }));
    assert_eq!(client.get("/me").await.unwrap().data["nickName"], "Bandit");
    assert_eq!(client.logins, 1);
}

/// A client with the same session.
fn same(service: &Service, client: &MiniProgram) -> MiniProgram {
    let mut other = service.client();
    other.session.clone_from(&client.session);
    other
}

async fn concurrent_requests_lose_no_field(context: Context<Stores>) {
    const REQUESTS: u64 = 16;
    let service = start(&context).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let tasks: Vec<_> = (0..REQUESTS)
        .map(|number| {
            let mut other = same(&service, &client);
            tokio::spawn(async move {
                other.post(&format!("/set/f{number}"), json!(number)).await.unwrap();
                other.post("/count/visits", Value::Null).await.unwrap();
                assert_eq!(other.logins, 0);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    let fields = client.get("/fields").await.unwrap().data;
    assert_eq!(fields["visits"], REQUESTS);
    for number in 0..REQUESTS {
        assert_eq!(fields[format!("f{number}")], number);
    }
}

/// Sends two requests that are both in their handlers before either is saved.
async fn overlap(service: &Service, client: &MiniProgram, fields: [&'static str; 2]) {
    let tasks = fields.map(|field| {
        let mut other = same(service, client);
        tokio::spawn(
            async move { other.post(&format!("/hold/{field}"), Value::Null).await.map(|it| it.status) },
        )
    });
    service.probe.held.acquire_many(2).await.unwrap().forget();
    service.probe.go.add_permits(2);
    for task in tasks {
        assert_eq!(task.await.unwrap(), Ok(200));
    }
}

async fn requests_that_overlap_are_merged(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.post("/set/before", json!(1)).await.unwrap();
    overlap(&service, &client, ["one", "other"]).await;
    let expected = json!({ "before": 1, "one": true, "other": true, "held": 2 });
    assert_eq!(client.get("/fields").await.unwrap().data, expected);
}

async fn a_destroyed_session_stays_destroyed(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let id = client.id();
    let mut other = same(&service, &client);
    let held = tokio::spawn(async move { other.post("/hold/late", Value::Null).await.map(|it| it.status) });
    service.probe.held.acquire().await.unwrap().forget();

    assert_eq!(client.post("/logout", Value::Null).await.unwrap().data, "bye");
    assert_eq!(service.stored(&id).await, None);
    service.probe.go.add_permits(1);
    assert_eq!(held.await.unwrap(), Ok(200));
    assert_eq!(service.stored(&id).await, None, "a request that came too late has not brought it back");

    // The other way round: what is saved while a logout is under way does not stop it, but what is no
    // session is left alone.
    for foreign in [None, Some(json!({ "foreign": true }))] {
        let mut client = service.client();
        client.login().await.unwrap();
        let id = client.id();
        let mut other = same(&service, &client);
        let bye = tokio::spawn(async move {
            other.post("/logout?hold", Value::Null).await.map(|answer| answer.status).map_err(|it| it.kind)
        });
        service.probe.held.acquire().await.unwrap().forget();
        let expected = if let Some(foreign) = &foreign {
            service.storage.write(&key(&id), foreign.to_string().into(), Expiry::Never).await.unwrap();
            Err("ERR_CHECK_LOGIN_FAILED".to_owned())
        } else {
            client.post("/set/more", json!(1)).await.unwrap();
            Ok(200)
        };
        service.probe.go.add_permits(1);
        assert_eq!(bye.await.unwrap(), expected);
        assert_eq!(service.stored(&id).await, foreign);
    }

    // The id, replayed.
    let (handled, names) = (service.handled(), client.names());
    let names: Vec<_> = names.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = client.wx_request(Method::GET, "/me", &names, None).await;
    assert_eq!(answer.data["error"], "ERR_INVALID_SESSION");
    assert_eq!(service.handled(), handled);
}

async fn a_session_expires(context: Context<Stores>) {
    let storage = storage(&context).await;
    let service = Service::with(storage, |builder| builder.max_age(Duration::from_millis(300))).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let names = client.names();
    let (client, names) = (&client, &names);
    until("the session has expired", Duration::from_secs(10), || async move {
        let names: Vec<_> = names.iter().map(|(name, value)| (*name, value.as_str())).collect();
        client.wx_request(Method::GET, "/open", &names, None).await.data["error"] == "ERR_INVALID_SESSION"
    })
    .await;
}

async fn cover_time_extends_what_runs_out(context: Context<Stores>) {
    let storage = storage(&context).await;
    let service = Service::with(storage, |builder| builder.cover_time(Duration::from_secs(300))).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let id = client.id();
    let full = Duration::from_secs(HOUR - 60);

    // More than the cover time: it goes on running.
    assert!(service.storage.touch(&key(&id), Expiry::after_secs(400)).await.unwrap());
    client.get("/me").await.unwrap();
    assert!(left(&service, &id).await <= Duration::from_secs(400));
    // Less.
    assert!(service.storage.touch(&key(&id), Expiry::after_secs(300)).await.unwrap());
    client.get("/me").await.unwrap();
    assert!(left(&service, &id).await > full);
    // Less, in a request that changes something.
    assert!(service.storage.touch(&key(&id), Expiry::after_secs(300)).await.unwrap());
    client.post("/count/visits", Value::Null).await.unwrap();
    assert!(left(&service, &id).await > full);
    // None at all.
    assert!(service.storage.touch(&key(&id), Expiry::Never).await.unwrap());
    client.get("/me").await.unwrap();
    assert!(left(&service, &id).await > full);
    assert_eq!(client.logins, 1);
}

async fn foreign_data_are_an_error_and_stay(context: Context<Stores>) {
    let service = start(&context).await;
    let client = service.client();
    let id = "ab".repeat(32);
    let names = [("X-WX-Id", id.as_str()), ("X-WX-Skey", SKEY)];
    for foreign in [
        // express-session, koa-session2, grammY, another version, another session.
        json!({ "cookie": { "originalMaxAge": 1, "path": "/" }, "user": 7 }),
        json!({ "id": id, "user": "somebody" }),
        json!({ "v": 2, "__d": { "id": id, "sessionKey": SESSION_KEY } }),
        json!({ "id": "cd".repeat(32), "skey": SKEY, "sessionKey": SESSION_KEY, "userInfo": {} }),
        json!([1, 2, 3]),
        json!("text"),
        Value::Null,
    ] {
        service.storage.write(&key(&id), foreign.to_string().into(), Expiry::Never).await.unwrap();
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

    // It takes a session's place while a request of it is served.
    let mut client = service.client();
    client.login().await.unwrap();
    let id = client.id();
    let mut other = same(&service, &client);
    let held = tokio::spawn(async move { other.post("/hold/late", Value::Null).await.map(|it| it.status) });
    service.probe.held.acquire().await.unwrap().forget();
    let foreign = json!({ "foreign": true });
    service.storage.write(&key(&id), foreign.to_string().into(), Expiry::Never).await.unwrap();
    service.probe.go.add_permits(1);
    assert_eq!(held.await.unwrap().unwrap_err().kind, "ERR_CHECK_LOGIN_FAILED");
    assert_eq!(service.stored(&id).await.unwrap(), foreign);
}

async fn bad_claims_never_reach_the_service(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let id = client.id();
    let long = id.repeat(100);
    let (upper, zeros) = (id.to_uppercase(), "0".repeat(64));
    let skeys = [SKEY.to_uppercase(), SKEY[..39].to_owned(), format!("{SKEY}0"), "0".repeat(40)];

    let mut claims: Vec<Vec<(&str, &str)>> = Vec::new();
    for id in [
        zeros.as_str(), // forged
        &id[..63],      // truncated
        &id[..1],
        long.as_str(), // oversized
        upper.as_str(),
        "*",
        "../../etc/passwd",
        "' OR '1'='1",
        "user:oGZUI0egBJY1zhBYw2KhdUfwVJJE",
    ] {
        claims.push(vec![("X-WX-Id", id), ("X-WX-Skey", SKEY)]);
    }
    for skey in &skeys {
        claims.push(vec![("X-WX-Id", &id), ("X-WX-Skey", skey)]);
    }
    // Half a claim; a claim that is made twice.
    claims.push(vec![("X-WX-Id", &id)]);
    claims.push(vec![("X-WX-Skey", SKEY)]);
    claims.push(vec![("X-WX-Id", &id), ("X-WX-Id", &zeros), ("X-WX-Skey", SKEY)]);
    claims.push(vec![("X-WX-Id", &id), ("X-WX-Skey", SKEY), ("X-WX-Skey", SKEY)]);
    // As query parameters they can have any byte in them.
    let injected = format!("{id}\r\nX-WX-Skey: {SKEY}\0\u{e9}");
    let by_query = [
        vec![("X-WX-Id", injected.as_str()), ("X-WX-Skey", SKEY)],
        vec![("X-WX-Id", &id), ("X-WX-Skey", "\r\nSet-Cookie: a=b")],
    ];
    for (claim, by_query) in claims.iter().map(|it| (it, false)).chain(by_query.iter().map(|it| (it, true))) {
        client.by_query = by_query;
        let answer = client.wx_request(Method::GET, "/open", claim, None).await;
        assert_eq!(answer.data["error"], "ERR_INVALID_SESSION", "{claim:?}");
        assert_eq!((answer.status, &answer.data[MAGIC]), (200, &json!(1)));
    }
    assert_eq!(service.handled(), 0);
    // The session itself has not suffered.
    client.by_query = false;
    assert_eq!(client.get("/me").await.unwrap().data["nickName"], "Band");
    assert_eq!(client.logins, 1);
}

async fn login_next_prepares_and_refuses(context: Context<Stores>) {
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
    let mut keys = service.storage.keys("session:");
    let mut count = 0;
    while let Some(key) = futures_util::StreamExt::next(&mut keys).await {
        key.unwrap();
        count += 1;
    }
    assert_eq!(count, 1, "a refused login stores nothing");
}

async fn version_2(context: Context<Stores>) {
    let storage = storage(&context).await;
    let service = Service::with(storage, |builder| builder.protocol(Protocol::Wafer2)).await;
    let mut client = service.client();

    // Nobody is known yet.
    let failed = client.login2(false).await.unwrap_err();
    assert_eq!(failed.kind, "ERR_HEADER_MISSED");
    assert_eq!(client.login2(true).await.unwrap()["nickName"], "Band");
    let session = client.session.clone().unwrap();
    // SHA-1 of the session key.
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

    // An invalid session: the client logs in with the code alone, and tries once more.
    service.storage.delete(&key(&id)).await.unwrap();
    let handled = service.handled();
    assert_eq!(client.request2("/me").await.unwrap().data["nickName"], "Band");
    assert_eq!((service.handled(), client.logins), (handled + 1, 3));
    for skey in ["0".repeat(40), "x".to_owned(), id.to_uppercase(), "*".to_owned()] {
        let answer = client.wx_request(Method::GET, "/me", &[("X-WX-Skey", &skey)], None).await;
        assert_eq!((answer.status, &answer.data["code"]), (401, &json!(-1)));
        assert_eq!(answer.data["error"], "ERR_SKEY_INVALID");
        assert!(answer.data.get(MAGIC).is_none());
    }

    // What fails, by name.
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

    // Foreign data in a session's or a user's place stay.
    let foreign = json!({ "foreign": true });
    for name in [id.clone(), format!("user:{OPEN_ID}")] {
        service.storage.write(&key(&name), foreign.to_string().into(), Expiry::Never).await.unwrap();
        let failed = client.login2(true).await.unwrap_err();
        assert_eq!(failed.kind, "ERR_LOGIN_FAILED");
        assert_eq!(service.stored(&name).await.unwrap(), foreign);
        service.storage.delete(&key(&name)).await.unwrap();
    }
}

async fn version_2_keeps_fields(context: Context<Stores>) {
    let storage = storage(&context).await;
    let service = Service::with(storage, |builder| builder.protocol(Protocol::Wafer2).login_next(true)).await;
    let mut client = service.client();
    client.login2(true).await.unwrap();
    let skey = client.session.clone().unwrap()["skey"].as_str().unwrap().to_owned();
    client.wx_request(Method::POST, "/set/cart", &[("X-WX-Skey", &skey)], Some(&json!([1]))).await;
    client.login2(false).await.unwrap();
    assert_eq!(client.request2("/fields").await.unwrap().data, json!({ "cart": [1], "greeted": true }));
}

//! Changes by handlers, also at the same time.

use std::time::Duration;

use larder_core::Expiry;
use larder_testkit::Context;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    HOUR, Stores, left, start,
    support::{
        client::MiniProgram,
        service::{Service, key},
    },
};

pub(crate) async fn fields_are_saved(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.post("/set/cart", json!({ "apples": 3 })).await.unwrap();
    assert_eq!(client.post("/count/visits", Value::Null).await.unwrap().data["count"], 1);
    assert_eq!(client.post("/count/visits", Value::Null).await.unwrap().data["count"], 2);
    let fields = client.get("/fields").await.unwrap().data;
    assert_eq!(fields, json!({ "cart": { "apples": 3 }, "visits": 2 }));

    // Reading, and setting a field to its current value, writes nothing: the session keeps its expiry.
    let id = client.id();
    assert!(service.storage.touch(key(&id), Expiry::after_secs(100)).await.unwrap());
    client.get("/fields").await.unwrap();
    client.post("/set/cart", json!({ "apples": 3 })).await.unwrap();
    assert!(left(&service, &id).await <= Duration::from_secs(100));
    // A change extends the session to its full lifetime, as with mp-session-koa2.
    client.post("/remove/cart", Value::Null).await.unwrap();
    assert!(left(&service, &id).await > Duration::from_secs(HOUR - 60));

    // Changes are saved whatever the status of the response. The protocol's fields cannot be changed.
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

pub(crate) async fn concurrent_requests_lose_no_field(context: Context<Stores>) {
    const REQUESTS: u64 = 16;
    let service = start(&context).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let tasks: Vec<_> = (0..REQUESTS)
        .map(|number| {
            let mut other = service.same(&client);
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

/// Sends two requests that both wait in their handlers before either is saved.
async fn overlap(service: &Service, client: &MiniProgram, fields: [&'static str; 2]) {
    let tasks = fields.map(|field| {
        let mut other = service.same(client);
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

pub(crate) async fn requests_that_overlap_are_merged(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.post("/set/before", json!(1)).await.unwrap();
    overlap(&service, &client, ["one", "other"]).await;
    let expected = json!({ "before": 1, "one": true, "other": true, "held": 2 });
    assert_eq!(client.get("/fields").await.unwrap().data, expected);
}

pub(crate) async fn a_destroyed_session_stays_destroyed(context: Context<Stores>) {
    let service = start(&context).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let id = client.id();
    let mut other = service.same(&client);
    let held = tokio::spawn(async move { other.post("/hold/late", Value::Null).await.map(|it| it.status) });
    service.probe.held.acquire().await.unwrap().forget();

    assert_eq!(client.post("/logout", Value::Null).await.unwrap().data, "bye");
    assert_eq!(service.stored(&id).await, None);
    service.probe.go.add_permits(1);
    assert_eq!(held.await.unwrap(), Ok(200));
    assert_eq!(service.stored(&id).await, None, "a late request does not bring it back");

    // The reverse: a logout succeeds although the session has changed in the meantime, but a value that is
    // not a session is left unchanged.
    for foreign in [None, Some(json!({ "foreign": true }))] {
        let mut client = service.client();
        client.login().await.unwrap();
        let id = client.id();
        let mut other = service.same(&client);
        let bye = tokio::spawn(async move {
            other.post("/logout?hold", Value::Null).await.map(|answer| answer.status).map_err(|it| it.kind)
        });
        service.probe.held.acquire().await.unwrap().forget();
        let expected = if let Some(foreign) = &foreign {
            service.storage.write(key(&id), foreign.to_string()).await.unwrap();
            Err("ERR_CHECK_LOGIN_FAILED".to_owned())
        } else {
            client.post("/set/more", json!(1)).await.unwrap();
            Ok(200)
        };
        service.probe.go.add_permits(1);
        assert_eq!(bye.await.unwrap(), expected);
        assert_eq!(service.stored(&id).await, foreign);
    }

    // A replay of the id.
    let (handled, names) = (service.handled(), client.names());
    let names: Vec<_> = names.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = client.wx_request(Method::GET, "/me", &names, None).await;
    assert_eq!(answer.data["error"], "ERR_INVALID_SESSION");
    assert_eq!(service.handled(), handled);
}

//! How long a session lives.

use std::time::Duration;

use larder_core::Expiry;
use larder_testkit::{Context, until};
use reqwest::Method;
use serde_json::Value;

use crate::{
    HOUR, Stores, left, storage,
    support::service::{Service, key},
};

pub(crate) async fn a_session_expires(context: Context<Stores>) {
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

pub(crate) async fn cover_time_extends_what_runs_out(context: Context<Stores>) {
    let storage = storage(&context).await;
    let service = Service::with(storage, |builder| builder.cover_time(Duration::from_secs(300))).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let id = client.id();
    let full = Duration::from_secs(HOUR - 60);

    // More than the cover time: it goes on running.
    assert!(service.storage.touch(key(&id), Expiry::after_secs(400)).await.unwrap());
    client.get("/me").await.unwrap();
    assert!(left(&service, &id).await <= Duration::from_secs(400));
    // Less.
    assert!(service.storage.touch(key(&id), Expiry::after_secs(300)).await.unwrap());
    client.get("/me").await.unwrap();
    assert!(left(&service, &id).await > full);
    // Less, in a request that changes something.
    assert!(service.storage.touch(key(&id), Expiry::after_secs(300)).await.unwrap());
    client.post("/count/visits", Value::Null).await.unwrap();
    assert!(left(&service, &id).await > full);
    // None at all.
    assert!(service.storage.touch(key(&id), Expiry::Never).await.unwrap());
    client.get("/me").await.unwrap();
    assert!(left(&service, &id).await > full);
    assert_eq!(client.logins, 1);
}

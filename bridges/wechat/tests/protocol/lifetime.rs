//! The lifetime of a session.

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

pub(crate) async fn cover_time_extends_a_session_near_its_end(context: Context<Stores>) {
    let storage = storage(&context).await;
    let service = Service::with(storage, |builder| builder.cover_time(Duration::from_secs(300))).await;
    let mut client = service.client();
    client.login().await.unwrap();
    let id = client.id();
    let full = Duration::from_secs(HOUR - 60);

    // More than the cover time is left: the session is not extended.
    assert!(service.storage.touch(key(&id), Expiry::after_secs(400)).await.unwrap());
    client.get("/me").await.unwrap();
    assert!(left(&service, &id).await <= Duration::from_secs(400));
    // At most the cover time is left.
    assert!(service.storage.touch(key(&id), Expiry::after_secs(300)).await.unwrap());
    client.get("/me").await.unwrap();
    assert!(left(&service, &id).await > full);
    // The same, in a request that changes a field.
    assert!(service.storage.touch(key(&id), Expiry::after_secs(300)).await.unwrap());
    client.post("/count/visits", Value::Null).await.unwrap();
    assert!(left(&service, &id).await > full);
    // Without expiry.
    assert!(service.storage.touch(key(&id), Expiry::Never).await.unwrap());
    client.get("/me").await.unwrap();
    assert!(left(&service, &id).await > full);
    assert_eq!(client.logins, 1);
}

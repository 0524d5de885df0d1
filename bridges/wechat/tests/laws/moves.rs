//! Sessions move from their plain ids to their hashed ids.

use std::time::Duration;

use larder_core::{Expiry, Store};
use larder_testkit::{Context, race};
use larder_wechat::{Protocol, WechatBuilder};
use serde_json::json;

use crate::{
    Stores, ask,
    hashed::{dump, key},
    is_valid, log_in, storage,
    support::{
        OPEN_ID,
        client::MiniProgram,
        service::{self, Service},
    },
};

const FULL: Duration = Duration::from_secs(3_000);

/// Returns a client with a plain session, and a service that moves it.
async fn before(
    storage: &Store,
    protocol: Protocol,
    options: impl Fn(WechatBuilder) -> WechatBuilder,
) -> (MiniProgram, Service) {
    let plain = Service::with(storage, |builder| options(builder).protocol(protocol)).await;
    let before = log_in(&plain, protocol).await;
    assert_eq!(ask(&before, "/set/cart").await.status, 200);
    let service =
        Service::with(storage, |builder| options(builder).protocol(protocol).migrating_plain_ids()).await;
    let mut client = service.client();
    client.session = before.session;
    (client, service)
}

fn plain_key(client: &MiniProgram) -> larder_core::Key {
    let names = client.names();
    service::key(names.iter().find(|name| !name.1.is_empty()).map(|name| &*name.1).unwrap())
}

async fn handle(client: &MiniProgram) -> String {
    ask(client, "/handle").await.data.as_str().unwrap().to_owned()
}

pub(crate) async fn a_plain_session_moves_when_it_is_saved(context: Context<Stores>) {
    let storage = storage(&context).await;
    for protocol in [Protocol::Wafer, Protocol::Wafer2] {
        let (client, _service) = before(&storage, protocol, |builder| builder).await;
        // Reading does not move it.
        assert_eq!(ask(&client, "/fields").await.data, json!({ "cart": 1 }));
        let key = key(&handle(&client).await);
        assert!(
            storage.contains(plain_key(&client)).await.unwrap() && !storage.contains(&*key).await.unwrap()
        );
        assert_eq!(ask(&client, "/count/visits").await.status, 200);
        assert!(
            !storage.contains(plain_key(&client)).await.unwrap() && storage.contains(&*key).await.unwrap()
        );
        assert_eq!(ask(&client, "/fields").await.data, json!({ "cart": 1, "visits": 1 }));
        // After the migration.
        let service = Service::with(&storage, |builder| builder.protocol(protocol).hashed_ids(true)).await;
        let other = service.same(&client);
        assert!(is_valid(&other).await);
    }
}

pub(crate) async fn a_plain_session_moves_when_it_is_extended(context: Context<Stores>) {
    let storage = storage(&context).await;
    let options = |builder: WechatBuilder| builder.cover_time(Duration::from_secs(300));
    let (client, _service) = before(&storage, Protocol::Wafer, options).await;
    assert!(storage.touch(plain_key(&client), Expiry::after_secs(60)).await.unwrap());
    assert!(is_valid(&client).await);
    assert!(!storage.contains(plain_key(&client)).await.unwrap());
    let left = storage.ttl(key(&handle(&client).await)).await.unwrap();
    assert!(matches!(left, Some(Expiry::After(left)) if left > FULL), "{left:?}");
}

pub(crate) async fn a_logout_removes_both(context: Context<Stores>) {
    let storage = storage(&context).await;
    for protocol in [Protocol::Wafer, Protocol::Wafer2] {
        let (client, _service) = before(&storage, protocol, |builder| builder).await;
        let plain = storage.read(plain_key(&client)).await.unwrap().unwrap();
        let saved = ask(&client, "/count/visits").await;
        assert_eq!(saved.status, 200);
        // As if the process had ended at the last step of the move.
        storage.write(plain_key(&client), plain.value).expires_in(FULL).await.unwrap();
        assert_eq!(ask(&client, "/fields").await.data, json!({ "cart": 1, "visits": 1 }));
        assert_eq!(ask(&client, "/logout").await.data, "bye");
        assert!(!is_valid(&client).await);
        // Version 2 has remembered the user.
        let left = dump(&storage).await;
        assert!(left.iter().all(|(key, _)| key == &format!("session:user:{OPEN_ID}")), "{left:?}");
    }
}

pub(crate) async fn a_login_keeps_the_fields(context: Context<Stores>) {
    let storage = storage(&context).await;
    let (mut client, service) = before(&storage, Protocol::Wafer2, |builder| builder).await;
    client.login2(false).await.unwrap();
    assert_eq!(ask(&client, "/fields").await.data, json!({ "cart": 1 }));
    assert!(!storage.contains(plain_key(&client)).await.unwrap());

    // A move that was interrupted after its announcement does not prevent a login.
    let key = key(&handle(&client).await);
    let announcement = json!(["moving", "0123456789abcdef"]).to_string();
    service.storage.write(&*key, announcement).expires_in(Duration::from_secs(60)).await.unwrap();
    assert!(!is_valid(&client).await);
    client.login2(false).await.unwrap();
    assert!(is_valid(&client).await);
}

pub(crate) async fn concurrent_requests_move_a_session_once(context: Context<Stores>) {
    const REQUESTS: usize = 8;
    let storage = storage(&context).await;
    let (client, service) = before(&storage, Protocol::Wafer, |builder| builder).await;
    let statuses = race(REQUESTS, |_| {
        let other = service.same(&client);
        async move { ask(&other, "/count/visits").await.status }
    })
    .await;
    assert_eq!(statuses, [200; REQUESTS]);
    assert_eq!(ask(&client, "/fields").await.data, json!({ "cart": 1, "visits": REQUESTS }));
    assert_eq!(dump(&storage).await.len(), 1);
}

pub(crate) async fn a_revocation_during_moves_is_final(context: Context<Stores>) {
    const REQUESTS: usize = 4;
    let storage = storage(&context).await;
    for round in 0..context.target.count(20, 5) {
        let options = |builder: WechatBuilder| builder.owners(true);
        let (client, service) = before(&storage, Protocol::Wafer, options).await;
        race(REQUESTS + 1, |number| {
            let layer = service.layer.clone();
            let other = service.same(&client);
            async move {
                if number < REQUESTS {
                    assert_eq!(ask(&other, "/count/visits").await.status, 200);
                } else if round % 2 == 0 {
                    assert!(layer.delete_by_owner(OPEN_ID).await.unwrap() > 0);
                } else {
                    ask(&other, "/logout").await;
                }
            }
        })
        .await;
        assert!(!is_valid(&client).await, "{round}");
        assert!(service.layer.sessions_of(OPEN_ID).await.unwrap().is_empty());
    }
}

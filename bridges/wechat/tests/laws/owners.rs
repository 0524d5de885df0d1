//! The index of owners.

use std::time::Duration;

use larder_core::{ErrorKind, Expiry};
use larder_testkit::{Context, race};
use larder_wechat::{Protocol, WechatBuilder};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    Stores, ask,
    hashed::dump,
    is_valid, log_in, start,
    support::{
        OPEN_ID,
        cipher::encrypt,
        client::MiniProgram,
        service::{self, Service},
    },
};

/// The stand-in's other user.
const STRANGER: &str = "oStranger";

/// The options that matter for the index.
const MODES: [fn(WechatBuilder) -> WechatBuilder; 3] =
    [|builder| builder, |builder| builder.hashed_ids(true), WechatBuilder::migrating_plain_ids];

/// Names the device by the header.
fn indexed(builder: WechatBuilder) -> WechatBuilder {
    builder.owners(true).device(|parts| {
        let agent = parts.headers.get("user-agent")?.to_str().ok()?;
        Some(agent.to_owned()).filter(|agent| !agent.is_empty())
    })
}

async fn log_in_on(service: &Service, device: &str) -> MiniProgram {
    let mut client = service.client();
    client.user_agent = device.to_owned();
    client.login().await.unwrap();
    client
}

/// Logs the other user in.
async fn stranger(service: &Service) -> MiniProgram {
    let mut client = service.client();
    client.code = Box::new(|| format!("stranger-{}", fastrand::u64(..)));
    client.data = encrypt(r#""nickName":"Stranger""#);
    client.login().await.unwrap();
    client
}

async fn handle(client: &MiniProgram) -> String {
    ask(client, "/handle").await.data.as_str().unwrap().to_owned()
}

/// Returns the handles and the devices of the user's sessions.
async fn listed(service: &Service, owner: &str) -> Vec<(String, Option<String>)> {
    let sessions = service.layer.sessions_of(owner).await.unwrap();
    let parts = |session: &larder_wechat::OwnedSession| {
        assert!(session.created() <= session.used());
        (session.handle().to_owned(), session.device().map(str::to_owned))
    };
    sessions.iter().map(parts).collect()
}

pub(crate) async fn the_sessions_of_a_user_are_listed(context: Context<Stores>) {
    for mode in MODES {
        let service = start(&context, |builder| mode(indexed(builder))).await;
        let phone = log_in_on(&service, "Android").await;
        let pad = log_in_on(&service, "").await;
        let other = stranger(&service).await;
        // A save keeps the device.
        ask(&phone, "/count/visits").await;
        let expected = [(handle(&phone).await, Some("Android".to_owned())), (handle(&pad).await, None)];
        assert_eq!(listed(&service, OPEN_ID).await, expected);
        assert_eq!(listed(&service, STRANGER).await, [(handle(&other).await, None)]);
        assert_eq!(listed(&service, "").await, []);
        // A handle is not a credential.
        for (id, skey) in [(&expected[0].0, ""), (&phone.id(), &expected[0].0)] {
            let mut thief = service.client();
            thief.session = Some(json!({ "id": id, "skey": skey }));
            assert!(!is_valid(&thief).await);
        }
        service.storage.clear("").await.unwrap();
    }
}

pub(crate) async fn a_user_is_logged_out_everywhere(context: Context<Stores>) {
    for mode in MODES {
        let service = start(&context, |builder| mode(builder.owners(true))).await;
        let (one, two) = (log_in(&service, Protocol::Wafer).await, log_in(&service, Protocol::Wafer).await);
        let other = stranger(&service).await;
        assert_eq!(service.layer.delete_by_owner(OPEN_ID).await.unwrap(), 2);
        assert!(!is_valid(&one).await && !is_valid(&two).await);
        assert!(is_valid(&other).await);
        assert_eq!(listed(&service, OPEN_ID).await, []);
        assert_eq!(service.layer.delete_by_owner(OPEN_ID).await.unwrap(), 0);
        // A replay after the revocation, with a change.
        assert_eq!(ask(&one, "/set/cart").await.data["error"], "ERR_INVALID_SESSION");
        assert_eq!(
            dump(&service.storage).await.len(),
            2,
            "only the other user's session and its entry remain"
        );
        service.storage.clear("").await.unwrap();
    }
}

pub(crate) async fn a_user_is_logged_out_everywhere_else(context: Context<Stores>) {
    for mode in MODES {
        let service = start(&context, |builder| mode(builder.owners(true))).await;
        let clients = [
            log_in(&service, Protocol::Wafer).await,
            log_in(&service, Protocol::Wafer).await,
            log_in(&service, Protocol::Wafer).await,
        ];
        let kept = handle(&clients[1]).await;
        assert_eq!(service.layer.delete_others_by_owner(OPEN_ID, &kept).await.unwrap(), 2);
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(is_valid(client).await, number == 1);
        }
        assert_eq!(listed(&service, OPEN_ID).await, [(kept, None)]);
        service.storage.clear("").await.unwrap();
    }
}

pub(crate) async fn one_session_of_a_user_is_ended(context: Context<Stores>) {
    for mode in MODES {
        let service = start(&context, |builder| mode(builder.owners(true))).await;
        let (one, two) = (log_in(&service, Protocol::Wafer).await, log_in(&service, Protocol::Wafer).await);
        let ended = handle(&one).await;
        // Not with another user's name, and not with anything but the handle.
        for (owner, handle) in
            [(STRANGER, &*ended), (OPEN_ID, ""), (OPEN_ID, &one.id()), (OPEN_ID, &ended[1..])]
        {
            assert!(!service.layer.delete_session_of(owner, handle).await.unwrap());
        }
        assert!(is_valid(&one).await);
        assert!(service.layer.delete_session_of(OPEN_ID, &ended).await.unwrap());
        assert!(!is_valid(&one).await && is_valid(&two).await);
        assert!(!service.layer.delete_session_of(OPEN_ID, &ended).await.unwrap());
        service.storage.clear("").await.unwrap();
    }
}

pub(crate) async fn a_user_has_at_most_n_sessions(context: Context<Stores>) {
    for mode in MODES {
        let service = start(&context, |builder| mode(builder.owners(true).max_per_owner(2))).await;
        let other = stranger(&service).await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.push(log_in(&service, Protocol::Wafer).await);
            let valid: Vec<_> = futures_util::future::join_all(clients.iter().map(is_valid)).await;
            let expected: Vec<_> = (0..clients.len()).map(|number| number + 2 >= clients.len()).collect();
            assert_eq!(valid, expected, "the oldest ones are deleted");
        }
        assert!(is_valid(&other).await);
        assert_eq!(listed(&service, OPEN_ID).await.len(), 2);
        service.storage.clear("").await.unwrap();
    }
}

pub(crate) async fn a_logout_removes_the_entry(context: Context<Stores>) {
    for mode in MODES {
        for protocol in [Protocol::Wafer, Protocol::Wafer2] {
            let service = start(&context, |builder| mode(builder.owners(true).protocol(protocol))).await;
            let client = log_in(&service, protocol).await;
            assert_eq!(listed(&service, OPEN_ID).await.len(), 1);
            assert_eq!(ask(&client, "/logout").await.data, "bye");
            assert!(!is_valid(&client).await);
            let left = dump(&service.storage).await;
            assert!(left.iter().all(|(key, _)| key == &format!("session:user:{OPEN_ID}")), "{left:?}");
            service.storage.clear("").await.unwrap();
        }
    }
}

pub(crate) async fn a_revoked_session_is_not_saved_again(context: Context<Stores>) {
    for mode in MODES {
        let service = start(&context, |builder| mode(builder.owners(true))).await;
        let client = log_in(&service, Protocol::Wafer).await;
        let other = service.same(&client);
        let held = tokio::spawn(async move { ask(&other, "/hold/late").await.status });
        service.probe.held.acquire().await.unwrap().forget();
        assert_eq!(service.layer.delete_by_owner(OPEN_ID).await.unwrap(), 1);
        service.probe.go.add_permits(1);
        assert_eq!(held.await.unwrap(), 200);
        assert!(!is_valid(&client).await);
        // The save that failed may have noted the session again.
        let left = dump(&service.storage).await;
        assert!(left.iter().all(|(key, _)| key.starts_with("larder:owner:")), "{left:?}");
        assert_eq!(listed(&service, OPEN_ID).await, []);
        service.storage.clear("").await.unwrap();
    }
}

pub(crate) async fn racing_saves_do_not_undo_a_revocation(context: Context<Stores>) {
    const REQUESTS: usize = 4;
    for round in 0..context.target.count(15, 4) {
        let service = start(&context, |builder| MODES[round % MODES.len()](builder.owners(true))).await;
        let client = log_in(&service, Protocol::Wafer).await;
        race(REQUESTS + 1, |number| {
            let layer = service.layer.clone();
            let other = service.same(&client);
            async move {
                if number < REQUESTS {
                    // Saved before the revocation, dropped, or invalid.
                    assert_eq!(ask(&other, "/count/visits").await.status, 200);
                } else {
                    assert_eq!(layer.delete_by_owner(OPEN_ID).await.unwrap(), 1);
                }
            }
        })
        .await;
        assert!(!is_valid(&client).await);
        assert_eq!(listed(&service, OPEN_ID).await, []);
    }
}

pub(crate) async fn racing_logins_are_listed(context: Context<Stores>) {
    const LOGINS: usize = 4;
    for round in 0..context.target.count(9, 3) {
        let mode = MODES[round % MODES.len()];
        let service = start(&context, |builder| mode(builder.owners(true))).await;
        let clients = race(LOGINS + 1, |number| {
            let (mut client, layer) = (service.client(), service.layer.clone());
            async move {
                if number == LOGINS {
                    layer.delete_by_owner(OPEN_ID).await.unwrap();
                    return None;
                }
                client.login().await.unwrap();
                Some(client)
            }
        })
        .await;
        let (mut valid, mut listed) = (Vec::new(), listed(&service, OPEN_ID).await);
        for client in clients.iter().flatten() {
            if is_valid(client).await {
                valid.push((handle(client).await, None));
            }
        }
        valid.sort();
        listed.sort();
        assert_eq!(listed, valid, "no session escapes the next revocation");
        service.storage.clear("").await.unwrap();
    }
}

pub(crate) async fn an_extended_session_stays_in_the_index(context: Context<Stores>) {
    let hour = Duration::from_secs(3600);
    let service = start(&context, |builder| builder.owners(true).max_age(hour).cover_time(hour)).await;
    let client = log_in(&service, Protocol::Wafer).await;
    let key = service::key(&client.id());
    // As if the session was stored before the option was on.
    service.storage.clear("larder:owner:").await.unwrap();
    assert!(service.storage.touch(&key, Expiry::after_secs(60)).await.unwrap());
    assert!(is_valid(&client).await);
    let left = service.storage.ttl(&key).await.unwrap();
    assert!(matches!(left, Some(Expiry::After(left)) if left > hour / 2), "{left:?}");
    assert_eq!(listed(&service, OPEN_ID).await.len(), 1);
    assert_eq!(service.layer.delete_by_owner(OPEN_ID).await.unwrap(), 1);
    assert!(!is_valid(&client).await);
}

pub(crate) async fn index_entries_expire(context: Context<Stores>) {
    let hour = Duration::from_secs(3600);
    let service = start(&context, |builder| builder.owners(true).max_age(hour)).await;
    let client = log_in(&service, Protocol::Wafer).await;
    // Its session ends without a logout.
    service.storage.delete(service::key(&client.id())).await.unwrap();
    assert_eq!(listed(&service, OPEN_ID).await, []);
    let left = dump(&service.storage).await;
    assert_eq!(left.len(), 1);
    let ttl = service.storage.ttl(&*left[0].0).await.unwrap();
    assert!(matches!(ttl, Some(Expiry::After(left)) if left > hour && left < 2 * hour), "{ttl:?}");
}

pub(crate) async fn a_session_changes_its_owner(context: Context<Stores>) {
    #[derive(serde::Deserialize)]
    struct Account {
        account: Option<u64>,
    }
    let owner = |session: Account| session.account.map(|account| account.to_string());
    for mode in MODES {
        let service = start(&context, |builder| mode(builder.owner_by(owner))).await;
        let client = log_in(&service, Protocol::Wafer).await;
        assert_eq!(listed(&service, OPEN_ID).await, []);
        // `ask` sends 1.
        ask(&client, "/set/account").await;
        assert_eq!(listed(&service, "1").await.len(), 1);
        ask(&client, "/count/account").await;
        assert_eq!((listed(&service, "1").await.len(), listed(&service, "2").await.len()), (0, 1));
        assert_eq!(service.layer.delete_by_owner("1").await.unwrap(), 0);
        assert!(is_valid(&client).await);
        assert_eq!(service.layer.delete_by_owner("2").await.unwrap(), 1);
        assert!(!is_valid(&client).await);
        service.storage.clear("").await.unwrap();
    }
}

pub(crate) async fn the_owners_id_cannot_be_changed(context: Context<Stores>) {
    let service = start(&context, |builder| builder.owners(true)).await;
    let mut client = log_in(&service, Protocol::Wafer).await;
    for user in [json!({ "nickName": "Band" }), json!({ "openId": STRANGER }), json!(null)] {
        assert_eq!(client.post("/set/userInfo", user).await.unwrap().status, 403);
    }
    let user = json!({ "openId": OPEN_ID, "nickName": "Bandit" });
    assert_eq!(client.post("/set/userInfo", user).await.unwrap().status, 200);
    assert_eq!(client.get("/me").await.unwrap().data["nickName"], "Bandit");
    assert_eq!(listed(&service, OPEN_ID).await.len(), 1);
}

pub(crate) async fn version_2_lists_a_session_once(context: Context<Stores>) {
    for mode in MODES {
        let service = start(&context, |builder| mode(indexed(builder)).protocol(Protocol::Wafer2)).await;
        let mut client = log_in(&service, Protocol::Wafer2).await;
        ask(&client, "/set/cart").await;
        // WeChat returns the same session key.
        client.user_agent = "Android".to_owned();
        client.login2(false).await.unwrap();
        assert_eq!(ask(&client, "/fields").await.data, json!({ "cart": 1 }));
        assert_eq!(listed(&service, OPEN_ID).await, [(handle(&client).await, Some("Android".to_owned()))]);

        // Another one: another session.
        let mut other = service.client();
        other.code = Box::new(|| "otherkey-1".to_owned());
        other.login2(false).await.unwrap();
        assert_eq!(listed(&service, OPEN_ID).await.len(), 2);
        assert_eq!(service.layer.delete_others_by_owner(OPEN_ID, &handle(&other).await).await.unwrap(), 1);
        assert!(!is_valid(&client).await && is_valid(&other).await);
        assert_eq!(service.layer.delete_by_owner(OPEN_ID).await.unwrap(), 1);
        assert!(!is_valid(&other).await);
        service.storage.clear("").await.unwrap();
        // A session from before the index was on.
        let before =
            Service::with(&service.storage, |builder| mode(builder).protocol(Protocol::Wafer2)).await;
        log_in(&before, Protocol::Wafer2).await;
        assert_eq!(listed(&service, OPEN_ID).await, []);
        client.login2(false).await.unwrap();
        assert_eq!(service.layer.delete_by_owner(OPEN_ID).await.unwrap(), 1);
        assert!(!is_valid(&client).await);
        service.storage.clear("").await.unwrap();
    }
}

pub(crate) async fn a_foreign_index_entry_refuses_logins(context: Context<Stores>) {
    let service = start(&context, |builder| builder.owners(true)).await;
    let foreign = json!({ "foreign": true });
    for bucket in "0123456789abcdef".chars() {
        let key = format!("larder:owner:session%3A:{OPEN_ID}:{bucket}");
        service.storage.write(key, foreign.to_string()).await.unwrap();
    }
    let failed = service.client().login().await.unwrap_err();
    assert!(failed.message.starts_with("ERR_LOGIN_FAILED: the session store failed"), "{}", failed.message);
    for error in [
        service.layer.sessions_of(OPEN_ID).await.map(drop),
        service.layer.delete_by_owner(OPEN_ID).await.map(drop),
    ] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Codec);
    }
    // Without its index, no session is written.
    let left = dump(&service.storage).await;
    assert!(left.iter().all(|(_, value)| serde_json::from_str::<Value>(value).unwrap() == foreign));
    assert_eq!(left.len(), 16);
    let answer = service.client().wx_request(Method::GET, "/open", &[], None).await;
    assert_eq!(answer.data, json!({ "session": false }));
}

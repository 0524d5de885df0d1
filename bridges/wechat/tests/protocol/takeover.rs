//! Sessions in Redis that mp-session-koa2 has written and continues to use.

use larder_testkit::Must;
use serde_json::json;

use crate::support::{OPEN_ID, SESSION_KEY, SKEY, service::Service};

pub(crate) async fn takes_over_from_mp_session_koa2() {
    let server = larder_test_servers::redis().await.must("have a server");
    let client = redis::Client::open(server.url()).must("make a client");
    let mut theirs = client.get_multiplexed_async_connection().await.must("connect");
    let separator = if server.url().contains('?') { '&' } else { '?' };
    let url = format!("{}{separator}layout=grammy", server.url());
    let storage = larder::open(&url).await.must("open the storage");
    let service = Service::start(storage).await;

    // The `set` of mp-session-koa2's redisStore: the key, and `JSON.stringify` of the fields in the order of
    // the login. Some of its hour has passed.
    let id: String = (0..64).map(|_| fastrand::char('a'..='f')).collect();
    let name = format!("session:{id}");
    let before = format!(
        r#"{{"id":"{id}","skey":"{SKEY}","sessionKey":"{SESSION_KEY}","userInfo":{{"openId":"{OPEN_ID}","nickName":"Band","userId":"testId12345"}},"score":1.5e3}}"#
    );
    let mut command = redis::cmd("SET");
    command.arg(&[name.as_str(), &before, "EX", "600"]);
    command.exec_async(&mut theirs).await.must("save as their store does");

    let mut client = service.client();
    client.session = Some(json!({ "id": id, "skey": SKEY }));
    assert_eq!(client.post("/count/visits", json!(null)).await.unwrap().data["count"], 1);
    assert_eq!(client.logins, 0);

    // Its `get` and `ttl`.
    let after: String = redis::cmd("GET").arg(&name).query_async(&mut theirs).await.must("load as they do");
    let left: i64 = redis::cmd("TTL").arg(&name).query_async(&mut theirs).await.must("ask as they do");
    let mut expected: serde_json::Value = serde_json::from_str(&before).unwrap();
    expected["visits"] = json!(1);
    assert_eq!(serde_json::from_str::<serde_json::Value>(&after).unwrap(), expected);
    assert!(after.contains(r#""score":1.5e3"#), "an unchanged field keeps its bytes: {after}");
    assert!((3540..=3600).contains(&left), "a change extends it to the full lifetime: {left} s");

    assert_eq!(client.post("/logout", json!(null)).await.unwrap().data, "bye");
    let there: bool = redis::cmd("EXISTS").arg(&name).query_async(&mut theirs).await.must("look");
    assert!(!there);
    service.storage.close().await.must("close");
}

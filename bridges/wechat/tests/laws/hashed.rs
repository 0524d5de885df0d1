//! Hashed ids.

use std::collections::BTreeSet;

use base64::{
    Engine,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use futures_util::TryStreamExt;
use larder_core::{Expiry, Store};
use larder_testkit::Context;
use larder_wechat::Protocol;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use sha2::Sha256;

use crate::{
    Stores, ask, is_valid, log_in, start,
    support::{APP_ID, APP_SECRET, MAGIC, OPEN_ID, SESSION_KEY, SKEY, service::Service},
};

/// The key of the session with this handle.
pub(crate) fn key(handle: &str) -> String {
    format!("session:#{handle}")
}

/// Returns all keys and values.
pub(crate) async fn dump(storage: &Store) -> Vec<(String, String)> {
    let entries: Vec<_> = storage.entries("").try_collect().await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    entries.iter().map(|(key, record)| (key.as_str().to_owned(), text(&record.value))).collect()
}

/// Adds the texts in a JSON value, and the names of members.
fn collect(value: &Value, texts: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(texts.insert(text.clone())),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            texts.insert(name.clone());
            collect(value, texts);
        }),
        _ => {}
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns everything that a thief can make of a stolen store.
fn loot(entries: &[(String, String)]) -> BTreeSet<String> {
    let mut texts = BTreeSet::new();
    for (key, value) in entries {
        texts.extend([key.clone(), value.clone()]);
        collect(&serde_json::from_str(value).unwrap(), &mut texts);
    }
    for text in texts.clone() {
        texts.extend(text.split([':', '#', '.', '"']).map(str::to_owned));
    }
    for text in texts.clone() {
        let decoded = [STANDARD_NO_PAD.decode(text.trim_end_matches('=')), URL_SAFE_NO_PAD.decode(&text)];
        for bytes in decoded.into_iter().flatten() {
            texts.insert(hex(&bytes));
        }
        let skey = [APP_ID, APP_SECRET, &text].concat();
        texts.extend([hex(&Sha1::digest(&text)), hex(&Sha1::digest(skey)), hex(&Sha256::digest(&text))]);
    }
    // Halves, and other parts with the length of an id or an skey.
    for text in texts.clone() {
        for length in [40, 64] {
            let parts =
                [text.get(..length), text.len().checked_sub(length).and_then(|start| text.get(start..))];
            texts.extend(parts.into_iter().flatten().map(str::to_owned));
        }
    }
    texts.retain(|text| !text.is_empty() && text.len() < 8_000);
    texts
}

/// Returns the number of stolen texts with which a thief gets in.
async fn thefts(service: &Service, protocol: Protocol) -> usize {
    let mut thief = service.client();
    // Query parameters can contain any text.
    thief.by_query = true;
    let mut thefts = 0;
    for text in loot(&dump(&service.storage).await) {
        thief.session = Some(match protocol {
            Protocol::Wafer2 => json!({ "skey": text }),
            // The thief even knows the skey, as the app secret and the session key are elsewhere too.
            _ => json!({ "id": text, "skey": SKEY }),
        });
        thefts += usize::from(is_valid(&thief).await);
    }
    thefts
}

pub(crate) async fn a_stolen_store_logs_nobody_in(context: Context<Stores>) {
    for protocol in [Protocol::Wafer, Protocol::Wafer2] {
        let service =
            start(&context, |builder| builder.protocol(protocol).owners(true).hashed_ids(true)).await;
        let client = log_in(&service, protocol).await;
        assert_eq!(ask(&client, "/set/cart").await.status, 200);
        assert!(is_valid(&client).await);
        assert_eq!(thefts(&service, protocol).await, 0, "{protocol:?}");
        let stored = format!("{:?}", dump(&service.storage).await);
        for secret in [SESSION_KEY, SKEY].into_iter().chain(client.names().iter().map(|name| &*name.1)) {
            assert!(secret.is_empty() || !stored.contains(secret), "{protocol:?}");
        }
        service.storage.clear("").await.unwrap();

        // The same thief is successful with plain ids.
        let plain = Service::with(&service.storage, |builder| builder.protocol(protocol)).await;
        log_in(&plain, protocol).await;
        assert_ne!(thefts(&plain, protocol).await, 0, "{protocol:?}");
        service.storage.clear("").await.unwrap();
    }
}

pub(crate) async fn the_protocol_works_with_hashed_ids(context: Context<Stores>) {
    for protocol in [Protocol::Wafer, Protocol::Wafer2] {
        let service = start(&context, |builder| builder.protocol(protocol).hashed_ids(true)).await;
        let client = log_in(&service, protocol).await;
        for _ in 0..2 {
            assert_eq!(ask(&client, "/count/visits").await.status, 200);
        }
        assert_eq!(ask(&client, "/fields").await.data, json!({ "visits": 2 }));
        assert_eq!(ask(&client, "/me").await.data["openId"], OPEN_ID);
        let handle = ask(&client, "/handle").await.data.as_str().unwrap().to_owned();
        let stored = service.storage.read(key(&handle)).await.unwrap().unwrap();
        let stored: Value = serde_json::from_slice(&stored.value).unwrap();
        let names: Vec<_> = stored.as_object().unwrap().keys().collect();
        assert_eq!(names, ["sealedSessionKey", "userInfo", "visits"]);
        // Processes with plain ids share nothing.
        let plain = Service::with(&service.storage, |builder| builder.protocol(protocol)).await;
        let other = plain.same(&client);
        assert!(!is_valid(&other).await);
        for field in ["id", "skey", "sessionKey", "sealedSessionKey"] {
            assert_eq!(ask(&client, &format!("/set/{field}")).await.status, 403, "{field}");
        }

        assert_eq!(ask(&client, "/logout").await.status, 200);
        assert!(!is_valid(&client).await);
        assert_eq!(service.storage.read(key(&handle)).await.unwrap(), None);
    }
}

pub(crate) async fn foreign_data_are_unchanged(context: Context<Stores>) {
    let service = start(&context, |builder| builder.hashed_ids(true)).await;
    let client = log_in(&service, Protocol::Wafer).await;
    let handle = ask(&client, "/handle").await.data.as_str().unwrap().to_owned();
    let other = log_in(&service, Protocol::Wafer).await;
    let theirs = ask(&other, "/handle").await.data.as_str().unwrap().to_owned();
    let theirs = service.storage.read(key(&theirs)).await.unwrap().unwrap().value;
    for foreign in [
        json!({ "cookie": { "path": "/" }, "user": 7 }),
        json!({ "id": client.id(), "skey": SKEY, "sessionKey": SESSION_KEY, "userInfo": {} }),
        json!({ "sealedSessionKey": "AAAA", "userInfo": {} }),
        json!({ "moving": 1 }),
        json!([1]),
        json!("text"),
        // Another session's.
        serde_json::from_slice(&theirs).unwrap(),
    ] {
        service.storage.write(key(&handle), foreign.to_string()).await.unwrap();
        for path in ["/me", "/logout", "/set/x"] {
            let answer = ask(&client, path).await;
            assert_eq!((answer.status, &answer.data[MAGIC]), (500, &json!(1)), "{path}: {foreign}");
            assert_eq!(answer.data["error"], "ERR_CHECK_LOGIN_FAILED");
        }
        let stored = service.storage.read(key(&handle)).await.unwrap().unwrap().value;
        assert_eq!(serde_json::from_slice::<Value>(&stored).unwrap(), foreign);
        assert_eq!(service.storage.ttl(key(&handle)).await.unwrap(), Some(Expiry::Never));
    }
}

//! The session stores of tower-sessions.

use std::collections::HashMap;

use sessions::{
    SessionStore,
    session::{Id, Record},
};

use crate::{Group, KEYS, TTL, VALUE};

/// A session that is as large as ours, once encoded.
pub fn record(number: u64) -> Record {
    let mut data = HashMap::new();
    let text = String::from_utf8(VALUE[..480].to_vec()).unwrap();
    data.insert("value".to_owned(), serde_json::Value::String(text));
    Record { id: Id(i128::from(number % KEYS) + 1), data, expiry_date: time::OffsetDateTime::now_utc() + TTL }
}

/// Fills a peer's store.
pub async fn fill<S: SessionStore>(store: &S) {
    for number in 0..KEYS {
        store.save(&record(number)).await.unwrap();
    }
}

/// Measures a peer's saves.
pub fn write<S: SessionStore + Clone>(group: &mut Group<'_>, name: &str, store: &S) {
    let store = store.clone();
    group.measure(name, move |number| {
        let store = store.clone();
        async move { store.save(&record(number)).await.unwrap() }
    });
}

/// Measures a peer's loads.
pub fn read<S: SessionStore + Clone>(group: &mut Group<'_>, name: &str, store: &S) {
    let store = store.clone();
    group.measure(name, move |number| {
        let store = store.clone();
        async move {
            let id = Id(i128::from(number % KEYS) + 1);
            assert!(store.load(&id).await.unwrap().is_some());
        }
    });
}

//! MongoDB: ours, the driver's own calls, and tower-sessions-mongodb-store.

use std::{collections::HashMap, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use larder_benches::{Group, KEYS, RUNTIME, TASKS, TTL, VALUE, fresh, key};
use mongodb::{
    Client, Collection, IndexModel,
    bson::{Binary, DateTime, Document, doc, spec::BinarySubtype},
    options::IndexOptions,
};
use sessions_011::{
    SessionStore,
    session::{Id, Record},
};

/// The server is slow where it is a stand-in: fewer keys than elsewhere.
const FEW: u64 = KEYS / 20;

async fn write(collection: &Collection<Document>, number: u64) {
    let value = Binary { subtype: BinarySubtype::Generic, bytes: VALUE.to_vec() };
    let deadline = DateTime::from_millis(larder_core::clock::unix_millis() + TTL.as_millis() as i64);
    let change = doc! { "$set": { "value": value, "version": fresh(), "expires_at": deadline } };
    let update = collection.update_one(doc! { "_id": key(number % FEW).as_str() }, change).upsert(true);
    update.await.unwrap();
}

async fn read(collection: &Collection<Document>, number: u64) {
    let found = collection.find_one(doc! { "_id": key(number % FEW).as_str() }).await.unwrap().unwrap();
    assert_eq!(found.get_binary_generic("value").unwrap().len(), VALUE.len());
}

fn record(number: u64) -> Record {
    let text = String::from_utf8(VALUE[..480].to_vec()).unwrap();
    Record {
        id: Id(i128::from(number % FEW) + 1),
        data: HashMap::from([("value".to_owned(), serde_json::Value::String(text))]),
        expiry_date: time::OffsetDateTime::now_utc() + TTL,
    }
}

fn mongodb(criterion: &mut Criterion) {
    let _runtime = RUNTIME.enter();
    let server = RUNTIME.block_on(larder_test_servers::mongodb()).unwrap();
    let url = server.url().to_owned();
    let separator = if url.contains('?') { '&' } else { '?' };
    let ours = format!("{url}{separator}database=bench&w=majority&journal=true");
    let ours = RUNTIME.block_on(larder_mongodb::connect(&ours)).unwrap();
    let raw = format!("{url}{separator}w=majority&journal=true");
    let raw =
        RUNTIME.block_on(Client::with_uri_str(&raw)).unwrap().database("bench").collection::<Document>("raw");
    let peer = RUNTIME.block_on(async {
        let url = format!("{url}{separator}w=majority&journal=true");
        let client = mongodb_store::mongodb::Client::with_uri_str(&url).await.unwrap();
        mongodb_store::MongoDBStore::new(client, "bench".to_owned())
    });
    RUNTIME.block_on(async {
        // What removes expired documents, as ours has it: each write has to keep it up.
        let expiry = IndexOptions::builder().expire_after(Duration::ZERO).build();
        let expiry = IndexModel::builder().keys(doc! { "expires_at": 1 }).options(expiry).build();
        raw.create_index(expiry).await.unwrap();
        for number in 0..FEW {
            ours.write(&key(number), VALUE.clone()).expires_in(TTL).await.unwrap();
            write(&raw, number).await;
            peer.save(&record(number)).await.unwrap();
        }
    });

    for tasks in TASKS {
        let mut group = Group::new(criterion, "mongodb", "read", tasks);
        let collection = raw.clone();
        group.measure("raw: mongodb", move |number| {
            let collection = collection.clone();
            async move { read(&collection, number).await }
        });
        let ours_too = ours.clone();
        group.measure("larder-mongodb", move |number| {
            let store = ours_too.clone();
            async move { assert!(store.read(&key(number % FEW)).await.unwrap().is_some()) }
        });
        let store = peer.clone();
        group.measure("tower-sessions-mongodb-store", move |number| {
            let store = store.clone();
            async move { assert!(store.load(&record(number).id).await.unwrap().is_some()) }
        });
        drop(group);

        let mut group = Group::new(criterion, "mongodb", "write", tasks);
        let collection = raw.clone();
        group.measure("raw: mongodb", move |number| {
            let collection = collection.clone();
            async move { write(&collection, number).await }
        });
        let ours_too = ours.clone();
        group.measure("larder-mongodb", move |number| {
            let store = ours_too.clone();
            async move {
                store.write(&key(number % FEW), VALUE.clone()).expires_in(TTL).await.unwrap();
            }
        });
        let store = peer.clone();
        group.measure("tower-sessions-mongodb-store", move |number| {
            let store = store.clone();
            async move { store.save(&record(number)).await.unwrap() }
        });
    }
}

criterion_group!(benches, mongodb);
criterion_main!(benches);

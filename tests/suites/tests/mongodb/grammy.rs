//! grammY's documents, written by it and by us.

use std::collections::BTreeMap;

use larder_core::{Condition, ErrorKind, Expiry, Storage, StorageExt};
use larder_testkit::{Context, Fails, Must};
use mongodb::{
    IndexModel,
    bson::{Bson, Document, doc, oid::ObjectId},
    options::IndexOptions,
};
use serde_json::Value;

use crate::places::{Place, documents, key};

/// The sessions that real bots wrote, by key.
fn sessions() -> BTreeMap<String, Value> {
    let text = include_str!("../../../fixtures/grammy/expected.json");
    serde_json::from_str(text).must("parse the fixture")
}

/// A value as the JavaScript driver stores it: integers of 32 bits as such, all other numbers as
/// doubles.
fn as_javascript(value: &Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(value) => Bson::Boolean(*value),
        Value::String(value) => Bson::String(value.clone()),
        Value::Number(number) => match number.as_i64().and_then(|number| i32::try_from(number).ok()) {
            Some(number) => Bson::Int32(number),
            None => Bson::Double(number.as_f64().must("be a number")),
        },
        Value::Array(items) => items.iter().map(as_javascript).collect::<Vec<_>>().into(),
        Value::Object(members) => {
            let members = members.iter().map(|(name, value)| (name.clone(), as_javascript(value)));
            Bson::Document(members.collect())
        }
    }
}

/// `collection.updateOne({key}, {$set: {key, value}}, {upsert: true})`, as grammY's adapter does.
async fn write_as_grammy(collection: &mongodb::Collection<Document>, key: &str, value: Bson) {
    let update = doc! { "$set": { "key": key, "value": value } };
    collection.update_one(doc! { "key": key }, update).upsert(true).await.must("write as grammY");
}

pub(crate) async fn reads(context: Context<Place>) {
    let collection = documents(&context.factory.server, context.target.space()).await;
    let sessions = sessions();
    for (key, value) in &sessions {
        write_as_grammy(&collection, key, as_javascript(value)).await;
    }
    let storage = context.target.open().await;
    assert_eq!(storage.listed("").await, sessions.keys().cloned().collect());
    for (name, value) in &sessions {
        let record = storage.read(&key(name)).await.must("read").must("find the session");
        let read: Value = serde_json::from_slice(&record.value).must("read JSON");
        // Exactly, integers beyond 32 bits included: `9007199254740991`, not `9007199254740991.0`.
        assert_eq!(&read, value, "{name}");
    }
    assert!(storage.delete(&key("424242")).await.must("delete"));
    assert_eq!(collection.count_documents(doc! { "key": "424242" }).await.must("count"), 0);
}

pub(crate) async fn writes(context: Context<Place>) {
    let storage = context.target.open().await;
    let collection = documents(&context.factory.server, context.target.space()).await;
    for (name, value) in sessions() {
        storage.write_as(&key(&name), &value, Expiry::Never).await.must("write");
        let document = collection.find_one(doc! { "key": &name }).await.must("look").must("find it");
        assert_eq!(document.keys().collect::<Vec<_>>(), ["_id", "key", "value"]);
        document.get_object_id("_id").must("have an ObjectId");
        let read = document.get("value").cloned().must("have a value").into_relaxed_extjson();
        assert_eq!(read, value, "{name}");
    }
    // An update keeps the document.
    let id = async || -> ObjectId {
        let document = collection.find_one(doc! { "key": "271828" }).await.must("look").must("find it");
        document.get_object_id("_id").must("have an ObjectId")
    };
    let before = id().await;
    storage.write(&key("271828"), "{}".into(), Expiry::Never).await.must("write");
    assert_eq!(id().await, before);
    let expiring = storage.write(&key("271828"), "1".into(), Expiry::after_secs(60)).await;
    expiring.fails(ErrorKind::Unsupported, "write what expires");
    storage.holds(&key("271828"), b"{}", "after a refused write").await;
}

pub(crate) async fn turns(context: Context<Place>) {
    let storage = context.target.open().await;
    let collection = documents(&context.factory.server, context.target.space()).await;
    storage.write(&key("k"), r#"{"n":1}"#.into(), Expiry::Never).await.must("write");
    let seen = storage.read(&key("k")).await.must("read").must("find it").version.must("have a version");
    write_as_grammy(&collection, "k", doc! { "n": 2 }.into()).await;
    let late = storage.write_if(&key("k"), "3".into(), Expiry::Never, Condition::At(seen)).await;
    late.fails(ErrorKind::Conflict, "write over what grammY wrote");
    storage.holds(&key("k"), br#"{"n":2}"#, "what grammY wrote").await;
    let add = |session: Option<Value>| {
        let mut session = session?;
        session["n"] = Value::from(session["n"].as_i64()? + 1);
        Some(session)
    };
    let count = storage.update_as(&key("k"), Expiry::Never, add).await;
    assert_eq!(count.must("update"), Some(serde_json::json!({ "n": 3 })));
    assert_eq!(collection.count_documents(doc! {}).await.must("count"), 1);
}

/// A query by value would look into arrays, and take operators for what they are.
pub(crate) async fn whole_value(context: Context<Place>) {
    let storage = context.target.open().await;
    let collection = documents(&context.factory.server, context.target.space()).await;
    for (old, other) in [
        (r#""a""#, doc! { "x": ["a", "b"] }),
        (r#"{"$exists":true}"#, doc! { "x": 1 }),
        // The order of members is left open: to MongoDB it makes a difference, to JSON none.
        (r#"{"a":1,"b":2}"#, doc! { "x": { "a": 1, "b": 2, "c": 3 } }),
        ("null", doc! { "x": [null] }),
    ] {
        storage.write(&key("k"), old.into(), Expiry::Never).await.must("write");
        let version = storage.read(&key("k")).await.must("read").must("find it").version;
        let at = Condition::At(version.must("have a version"));
        let other = other.get("x").cloned().must("have a value");
        write_as_grammy(&collection, "k", other).await;
        let late = storage.write_if(&key("k"), "1".into(), Expiry::Never, at.clone()).await;
        late.fails(ErrorKind::Conflict, "compare with another value");
        storage.write(&key("k"), old.into(), Expiry::Never).await.must("write");
        storage.write_if(&key("k"), "1".into(), Expiry::Never, at).await.must("compare with the same value");
    }
}

/// Collections that Node made, with and without an index of its own.
pub(crate) async fn indexes_of_node(context: Context<Place>) {
    let collection = documents(&context.factory.server, context.target.space()).await;
    for unique in [None, Some(true)] {
        if unique.is_some() {
            let options = IndexOptions::builder().unique(unique).name("sessions".to_owned()).build();
            let index = IndexModel::builder().keys(doc! { "key": 1 }).options(options).build();
            collection.create_index(index).await.must("create an index");
        }
        write_as_grammy(&collection, "k", doc! { "n": 1 }.into()).await;
        let looked = context.factory.open_existing(context.target.space()).await;
        assert_eq!(looked.read(&key("k")).await.must("read").must("find it").value, r#"{"n":1}"#);
        context.target.open().await.holds(&key("k"), br#"{"n":1}"#, "what Node wrote").await;
        collection.drop().await.must("drop the collection");
    }
}

//! grammY's documents, written by it and by us.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{ErrorKind, Expiry};
use larder_testkit::{Context, Fails, Must};
use mongodb::{
    IndexModel,
    bson::{
        Binary, Bson, DateTime, Decimal128, Document, RawDocumentBuf, Regex, Timestamp, doc, oid::ObjectId,
        spec::BinarySubtype,
    },
    options::IndexOptions,
};
use serde_json::Value;

use crate::places::{Place, documents, key, open};

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
        let record = storage.read(key(name)).await.must("read").must("find the session");
        let read: Value = serde_json::from_slice(&record.value).must("read JSON");
        // Exactly, integers beyond 32 bits included: `9007199254740991`, not `9007199254740991.0`.
        assert_eq!(&read, value, "{name}");
    }
    assert!(storage.delete(key("424242")).await.must("delete"));
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
        assert_eq!(document.get("value"), Some(&as_javascript(&value)), "{name}");
    }
    // An update keeps the document.
    let id = async || -> ObjectId {
        let document = collection.find_one(doc! { "key": "271828" }).await.must("look").must("find it");
        document.get_object_id("_id").must("have an ObjectId")
    };
    let before = id().await;
    storage.write(key("271828"), "{}").await.must("write");
    assert_eq!(id().await, before);
    let expiring = storage.write(key("271828"), "1").expiry(Expiry::after_secs(60)).await;
    expiring.fails(ErrorKind::Unsupported, "write what expires");
    storage.holds(&key("271828"), b"{}", "after a refused write").await;
}

pub(crate) async fn turns(context: Context<Place>) {
    let storage = context.target.open().await;
    let collection = documents(&context.factory.server, context.target.space()).await;
    storage.write(key("k"), r#"{"n":1}"#).await.must("write");
    let seen = storage.read(key("k")).await.must("read").must("find it").version.must("have a version");
    write_as_grammy(&collection, "k", doc! { "n": 2 }.into()).await;
    let late = storage.write(key("k"), "3").if_at(seen).await;
    late.fails(ErrorKind::Conflict, "write over what grammY wrote");
    storage.holds(&key("k"), br#"{"n":2}"#, "what grammY wrote").await;
    let add = |session: Option<Value>| {
        let mut session = session?;
        session["n"] = Value::from(session["n"].as_i64()? + 1);
        Some(session)
    };
    let count = storage.update(&key("k"), Expiry::Never, add).await;
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
        storage.write(key("k"), old).await.must("write");
        let version = storage.read(key("k")).await.must("read").must("find it").version;
        let version = version.must("have a version");
        let other = other.get("x").cloned().must("have a value");
        write_as_grammy(&collection, "k", other).await;
        let late = storage.write(key("k"), "1").if_at(version.clone()).await;
        late.fails(ErrorKind::Conflict, "compare with another value");
        storage.write(key("k"), old).await.must("write");
        storage.write(key("k"), "1").if_at(version).await.must("compare with the same value");
    }
}

/// A session with every type that a bot can have in one, and documents that only look like types.
fn typed() -> Document {
    let binary = |subtype| Binary { subtype, bytes: b"\0\xff".to_vec() };
    doc! {
        "count": 1,
        "big": 1_700_000_000_000_f64,
        "half": 0.5,
        "since": DateTime::from_millis(1_600_000_000_100),
        "before": DateTime::from_millis(-1),
        "photo": binary(BinarySubtype::Generic),
        "uuid": binary(BinarySubtype::Uuid),
        "owner": ObjectId::parse_str("507f1f77bcf86cd799439011").must("parse"),
        "filter": Regex { pattern: "^a\\d+$".to_owned(), options: "im".to_owned() },
        "price": "1.50".parse::<Decimal128>().must("parse"),
        "long": 1_000_000_000_000_000_000_i64,
        "at": Timestamp { time: 5, increment: 7 },
        "code": Bson::JavaScriptCode("() => 1".to_owned()),
        "lowest": Bson::MinKey,
        "ref": { "$ref": "users", "$id": ObjectId::parse_str("507f1f77bcf86cd799439012").must("parse") },
        "lookalikes": [
            { "$date": "2020-09-13T12:26:40.123Z" },
            { "$oid": "507f1f77bcf86cd799439011" },
            { "$literal": { "$numberDecimal": "1.50" } },
        ],
        "nested": [{ "since": DateTime::from_millis(0) }],
    }
}

/// The value as it is stored. Not by way of serde, which takes `{$oid: "..."}` for an ObjectId.
async fn stored(collection: &mongodb::Collection<Document>, filter: Document) -> Bson {
    let collection = collection.clone_with_type::<RawDocumentBuf>();
    let document = collection.find_one(filter).await.must("look").must("find it");
    Bson::try_from(document.get("value").must("look").must("have a value")).must("be BSON")
}

pub(crate) async fn untouched_members(context: Context<Place>) {
    let storage = context.target.open().await;
    let collection = documents(&context.factory.server, context.target.space()).await;
    write_as_grammy(&collection, "k", typed().into()).await;
    for count in 2..4 {
        let add = |session: Option<Value>| {
            let mut session = session?;
            session["count"] = Value::from(count);
            Some(session)
        };
        storage.update(&key("k"), Expiry::Never, add).await.must("update");
        let mut expected = typed();
        expected.insert("count", count);
        assert_eq!(stored(&collection, doc! { "key": "k" }).await, Bson::Document(expected));
    }
}

pub(crate) async fn copied_types(context: Context<Place>) {
    let storage = context.target.open().await;
    let collection = documents(&context.factory.server, context.target.space()).await;
    write_as_grammy(&collection, "k", typed().into()).await;
    for options in ["&layout=grammy", "&values=document"] {
        let target = context.target.beside(if options.contains("grammy") { "-a" } else { "-b" });
        let copy = open(&context.factory.server, target.space(), options).await;
        let record = storage.read(key("k")).await.must("read").must("find it");
        copy.write(key("k"), record.value.clone()).await.must("write the copy");
        let collection = documents(&context.factory.server, target.space()).await;
        let mut expected = typed();
        let Bson::Document(found) = stored(&collection, doc! {}).await else { panic!("not a document") };
        if !options.contains("grammy") {
            // There numbers are not JavaScript's: an integer needs no mark to stay an int64, and each is
            // of the type that holds it.
            let long = doc! { "$numberLong": "1000000000000000000" };
            expected.insert("long", long);
            expected.insert("big", 1_700_000_000_000_i64);
        }
        assert_eq!(found, expected, "{options}");
        collection.drop().await.must("drop the copy");
    }
    // A copy that lost a type does not read as equal.
    let read = async |name: &str| storage.read(key(name)).await.must("read").must("find it").value;
    for value in [
        Bson::DateTime(DateTime::from_millis(0)),
        Bson::ObjectId(ObjectId::parse_str("507f1f77bcf86cd799439011").must("parse")),
        Bson::Decimal128("1.50".parse().must("parse")),
        Bson::Double(f64::NAN),
    ] {
        write_as_grammy(&collection, "typed", value).await;
        let text: Value = serde_json::from_slice(&read("typed").await).must("parse");
        write_as_grammy(&collection, "lost", as_javascript(&text)).await;
        assert_ne!(read("typed").await, read("lost").await, "{text}");
    }
}

pub(crate) async fn not_a_number(context: Context<Place>) {
    let storage = context.target.open().await;
    let collection = documents(&context.factory.server, context.target.space()).await;
    let session = doc! { "score": f64::NAN, "best": f64::INFINITY, "n": 1 };
    write_as_grammy(&collection, "k", session.into()).await;
    let add = |session: Option<Value>| {
        let mut session = session?;
        session["n"] = Value::from(session["n"].as_i64()? + 1);
        Some(session)
    };
    storage.update(&key("k"), Expiry::Never, add).await.must("update a session with a NaN");
    let Bson::Document(session) = stored(&collection, doc! { "key": "k" }).await else {
        panic!("not a document")
    };
    assert!(matches!(session.get("score"), Some(Bson::Double(score)) if score.is_nan()), "{session}");
    assert_eq!(session.get("best"), Some(&Bson::Double(f64::INFINITY)));
    assert_eq!(session.get("n"), Some(&Bson::Int32(2)));
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
        assert_eq!(looked.read(key("k")).await.must("read").must("find it").value, r#"{"n":1}"#);
        context.target.open().await.holds(&key("k"), br#"{"n":1}"#, "what Node wrote").await;
        collection.drop().await.must("drop the collection");
    }
}

/// Keys that are not strings, and keys that several documents have.
pub(crate) async fn damaged_keys(context: Context<Place>) {
    let collection = documents(&context.factory.server, context.target.space()).await;
    write_as_grammy(&collection, "fine", 1.into()).await;
    let mut all = vec![
        doc! { "value": 1 },
        doc! { "key": 5, "value": 1 },
        doc! { "key": ["fine", "a"], "value": 1 },
        doc! { "key": "a\u{0}b", "value": 1 },
        doc! { "key": "x".repeat(600), "value": 1 },
    ];
    // The doubled keys straddle a page of any size.
    all.extend((0..450).flat_map(|number| {
        [doc! { "key": format!("k{number}"), "value": 1 }, doc! { "key": format!("k{number}"), "value": 2 }]
    }));
    collection.insert_many(all).await.must("insert by hand");
    let storage = context.factory.open_existing(context.target.space()).await;
    let kinds = |errors: Vec<ErrorKind>| {
        let count = |kind| errors.iter().filter(|error| **error == kind).count();
        (count(ErrorKind::InvalidKey), count(ErrorKind::Corrupt), errors.len())
    };
    let keys: Vec<_> = storage.keys("").collect().await;
    let entries: Vec<_> = storage.entries("").map_ok(|(key, _)| key).collect().await;
    for listed in [keys, entries] {
        assert_eq!(listed.iter().filter(|key| key.is_ok()).count(), 451);
        let errors = listed.into_iter().filter_map(|key| key.err().map(|error| error.kind())).collect();
        assert_eq!(kinds(errors), (5, 450, 455));
    }
}

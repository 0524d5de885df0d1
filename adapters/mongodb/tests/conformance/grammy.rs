//! grammY's documents, written by grammY and by Larder.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{Applied, Change, ErrorKind, Expiry, ReadOptions};
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
    let text = include_str!("../../../../tests/fixtures/grammy/expected.json");
    serde_json::from_str(text).must("parse the fixture")
}

/// A value as the JavaScript driver stores it: integers of 32 bits as integers, and all other numbers as
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

/// `collection.updateOne({key}, {$set: {key, value}}, {upsert: true})`, as in grammY's adapter.
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
        // Exactly, also integers beyond 32 bits: `9007199254740991`, not `9007199254740991.0`.
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
    expiring.fails(ErrorKind::Unsupported, "write an entry that expires");
    storage.holds(&key("271828"), b"{}", "after a refused write").await;
}

pub(crate) async fn turns(context: Context<Place>) {
    let storage = context.target.open().await;
    let collection = documents(&context.factory.server, context.target.space()).await;
    storage.write(key("k"), r#"{"n":1}"#).await.must("write");
    let seen = storage.read(key("k")).await.must("read").must("find it").version.must("have a version");
    write_as_grammy(&collection, "k", doc! { "n": 2 }.into()).await;
    let late = storage.write(key("k"), "3").if_at(seen).await;
    late.fails(ErrorKind::Conflict, "overwrite a session of grammY");
    storage.holds(&key("k"), br#"{"n":2}"#, "the session of grammY").await;
    let add = |session: Option<Value>| {
        let mut session = session?;
        session["n"] = Value::from(session["n"].as_i64()? + 1);
        Some(session)
    };
    let count = storage.update(&key("k"), Expiry::Never, add).await;
    assert_eq!(count.must("update"), Some(serde_json::json!({ "n": 3 })));
    assert_eq!(collection.count_documents(doc! {}).await.must("count"), 1);
}

/// A query by value would look into arrays, and evaluate operators.
pub(crate) async fn whole_value(context: Context<Place>) {
    let storage = context.target.open().await;
    let collection = documents(&context.factory.server, context.target.space()).await;
    for (old, other) in [
        (r#""a""#, doc! { "x": ["a", "b"] }),
        (r#"{"$exists":true}"#, doc! { "x": 1 }),
        // In another order of members, which matters to MongoDB and not to JSON.
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

/// A session with every type that a bot can store, and documents that only look like types.
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

/// The stored value. Not through serde, which reads `{$oid: "..."}` as an ObjectId.
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
    for options in ["&layout=grammy", "&values=json"] {
        let target = context.target.beside(if options.contains("grammy") { "-a" } else { "-b" });
        let copy = open(&context.factory.server, target.space(), options).await;
        let record = storage.read(key("k")).await.must("read").must("find it");
        copy.write(key("k"), record.value.clone()).await.must("write the copy");
        let put = |name: &str| Change::put(key(name), record.value.clone(), Expiry::Never);
        for result in copy.apply(vec![put("a"), put("b")]).await {
            result.must("write copies in a batch");
        }
        let collection = documents(&context.factory.server, target.space()).await;
        let mut expected = typed();
        if !options.contains("grammy") {
            // Numbers there are not JavaScript's: an integer stays an int64 without a mark, and each has
            // the type that can hold it.
            let long = doc! { "$numberLong": "1000000000000000000" };
            expected.insert("long", long);
            expected.insert("big", 1_700_000_000_000_i64);
        }
        let field = if options.contains("grammy") { "key" } else { "_id" };
        for name in ["k", "a", "b"] {
            let found = stored(&collection, doc! { field: name }).await;
            assert_eq!(found, Bson::Document(expected.clone()), "{options} {name}");
        }
        collection.drop().await.must("drop the copy");
    }
    // A copy that lost a type is not equal.
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

/// Collections of Node, with and without its own index.
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
        context.target.open().await.holds(&key("k"), br#"{"n":1}"#, "the session of Node").await;
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
        doc! { "key": Binary { subtype: BinarySubtype::Generic, bytes: b"k\xff".to_vec() }, "value": 1 },
        doc! { "key": "a\u{0}b", "value": 1 },
        doc! { "key": "x".repeat(600), "value": 1 },
    ];
    // The duplicate keys cross the end of a page of any size.
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
        let named = listed.iter().filter_map(|key| key.as_ref().err()?.stored_name());
        assert_eq!(named.collect::<Vec<_>>(), [&b"a\0b"[..], "x".repeat(600).as_bytes(), b"k\xff"]);
        let errors = listed.into_iter().filter_map(|key| key.err().map(|error| error.kind())).collect();
        assert_eq!(kinds(errors), (6, 450, 456));
    }
}

/// Without its index there can be several documents of one key. A read returns the one that a write
/// changes.
pub(crate) async fn first_of_doubled(context: Context<Place>) {
    let collection = documents(&context.factory.server, context.target.space()).await;
    let doubled = (1..=3).map(|value| doc! { "key": "k", "value": value });
    collection.insert_many(doubled).await.must("insert by hand");
    let storage = open(&context.factory.server, context.target.space(), "&layout=grammy&setup=false").await;
    let holds = async |value: &str| {
        assert_eq!(storage.read(key("k")).await.must("read").must("find it").value, value);
        let read = storage.read_many(&[key("k"), key("k")], &ReadOptions::new()).await;
        for record in read {
            assert_eq!(record.must("read many").must("find it").value, value);
        }
    };
    holds("1").await;
    storage.write(key("k"), "4").await.must("write");
    holds("4").await;
    for result in storage.apply(["5", "6"].map(|value| put("k", value)).into()).await {
        result.must("write in a batch");
    }
    holds("6").await;
}

fn put(name: &str, value: &'static str) -> Change {
    Change::put(key(name), value, Expiry::Never)
}

/// A query for a string finds lists that hold it too.
pub(crate) async fn listed_keys(context: Context<Place>) {
    let collection = documents(&context.factory.server, context.target.space()).await;
    let foreign = [doc! { "key": ["a", "b"], "value": "theirs" }, doc! { "key": ["a"], "value": "theirs" }];
    collection.insert_many(foreign).await.must("insert by hand");
    let storage = open(&context.factory.server, context.target.space(), "&layout=grammy&setup=false").await;
    storage.write(key("b"), "1").await.must("write beside a list");
    assert!(storage.read(key("a")).await.must("read").is_none());
    let read = storage.read_many(&["a", "b"].map(key), &ReadOptions::new()).await;
    let read: Vec<_> = read.into_iter().map(|record| record.must("read beside a list").is_some()).collect();
    assert_eq!(read, [false, true]);
    assert!(!storage.delete(key("a")).await.must("delete"));
    storage.write(key("a"), "2").if_present().await.fails(ErrorKind::Conflict, "write over a list");
    for (batch, there) in
        [([Change::delete(key("a")), put("c", "1")], false), ([put("a", "1"), put("c", "2")], true)]
    {
        for result in storage.apply(batch.into()).await {
            assert_ne!(result.must("a batch"), Applied::Deleted(true));
        }
        assert_eq!(storage.contains(&key("a")).await.must("look"), there);
    }
    assert_eq!(storage.clear("").await.must("clear"), 3);
    assert_eq!(collection.count_documents(doc! { "value": "theirs" }).await.must("count"), 2);
}

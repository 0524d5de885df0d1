//! The documents in the collection, and documents of other programs.

use std::time::Duration;

use futures_util::StreamExt;
use larder_core::{Change, ErrorKind, Expiry, ReadOptions};
use larder_testkit::{Context, Fails, Must, until};
use mongodb::bson::{Binary, Bson, Document, doc, spec::BinarySubtype};

use crate::places::{Place, documents, key, open};

async fn stored(context: &Context<Place>, name: &str) -> Document {
    let collection = documents(&context.factory.server, context.target.space()).await;
    collection.find_one(doc! { "_id": name }).await.must("look").must("find the document")
}

pub(crate) async fn binary(context: Context<Place>) {
    let storage = context.target.open().await;
    storage.write(key("permanent"), "\0\u{ff}").await.must("write");
    storage.write(key("an hour"), "v").expiry(Expiry::after_secs(3_600)).await.must("write");
    let document = stored(&context, "permanent").await;
    assert_eq!(document.keys().collect::<Vec<_>>(), ["_id", "value", "version"]);
    let bytes = "\0\u{ff}".as_bytes().to_vec();
    assert_eq!(document.get("value"), Some(&Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes })));
    document.get_i64("version").must("have a version");

    let document = stored(&context, "an hour").await;
    assert_eq!(document.keys().collect::<Vec<_>>(), ["_id", "value", "version", "expires_at"]);
    let left = document.get_datetime("expires_at").must("have an expiry").timestamp_millis()
        - larder_core::clock::unix_millis();
    assert!((3_500_000..=3_700_000).contains(&left), "{left}");
    // A touch changes only the expiry; a write without one removes it.
    storage.touch(key("an hour"), Expiry::Never).await.must("touch");
    assert_eq!(stored(&context, "an hour").await.get("expires_at"), None);
    storage.write(key("an hour"), "v").expiry(Expiry::after_secs(3_600)).await.must("write");
    storage.write(key("an hour"), "w").await.must("write");
    assert_eq!(stored(&context, "an hour").await.get("expires_at"), None);
}

pub(crate) async fn document(context: Context<Place>) {
    let storage = context.target.open().await;
    let text = r#"{"name":"Míša","count":5,"big":5000000000,"half":0.5,"list":[1,null,true],"id":18446744073709551615}"#;
    storage.write(key("k"), text).expiry(Expiry::after_secs(60)).await.must("write");
    let document = stored(&context, "k").await;
    let value = document.get_document("value").must("be a document");
    assert_eq!(value.get("count"), Some(&Bson::Int32(5)));
    assert_eq!(value.get("big"), Some(&Bson::Int64(5_000_000_000)));
    assert_eq!(value.get("half"), Some(&Bson::Double(0.5)));
    assert!(matches!(value.get("id"), Some(Bson::Decimal128(_))));
    // It can be queried.
    let collection = documents(&context.factory.server, context.target.space()).await;
    let found = collection.count_documents(doc! { "value.name": "Míša", "value.count": { "$gt": 4 } }).await;
    assert_eq!(found.must("count"), 1);
    let read = storage.read(key("k")).await.must("read").must("find it");
    assert_eq!(read.value, text);
    // Types that JSON lacks are read as extended JSON.
    let change = doc! { "$set": { "value.at": mongodb::bson::DateTime::from_millis(0) } };
    collection.update_one(doc! { "_id": "k" }, change).await.must("change by hand");
    let read: serde_json::Value = storage.read_as(&key("k")).await.must("read").must("find it");
    assert_eq!(read["at"]["$date"], "1970-01-01T00:00:00Z");
}

pub(crate) async fn dollars(context: Context<Place>) {
    let storage = context.target.open().await;
    for text in [
        r#""$value""#,
        r#""$$ROOT""#,
        r#"{"$set":{"a":1}}"#,
        r#"{"$literal":"$x","a.b":{"$where":"1"},"":["$$NOW"]}"#,
        r#"["$a",{"$eq":[1,1]}]"#,
    ] {
        for name in ["$k", "$$ROOT", "a.b", "$where"] {
            let key = key(name);
            let found = async |what: &str| {
                let read = storage.read(&key).await.must("read").must("find it");
                assert_eq!(read.value, text, "{what}: {name} = {text}");
                read.version.must("have a version")
            };
            storage.write(&key, text).await.must("write");
            found("permanent").await;
            storage.write(&key, text).expiry(Expiry::after_secs(60)).await.must("write");
            let version = found("expiring").await;
            let at = storage.write(&key, text).expiry(Expiry::after_secs(60)).if_at(version);
            at.await.must("write if unchanged");
            found("if unchanged").await;
            storage.delete(&key).await.must("delete");
            let absent = storage.write(&key, text).expiry(Expiry::after_secs(60)).if_absent();
            absent.await.must("write if absent");
            found("if absent").await;
        }
    }
}

pub(crate) async fn refused(context: Context<Place>) {
    let storage = context.target.open().await;
    storage.write(key("k"), "1").await.must("write");
    for text in ["not json", r#"{"a":1,"a":2}"#, r#"{"a\u0000":1}"#, "", "\"\\ud800\""] {
        let error = storage.write(key("k"), text).await;
        error.fails(ErrorKind::InvalidValue, "write a value that BSON cannot hold");
    }
    let deep = format!("{}{}", "[".repeat(99), "]".repeat(99));
    storage.write(key("deep"), deep.clone()).await.must("write 99 levels");
    assert_eq!(storage.read(key("deep")).await.must("read").must("find it").value, deep);
    let deeper = format!("[{deep}]");
    let error = storage.write(key("k"), deeper).await;
    error.fails(ErrorKind::InvalidValue, "write 100 levels");
    assert_eq!(storage.read(key("k")).await.must("read").must("find it").value, "1");
}

pub(crate) async fn removed_by_the_server(context: Context<Place>) {
    let storage = context.target.open().await;
    storage.write(key("gone"), "v").expiry(Expiry::after_millis(50)).await.must("write");
    storage.write(key("stays"), "v").await.must("write");
    let collection = documents(&context.factory.server, context.target.space()).await;
    // The TTL monitor runs once a minute.
    until("the server removes the expired document", Duration::from_secs(110), || async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        collection.count_documents(doc! {}).await.must("count") == 1
    })
    .await;
    assert!(storage.contains(&key("stays")).await.must("look"));
}

pub(crate) async fn largest(context: Context<Place>) {
    let storage = context.target.open().await;
    let limit = storage.info().max_value.must("have a limit");
    let limit = usize::try_from(limit).must("fit");
    let long = key("k".repeat(512));
    let value = |seed| storage.bulk(limit, seed);
    let holds = async |seed, what: &str| storage.holds(&long, &value(seed), what).await;
    storage.write(&long, value(1)).await.must("write");
    holds(1, "permanent").await;
    storage.write(&long, value(2)).expiry(Expiry::after_secs(600)).await.must("write with an expiry");
    holds(2, "with an expiry").await;
    let version = storage.read(&long).await.must("read").must("find it").version.must("have a version");
    let at = storage.write(&long, value(3)).expiry(Expiry::after_secs(600)).if_at(version);
    at.await.must("write if unchanged");
    holds(3, "if unchanged").await;
    storage.delete(&long).await.must("delete");
    let absent = storage.write(&long, value(4)).expiry(Expiry::after_secs(600)).if_absent();
    absent.await.must("write if absent");
    holds(4, "if absent").await;
    let put = |key, seed| Change::put(key, value(seed), Expiry::Never);
    for result in storage.apply(vec![put(long.clone(), 5), put(key("b"), 6)]).await {
        result.must("write many");
    }
    holds(5, "in a batch").await;
    let over = storage.bulk(limit + 1, 7);
    storage.write(&long, over).await.fails(ErrorKind::TooLarge, "a byte more");
    holds(5, "after a refused write").await;
}

pub(crate) async fn foreign(context: Context<Place>) {
    let kind_of = |error: &larder_core::Error| error.kind();
    let storage = context.target.open().await;
    storage.write(key("b"), "v").await.must("write");
    let collection = documents(&context.factory.server, context.target.space()).await;
    let foreign = [
        doc! { "_id": "a", "value": { "not": "bytes" }, "version": 1_i64 },
        doc! { "_id": "c", "expires_at": "soon" },
        doc! { "_id": "d\n", "value": Binary { subtype: BinarySubtype::Generic, bytes: vec![1] } },
        // These keys are not strings.
        doc! { "value": 1 },
        doc! { "_id": 5 },
        doc! { "_id": Binary { subtype: BinarySubtype::Generic, bytes: b"e\xff".to_vec() } },
    ];
    collection.insert_many(foreign).await.must("insert by hand");
    storage.read(key("a")).await.fails(ErrorKind::Corrupt, "a value of another type");
    storage.read(key("c")).await.fails(ErrorKind::Corrupt, "no value");
    // A damaged entry fails alone.
    let read = storage.read_many(&["a", "b", "d", "c"].map(key), &ReadOptions::new().with_ttl()).await;
    let kinds: Vec<_> =
        read.iter().map(|record| record.as_ref().map(Option::is_some).map_err(kind_of)).collect();
    assert_eq!(kinds, [Err(ErrorKind::Corrupt), Ok(true), Ok(false), Err(ErrorKind::Corrupt)]);
    assert!(storage.read(key("b")).await.must("read").is_some());
    let kind_of = |error: &larder_core::Error| error.kind();
    let keys: Vec<_> = storage.keys("").collect().await;
    let good: Vec<_> =
        keys.iter().filter_map(|key| key.as_ref().ok()).map(larder_core::Key::as_str).collect();
    assert_eq!(good, ["a", "b", "c"]);
    // The key that Larder rejects, and the three that are not strings.
    let bad: Vec<_> = keys.iter().filter_map(|key| key.as_ref().err()).map(kind_of).collect();
    assert_eq!(bad, [ErrorKind::InvalidKey; 4]);
    // Text and bytes are reported as names; a number and an ObjectId are not.
    let names = |errors: Vec<&larder_core::Error>| {
        let invalid = errors.into_iter().filter(|error| error.kind() == ErrorKind::InvalidKey);
        invalid.filter_map(|error| error.stored_name().map(<[u8]>::to_vec)).collect::<Vec<_>>()
    };
    let expected = [b"d\n".to_vec(), b"e\xff".to_vec()];
    assert_eq!(names(keys.iter().filter_map(|key| key.as_ref().err()).collect()), expected);
    let entries: Vec<_> = storage.entries("").collect().await;
    let good: Vec<_> = entries.iter().filter_map(|entry| entry.as_ref().ok()).collect();
    assert_eq!(good.len(), 1);
    let bad: Vec<_> = entries.iter().filter_map(|entry| entry.as_ref().err()).map(kind_of).collect();
    let (invalid, corrupt) = (ErrorKind::InvalidKey, ErrorKind::Corrupt);
    assert_eq!(bad, [corrupt, corrupt, invalid, invalid, invalid, invalid]);
    assert_eq!(names(entries.iter().filter_map(|entry| entry.as_ref().err()).collect()), expected);
    // A key that is not a string has no prefix.
    assert_eq!(storage.keys("a").collect::<Vec<_>>().await.len(), 1);
    // It can be replaced.
    storage.write(key("a"), "v").await.must("write over it");
    assert!(storage.read(key("a")).await.must("read").is_some());
    // A clear removes the keys that a listing returns, and keeps foreign documents.
    assert_eq!(storage.clear("").await.must("clear"), 3);
    assert_eq!(collection.count_documents(doc! {}).await.must("count"), 4);
}

pub(crate) async fn by_hand(context: Context<Place>) {
    let storage = context.target.open().await;
    let collection = documents(&context.factory.server, context.target.space()).await;
    let value = Binary { subtype: BinarySubtype::Generic, bytes: b"v".to_vec() };
    collection.insert_one(doc! { "_id": "k", "value": value }).await.must("insert by hand");
    let seen = storage.read(key("k")).await.must("read").must("find it").version.must("have a version");
    let absent = storage.write(key("k"), "w").if_absent().await;
    absent.fails(ErrorKind::Conflict, "write over it as absent");
    storage.write(key("k"), "w").if_at(seen.clone()).await.must("write if unchanged");
    let again = storage.write(key("k"), "x").if_at(seen.clone()).await;
    again.fails(ErrorKind::Conflict, "write at the old version");
    storage.delete(key("k")).if_at(seen).await.fails(ErrorKind::Conflict, "delete at the old version");
}

pub(crate) async fn partial_failures(context: Context<Place>) {
    let storage = open(&context.factory.server, context.target.space(), "&values=json").await;
    let write = |name: &str, text: &str| Change::put(key(name), text.to_owned(), Expiry::Never);
    let writes =
        vec![write("a", "1"), write("b", "no json"), write("c", "3"), write("a", "4"), write("c", "[")];
    let kinds = async |writes| -> Vec<_> {
        let results = storage.apply(writes).await.into_iter();
        results.map(|result| result.err().map(|error| error.kind())).collect()
    };
    let invalid = Some(ErrorKind::InvalidValue);
    assert_eq!(kinds(writes).await, [None, invalid, None, None, invalid]);
    for (name, value) in [("a", "4"), ("c", "3")] {
        assert_eq!(storage.read(key(name)).await.must("read").must("find it").value, value);
    }
    // A unique index on another field makes the server reject single writes.
    let collection = documents(&context.factory.server, context.target.space()).await;
    let options = mongodb::options::IndexOptions::builder().unique(true).build();
    let index = mongodb::IndexModel::builder().keys(doc! { "value": 1 }).options(options).build();
    collection.create_index(index).await.must("create an index");
    let results = storage.apply(vec![write("x", "10"), write("y", "4"), write("z", "12")]).await;
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert!(!format!("{results:?}").contains("dup key"));
    for name in ["x", "z"] {
        assert!(storage.contains(&key(name)).await.must("look"), "{name}");
    }
}

/// More keys that are not strings than fit on a page, of every type that sorts before or after strings.
pub(crate) async fn strays(context: Context<Place>) {
    let storage = context.target.open().await;
    storage.write(key("k"), "v").await.must("write");
    let collection = documents(&context.factory.server, context.target.space()).await;
    let numbers = (0..1_200).map(|number| doc! { "_id": number });
    let others = (0..1_200).map(|number| doc! { "_id": { "n": number } });
    collection.insert_many(numbers.chain(others)).await.must("insert by hand");
    let keys: Vec<_> = storage.keys("").collect().await;
    assert_eq!(keys.len(), 2_401);
    assert_eq!(keys.iter().filter(|key| key.is_ok()).count(), 1);
}

/// Every finite double and every integer of 64 bits is stored exactly or rejected.
pub(crate) async fn numbers(context: Context<Place>) {
    let storage = context.target.open().await;
    for text in [
        "1.7976931348623157e308",
        "-1.7976931348623157e308",
        "2.2250738585072014e-308",
        "5e-324",
        "-5e-324",
        "-0.0",
        "0.1",
        "139.39000000000001",
        "-120.65487365123505",
        "1e21",
        "1e22",
        "0.30000000000000004",
        "9007199254740993.0",
        "9223372036854775807.0",
    ] {
        let double: f64 = text.parse().must("parse");
        let value = serde_json::to_vec(&double).must("serialize");
        storage.write(key("k"), value).await.must("write");
        let read = storage.read(key("k")).await.must("read").must("find it").value;
        let read: f64 = std::str::from_utf8(&read).must("be text").parse().must("be a number");
        assert_eq!(read.to_bits(), double.to_bits(), "{text}");
    }
    for text in [
        "0",
        "-1",
        "2147483648",
        "-2147483649",
        "9007199254740993",
        "-9007199254740993",
        "9223372036854775807",
        "-9223372036854775808",
        "9223372036854775808",
        "18446744073709551615",
        "1000000000000000000",
        "1152921504606846976",
        "18446744073709551614",
    ] {
        storage.write(key("k"), text).await.must("write");
        assert_eq!(storage.read(key("k")).await.must("read").must("find it").value, text);
    }
}

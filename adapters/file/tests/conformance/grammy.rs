//! grammY's layout: sessions of real bots are read, and written back byte for byte.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{Bytes, Change, ErrorKind, Expiry, Versions};
use larder_file::Config;
use larder_testkit::{Fails, Must, Suite};
use serde_json::Value;

use crate::spaces::{Directories, entries, files, key};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/grammy")
}

pub(crate) fn cases(suite: Suite<Directories>) -> Suite<Directories> {
    suite
        .case("sessions_of_grammy_are_read", |_| async move {
            let expected = fs::read(fixtures().join("expected.json")).must("read expected.json");
            let expected: BTreeMap<String, Value> =
                serde_json::from_slice(&expected).must("parse expected.json");
            let url = format!("file:{}?layout=grammy", fixtures().join("file").display());
            let before = files(&fixtures().join("file"));
            let storage = larder_file::connect(&url).await.must("open");
            let read: BTreeMap<String, Value> = storage
                .entries("")
                .map_ok(|(key, record)| {
                    let value = serde_json::from_slice(&record.value).must("parse a value");
                    (key.to_string(), value)
                })
                .try_collect()
                .await
                .must("list");
            assert_eq!(read, expected);
            for (text, value) in &expected {
                let record = storage.read(key(text)).await.must("read").must("a session");
                assert_eq!(serde_json::from_slice::<Value>(&record.value).must("parse"), *value);
                assert!(!record.value.contains(&b'\t'), "it comes compact");
                assert!(storage.contains(&key(text)).await.must("contains"));
            }
            assert_eq!(storage.keys("-100").count().await, 1);
            assert!(storage.read(key("42")).await.must("read").is_none());
            storage.close().await.must("close");
            assert_eq!(files(&fixtures().join("file")), before, "reading adds nothing to the directory");
        })
        .case("writing_back_keeps_every_byte", |context| async move {
            for (from, count) in [("file", 5), ("file-enhanced", 5)] {
                let from = fixtures().join(from);
                let target =
                    context.factory.path(context.target.space()).join(from.file_name().must("a name"));
                let source = Config::new().directory(&from).layout(larder_file::Layout::Grammy);
                let source = source.connect().await.must("open the fixture");
                let copy = Config::new().directory(&target).layout(larder_file::Layout::Grammy);
                let copy = copy.connect().await.must("open a new directory");
                let mut found = source.entries("");
                while let Some(entry) = found.next().await {
                    let (key, record) = entry.must("list");
                    copy.write(&key, record.value).await.must("write");
                }
                assert_eq!(entries(&target), entries(&from));
                assert_eq!(entries(&target).len(), count);
                for file in entries(&from) {
                    let bytes = |root: &Path| fs::read(root.join(&file)).must("read a file");
                    assert_eq!(bytes(&target), bytes(&from), "{}", file.display());
                }
            }
            fs::create_dir_all(context.factory.path(context.target.space())).must("keep the space");
        })
        .case("unsafe_keys_are_rejected", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            for text in ["../../x", "a/b", "a\\b", ".", "..", "x..", "/tmp/x", &"k".repeat(251)] {
                let key = key(text);
                storage.write(&key, "1").await.fails(ErrorKind::InvalidKey, "write");
                storage.read(&key).await.fails(ErrorKind::InvalidKey, "read");
                storage.delete(&key).await.fails(ErrorKind::InvalidKey, "delete");
            }
            assert!(files(&context.factory.path(context.target.space())).is_empty());
            let writes = [("ok", "1"), ("a/b", "2"), ("ok2", "3")]
                .map(|(text, value)| Change::put(key(text), value, Expiry::Never));
            let mut results = storage.apply(writes.into()).await;
            results.remove(1).fails(ErrorKind::InvalidKey, "write it in a batch");
            assert!(results.iter().all(Result::is_ok));
            assert_eq!(storage.keys("").count().await, 2);
        })
        .case("names_are_cut_as_in_javascript", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            for (text, path) in [("7", "7/7.json"), ("x🍕", "🍕/x🍕.json"), ("🍕x", "\u{fffd}x/🍕x.json")]
            {
                storage.write(key(text), "{\"a\":[1,{}]}").await.must("write");
                let file = context.factory.path(context.target.space()).join(path);
                let text = fs::read_to_string(file).must("read the file");
                assert_eq!(text, "{\n\t\"a\": [\n\t\t1,\n\t\t{}\n\t]\n}");
            }
            assert_eq!(storage.keys("").count().await, 3);
        })
        .case("entries_do_not_expire_and_their_version_is_the_content", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            assert_eq!(storage.info().versions, Versions::Content);
            let write = storage.write(key("a"), "1").expiry(Expiry::after_secs(1)).await;
            write.fails(ErrorKind::Unsupported, "write with a time to live");
            storage.ttl(&key("a")).await.fails(ErrorKind::Unsupported, "ttl");
            storage.touch(key("a"), Expiry::Never).await.fails(ErrorKind::Unsupported, "touch");
            storage.write(key("a"), " [ 1.0 ] ").await.must("write");
            let record = storage.read(key("a")).await.must("read").must("a value");
            assert_eq!(record.value, "[1.0]");
            // grammY, or an editor, changes only white space.
            let file = context.factory.path(context.target.space()).join("a/a.json");
            fs::write(&file, "[1.0 ]").must("edit the file");
            storage
                .delete(key("a"))
                .if_at(record.version.must("a version"))
                .await
                .must("delete at a version");
            assert!(!file.exists());
        })
        .case("a_truncated_file_affects_only_its_key", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            storage.write(key("torn"), "{\"a\":[1,2]}").await.must("write");
            storage.write(key("born"), "1").await.must("write");
            let file = context.factory.path(context.target.space()).join("rn/torn.json");
            let whole = fs::read(&file).must("read the file");
            for length in 0..whole.len() {
                fs::write(&file, &whole[..length]).must("truncate the file");
                storage.read(key("torn")).await.fails(ErrorKind::Corrupt, "read");
                storage.contains(&key("torn")).await.fails(ErrorKind::Corrupt, "contains");
                assert!(storage.read(key("born")).await.must("read").is_some());
            }
            assert_eq!(storage.keys("").count().await, 2);
            let listed: Vec<_> = storage.entries("").collect().await;
            assert_eq!((listed.len(), listed.iter().filter(|entry| entry.is_ok()).count()), (2, 1));
            storage.write(key("torn"), "2").await.must("write");
            assert_eq!(storage.read(key("torn")).await.must("read").must("a value").value, "2");
        })
        .case("values_that_are_not_json_are_rejected", |context| async move {
            let storage = context.factory.storage(context.target.space()).await;
            for value in [&b""[..], b"{", b"\xff", b"undefined"] {
                let write = storage.write(key("a"), Bytes::from_static(value)).await;
                write.fails(ErrorKind::InvalidValue, "write");
            }
            assert!(storage.read(key("a")).await.must("read").is_none());
        })
}

//! The contents of the file, and other programs that use it.

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{Bytes, Change, Condition, ErrorKind, Expiry, Key};
use larder_sqlite::{Config, Mode};
use larder_testkit::{Fails, Must, Suite};
use sqlx::{AssertSqlSafe, Connection, Row};

use crate::spaces::Files;

fn key(text: &str) -> Key {
    Key::new(text).must("a key")
}

pub(crate) fn cases(suite: Suite<Files>) -> Suite<Files> {
    suite
        .case("info_reports_the_abilities", |context| async move {
            let handle = context.target.open().await;
            let info = handle.info();
            assert!(info.persistent && info.shared && info.lists_once && info.ordered);
            assert_eq!(info.max_value, Some(larder_sqlite::MAX_VALUE));
        })
        .case("the_table_is_as_documented", |context| async move {
            let handle = context.target.open().await;
            let before = larder_core::clock::unix_millis();
            handle
                .write(key("a"), Bytes::from_static(b"\xff\0"))
                .expiry(Expiry::after_secs(60))
                .await
                .must("write");
            handle.write(key("b"), Bytes::new()).await.must("write");
            let mut stranger = context.factory.stranger(context.target.space()).await;
            let sql = "SELECT key, value, typeof(value), version, expires_at FROM larder ORDER BY key";
            let rows = sqlx::query(sql).fetch_all(&mut stranger).await.must("read the table");
            assert_eq!(rows[0].get::<&str, _>(0), "a");
            assert_eq!(rows[0].get::<&[u8], _>(1), b"\xff\0");
            assert_eq!(rows[0].get::<&str, _>(2), "blob");
            assert_ne!(rows[0].get::<i64, _>(3), rows[1].get::<i64, _>(3));
            let left = rows[0].get::<i64, _>(4) - before;
            assert!((60_000..70_000).contains(&left), "{left}");
            assert_eq!(rows[1].get::<Option<i64>, _>(4), None);
            let mode: String =
                sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut stranger).await.must("ask");
            assert_eq!(mode, "wal");
        })
        .case("rows_of_other_programs_are_read_and_invalid_keys_reported", |context| async move {
            let handle = context.target.open().await;
            let mut stranger = context.factory.stranger(context.target.space()).await;
            for row in [
                "('b', 'text', 1, NULL)",
                "('a' || char(10), x'00', 2, NULL)",
                "(CAST(x'61ff' AS TEXT), x'00', 3, NULL)",
                "(x'62', x'00', 4, NULL)",
                "('gone', x'00', 5, 1)",
            ] {
                let sql = format!("INSERT INTO larder (key, value, version, expires_at) VALUES {row}");
                sqlx::query(AssertSqlSafe(sql)).execute(&mut stranger).await.must("insert");
            }
            let record = handle.read(key("b")).await.must("read").must("the row");
            assert_eq!(record.value, "text");
            handle.write(key("c"), Bytes::from_static(b"1")).await.must("write");
            let mut good = Vec::new();
            let mut bad = Vec::new();
            let mut keys = handle.keys("");
            loop {
                match keys.try_next().await {
                    Ok(Some(key)) => good.push(key.as_str().to_owned()),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::InvalidKey);
                        bad.push(error.stored_name().must("the name").to_vec());
                    }
                }
            }
            // A line feed, invalid UTF-8, and a blob.
            assert_eq!(good, ["b", "c"]);
            assert_eq!(bad, [&b"a\n"[..], b"a\xff", b"b"]);
            // Under a prefix: the keys that begin with it.
            for (prefix, expected) in [("a", 2), ("b", 1), ("c", 0)] {
                let entries: Vec<_> = handle.entries(prefix).collect().await;
                let bad = entries.iter().filter(|entry| entry.is_err()).count();
                assert_eq!(bad, expected, "rows under {prefix} that have no valid key");
            }
            let seen = Condition::unchanged(record.version);
            let swap = handle.write(key("b"), Bytes::from_static(b"2")).condition(seen);
            swap.await.must("compare and swap on a foreign row");
        })
        .case("a_clear_keeps_rows_with_invalid_keys", |context| async move {
            let store = context.target.open().await;
            let mut stranger = context.factory.stranger(context.target.space()).await;
            for row in [
                "('a' || char(10), x'00', 1, NULL)",
                "(CAST(x'61ff' AS TEXT), x'00', 2, NULL)",
                "(x'61', x'00', 3, NULL)",
                "(replace(hex(zeroblob(300)), '0', 'a'), x'00', 4, NULL)",
            ] {
                let sql = format!("INSERT INTO larder (key, value, version, expires_at) VALUES {row}");
                sqlx::query(AssertSqlSafe(sql)).execute(&mut stranger).await.must("insert");
            }
            for name in ["a", "aa", "b"] {
                store.write(key(name), Bytes::from_static(b"1")).await.must("write");
            }
            assert_eq!(store.clear("a").await.must("clear a prefix"), 2);
            assert_eq!(store.clear("").await.must("clear"), 1);
            let left: i64 = sqlx::query_scalar("SELECT count(*) FROM larder")
                .fetch_one(&mut stranger)
                .await
                .must("count");
            assert_eq!(left, 4, "rows of another program");
        })
        .case("a_listing_covers_every_row", |context| async move {
            let space = context.target.space();
            let mut stranger = context.factory.stranger(space).await;
            // The laxest table that can be made by hand.
            let sql = "CREATE TABLE larder (key TEXT PRIMARY KEY, value BLOB, version INTEGER, \
                       expires_at INTEGER)";
            sqlx::query(sql).execute(&mut stranger).await.must("make the table");
            let handle = context.target.open().await;
            for sql in [
                "INSERT INTO larder VALUES (NULL, x'00', 1, NULL)",
                "INSERT INTO larder VALUES (NULL, x'00', 1, 1)",
                "INSERT INTO larder VALUES ('b', NULL, 1, NULL)",
                "INSERT INTO larder VALUES ('c', x'00', NULL, NULL)",
                "INSERT INTO larder VALUES ('d', x'00', 'text', NULL)",
                "INSERT INTO larder VALUES ('e', x'00', 1.5, NULL)",
                "INSERT INTO larder VALUES ('f', x'00', 1, 'text')",
                "INSERT INTO larder VALUES ('', x'00', 1, NULL)",
                "INSERT INTO larder VALUES (replace(hex(zeroblob(300)), '0', 'k'), x'00', 1, NULL)",
                "INSERT INTO larder VALUES (x'ff', x'00', 1, NULL)",
                "INSERT INTO larder VALUES ('z', x'00', 1, NULL)",
            ] {
                sqlx::query(sql).execute(&mut stranger).await.must("insert");
            }
            let mut good = Vec::new();
            let mut bad = Vec::new();
            for entry in handle.entries("").collect::<Vec<_>>().await {
                match entry {
                    Ok((key, _)) => good.push(key.as_str().to_owned()),
                    Err(error) => bad.push((error.kind(), error.fingerprint().is_some())),
                }
            }
            assert_eq!(good, ["z"]);
            // `b` to `f` have a valid key, and the others do not.
            let of = |bad: &[_], kind, named| bad.iter().filter(|&&item| item == (kind, named)).count();
            assert_eq!(of(&bad, ErrorKind::Corrupt, true), 5);
            assert_eq!(of(&bad, ErrorKind::InvalidKey, false), 4);
            assert_eq!(bad.len(), 9);
            let keys: Vec<_> = handle.keys("").collect().await;
            assert_eq!(keys.iter().filter(|key| key.is_err()).count(), 4, "rows that have no valid key");
            for name in ["b", "c", "d", "e"] {
                handle.read(key(name)).await.fails(ErrorKind::Corrupt, "read a row that is not Larder's");
            }
        })
        .case("a_read_only_store_rejects_writes", |context| async move {
            let handle = context.target.open().await;
            handle.write(key("a"), Bytes::from_static(b"1")).await.must("write");
            let builder = context.factory.builder(context.target.space()).mode(Mode::ReadOnly);
            let reader = builder.clone().connect().await.must("open to read");
            assert_eq!(reader.read(key("a")).await.must("read").must("the entry").value, "1");
            let write = reader.write(key("a"), Bytes::from_static(b"2")).await;
            write.fails(ErrorKind::PermissionDenied, "write");
            reader.delete(key("a")).await.fails(ErrorKind::PermissionDenied, "delete");
            reader.close().await.must("close");
            let absent = context.factory.builder("absent").mode(Mode::ReadOnly).connect().await;
            absent.fails(ErrorKind::InvalidConfig, "open a file that is not there to read it");
            let absent = context.factory.builder("absent").mode(Mode::ReadWrite).connect().await;
            absent.fails(ErrorKind::InvalidConfig, "open a file that is not there and is not to be made");
            assert!(!context.factory.path("absent").exists());
        })
        .case("a_file_may_have_any_name", |context| async move {
            let directory = tempfile::TempDir::new().must("make a directory");
            for name in ["file:x?mode=memory", "a b%20c#d", ":memory:.db", "häß.db"] {
                let path = directory.path().join(name);
                let storage = Config::new().file(&path).connect().await.must("open");
                storage.close().await.must("close");
                assert!(path.exists(), "{name}");
            }
            drop(context);
        })
        .case("batches_of_every_size_are_complete", |context| async move {
            let handle = context.target.open().await;
            for size in (1..=40).chain([63, 64, 65, 255, 256, 257, 600]) {
                let keys: Vec<_> = (0..size).map(|number| key(&format!("{size}/{number}"))).collect();
                let values: Vec<_> = (0..size).map(|number| vec![7; number]).collect();
                let change =
                    |(key, value): (&Key, &Vec<u8>)| Change::put(key.clone(), value.clone(), Expiry::Never);
                for result in handle.apply(keys.iter().zip(&values).map(change).collect()).await {
                    result.must("write");
                }
                let records = handle.read_all(&keys, "read many").await;
                let mut versions = std::collections::HashSet::new();
                for (value, record) in values.iter().zip(records) {
                    let record = record.must("the entry");
                    assert_eq!(record.value, *value);
                    assert!(versions.insert(record.version), "each write has a version of its own");
                }
            }
        })
        .case("concurrent_writes_share_commits", |context| async move {
            let storage = context.factory.builder(context.target.space()).connect().await.must("open");
            let mut stranger = context.factory.stranger(context.target.space()).await;
            // Every commit adds one to this counter of SQLite, as other connections see it.
            let commits = async |stranger: &mut sqlx::SqliteConnection| -> i64 {
                sqlx::query_scalar("PRAGMA data_version").fetch_one(stranger).await.must("ask")
            };
            let before = commits(&mut stranger).await;
            let tasks: Vec<_> = (0..500)
                .map(|number| {
                    let storage = storage.clone();
                    tokio::spawn(async move {
                        let key = key(&number.to_string());
                        storage.write(&key, Bytes::from_static(b"1")).await.must("write");
                    })
                })
                .collect();
            for task in tasks {
                task.await.must("join");
            }
            assert_ne!(commits(&mut stranger).await, before);
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM larder")
                .fetch_one(&mut stranger)
                .await
                .must("count");
            assert_eq!(count, 500);
            stranger.close().await.must("close");
            storage.close().await.must("close");
        })
}

pub(crate) fn json_cases(suite: Suite<Files>) -> Suite<Files> {
    suite
        .case("sqlite_can_query_the_values", |context| async move {
            let handle = context.target.open().await;
            let person = |name: &str| {
                Change::put(key(name), format!("{{\"name\":\"{name}\",\"age\":36}}"), Expiry::Never)
            };
            // An entry that is written expired must not break the query for the others.
            let elapsed = Change::put(key("Eve"), "{}", Expiry::after_millis(0));
            for changes in [vec![person("Ada"), person("Bob")], vec![elapsed, person("Ada")]] {
                for result in handle.apply(changes).await {
                    result.must("write");
                }
            }
            // JSON is stored as the same text.
            for text in ["{\"a\" : 1.0, \"a\":2}", " null ", "\"\\u0000\"", "1e400"] {
                handle.write(key("text"), Bytes::from_static(text.as_bytes())).await.must("write");
                assert_eq!(handle.read(key("text")).await.must("read").must("the entry").value, text);
            }
            handle.delete(key("text")).await.must("delete");
            let mut stranger = context.factory.stranger(context.target.space()).await;
            let types = "SELECT DISTINCT typeof(value) FROM larder";
            let types: Vec<String> = sqlx::query_scalar(types).fetch_all(&mut stranger).await.must("query");
            assert_eq!(types, ["text"]);
            let sql = "SELECT json_extract(value, '$.name') FROM larder \
                       WHERE json_extract(value, '$.age') = 36 ORDER BY 1";
            let names: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut stranger).await.must("query");
            assert_eq!(names, ["Ada", "Bob"]);
        })
        .case("only_the_value_that_is_not_json_is_rejected", |context| async move {
            let handle = context.target.open().await;
            let keys = ["k1", "k{", "k\"x\""].map(key);
            let change = |key: &Key| Change::put(key.clone(), key.as_str()[1..].to_owned(), Expiry::Never);
            let results = handle.apply(keys.iter().map(change).collect()).await;
            let mut results = results.into_iter();
            let mut next = || results.next().must("a result");
            next().must("write JSON");
            next().fails(ErrorKind::InvalidValue, "write a value that is not JSON");
            next().must("write JSON");
            let stored = handle.read_all(&keys, "read").await;
            assert_eq!(stored.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
        })
}

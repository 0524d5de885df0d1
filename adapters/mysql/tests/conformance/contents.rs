//! The rows of the table, as other programs see them, and the limits of values.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use larder_core::{Bytes, Change, Error, ErrorKind, Expiry, Outcome, ReadOptions, Result, Store};
use larder_test_servers::Kind;
use larder_testkit::{Fails, Suite, until};

use crate::{
    admin::Admin,
    place::{Place, holds, key},
};

const PATIENCE: Duration = Duration::from_secs(10);

async fn listed(store: &Store, prefix: &str) -> Vec<String> {
    let keys: Vec<_> = store.keys(prefix).try_collect().await.unwrap();
    keys.iter().map(ToString::to_string).collect()
}

/// Writes a value of the greatest size, and checks that a greater one is rejected, alone and in a batch.
async fn holds_up_to(store: &Store, most: usize) {
    assert_eq!(store.info().max_value, Some(most as u64));
    let value = |length: usize| Bytes::from(vec![b'\xa7'; length]);
    store.write(key("k"), value(most)).await.unwrap();
    assert_eq!(store.read(key("k")).await.unwrap().unwrap().value, value(most));
    for _ in 0..2 {
        let error = store.write(key("k"), value(most + 1)).await.fails(ErrorKind::TooLarge, "too large");
        assert_eq!(error.outcome(), Outcome::NotApplied);
    }
    let put = |name, length| Change::put(key(name), value(length), Expiry::Never);
    let applied = store.apply(vec![put("a", 1), put("k", most + 1), put("b", most), put("c", most)]).await;
    assert_eq!(applied.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true, true]);
    assert_eq!(store.read(key("k")).await.unwrap().unwrap().value.len(), most);
    assert_eq!(store.clear("").await.unwrap(), 4);
}

pub(crate) fn cases(suite: Suite<Place>) -> Suite<Place> {
    suite
        .case("keys_are_compared_by_their_bytes", |context| async move {
            let storage = context.target.open().await;
            let mut names =
                ["a", "A", "a ", "\u{e9}", "e\u{301}", "e", "ß", "ss", "%", "_", "\\", "\\%", "'", "😀"];
            for name in names {
                storage.write(key(name), name).if_absent().await.unwrap();
            }
            for name in names {
                holds(&storage, name, Some(name)).await;
            }
            names.sort_unstable();
            assert_eq!(listed(&storage, "").await, names);
            let prefixes: [(_, &[&str]); 4] =
                [("%", &["%"]), ("_", &["_"]), ("\\", &["\\", "\\%"]), ("a", &["a", "a "])];
            for (prefix, expected) in prefixes {
                assert_eq!(listed(&storage, prefix).await, expected, "{prefix}");
            }
            assert!(storage.delete(key("a")).await.unwrap());
            assert_eq!(storage.clear("%").await.unwrap(), 1);
            assert_eq!(listed(&storage, "").await.len(), names.len() - 2);
        })
        .case("values_can_be_as_large_as_the_server_allows", |context| async move {
            let server = Kind::Mariadb.private().await.unwrap();
            let (place, admin) = (Place::of(&server, ""), Admin::connect(server.url()).await);
            let table = context.target.space();
            for (mebibytes, options) in [(1, ""), (24, ""), (2, "&group_commit=false")] {
                let packet = mebibytes << 20;
                admin.run(format!("SET GLOBAL max_allowed_packet = {packet}")).await;
                let storage = place.storage(&format!("table={table}{options}")).await;
                holds_up_to(&storage, packet - 1_024).await;
                storage.close().await.unwrap();
            }
            // A limit that becomes smaller after the store was opened.
            let place = place.own_database(table).await;
            let storage = place.storage("").await;
            storage.write(key("k"), "x").await.unwrap();
            admin.run("SET GLOBAL max_allowed_packet = 1048576").await;
            admin.end_connections_of(table).await;
            until("the server rejects the value", PATIENCE, || async {
                let error = storage.write(key("k"), vec![0; 1_500_000]).await.expect_err("too large");
                assert!(error.kind() == ErrorKind::TooLarge || error.is_retryable(), "{error}");
                error.kind() == ErrorKind::TooLarge
            })
            .await;
            holds(&storage, "k", Some("x")).await;
            storage.write(key("k"), "y").await.unwrap();
            storage.close().await.unwrap();
        })
        .case("json_can_be_queried_and_is_unchanged", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let storage = place.storage(&format!("table={table}&values=json")).await;
            let text = "{ \"b\": 1.00, \"name\": \"Ünï 😀\\u0000\",  \"a\": [ 12345678901234567890123 ] }\n";
            storage.write(key("ada"), text).await.unwrap();
            holds(&storage, "ada", Some(text)).await;
            let sql = format!(
                "SELECT `key` FROM `{table}` WHERE JSON_EXTRACT(value, '$.b') = 1 \
                 AND JSON_VALUE(value, '$.name') LIKE 'Ünï 😀%'"
            );
            assert_eq!(place.admin().await.texts(sql, 0).await, ["ada"]);
            let error = storage.write(key("ada"), "{").await;
            drop(error.fails(ErrorKind::InvalidValue, "not JSON"));
            holds(&storage, "ada", Some(text)).await;
            storage.close().await.unwrap();
        })
        .case("rows_of_other_programs_are_entries", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let storage = place.storage(&format!("table={table}&sweep=off")).await;
            place
                .admin()
                .await
                .run(format!(
                    "INSERT INTO `{table}` VALUES ('by hand', 'x', -7, NULL), ('gone', 'x', 7, 0), \
                     ('long gone', 'x', 7, -9223372036854775808), ('endless', 'x', 7, 9223372036854775807)"
                ))
                .await;
            let record = storage.read(key("by hand")).await.unwrap().unwrap();
            assert_eq!(record.value, "x");
            assert!(matches!(storage.ttl(key("endless")).await.unwrap(), Some(Expiry::After(_))));
            for name in ["gone", "long gone"] {
                assert!(!storage.contains(key(name)).await.unwrap(), "{name}");
            }
            assert_eq!(listed(&storage, "").await, ["by hand", "endless"]);
            assert!(storage.delete(key("by hand")).if_at(record.version.unwrap()).await.unwrap());
            assert_eq!(storage.purge_expired().await.unwrap(), 2);
            storage.close().await.unwrap();
        })
        .case("invalid_keys_are_reported_and_kept", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let (storage, admin) = (place.storage(&format!("table={table}")).await, place.admin().await);
            admin.run(format!("ALTER TABLE `{table}` MODIFY `key` VARBINARY(700) NOT NULL")).await;
            let names: [&[u8]; 5] = [b"", b"b\nc", b"b\xff", &[b'c'; 513], b"\xff\xff\xff"];
            for name in names {
                let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
                admin.run(format!("INSERT INTO `{table}` VALUES (X'{name}', 'x', 1, NULL)")).await;
            }
            for name in ["a", "d"] {
                storage.write(key(name), "x").await.unwrap();
            }
            let refused = |listed: Vec<Result<()>>| {
                let good = listed.iter().filter(|item| item.is_ok()).count();
                let errors = listed.into_iter().filter_map(Result::err);
                let names = errors.map(|error| {
                    assert_eq!(error.kind(), ErrorKind::InvalidKey, "{error}");
                    error.stored_name().unwrap().to_vec()
                });
                (good, names.collect::<Vec<_>>())
            };
            let keys = storage.keys("").map(|key| key.map(drop)).collect().await;
            assert_eq!(refused(keys), (2, names.map(<[u8]>::to_vec).to_vec()));
            let entries = storage.entries("").map(|entry| entry.map(drop)).collect().await;
            assert_eq!(refused(entries), (2, names.map(<[u8]>::to_vec).to_vec()));
            let keys = storage.keys("b").map(|key| key.map(drop)).collect().await;
            assert_eq!(refused(keys), (0, vec![names[1].to_vec(), names[2].to_vec()]));
            assert_eq!(storage.clear("").await.unwrap(), 2);
            assert_eq!(admin.number(format!("SELECT COUNT(*) FROM `{table}`")).await, 5);
            storage.close().await.unwrap();
        })
        .case("a_row_without_a_version_affects_only_its_key", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let storage = place.storage(&format!("table={table}")).await;
            place
                .admin()
                .await
                .run(format!(
                    "ALTER TABLE `{table}` MODIFY version BIGINT; \
                     INSERT INTO `{table}` VALUES ('good', 'x', 1, NULL), ('null', 'x', NULL, NULL)"
                ))
                .await;
            drop(storage.read(key("null")).await.fails(ErrorKind::Corrupt, "its version is null"));
            let touched = storage.read(key("null")).touching(Expiry::after_secs(60)).await;
            drop(touched.fails(ErrorKind::Corrupt, "its version is null"));
            let mut found = storage.read_many(&[key("good"), key("null")], &ReadOptions::new()).await;
            drop(found.pop().unwrap().fails(ErrorKind::Corrupt, "its version is null"));
            assert!(found.pop().unwrap().unwrap().is_some());
            let entries: Vec<_> = storage.entries("").collect().await;
            let kind = |entry: &Result<_>| entry.as_ref().err().map(Error::kind);
            let kinds: Vec<_> = entries.iter().map(kind).collect();
            assert_eq!(kinds, [None, Some(ErrorKind::Corrupt)]);
            assert!(storage.contains(key("null")).await.unwrap());
            storage.write(key("null"), "y").if_present().await.unwrap();
            holds(&storage, "null", Some("y")).await;
            storage.close().await.unwrap();
        })
        .case("large_entries_are_listed_in_small_pages", |context| async move {
            let storage = context.target.open().await;
            for number in 0..7 {
                storage.put(&key(format!("large {number}")), &storage.bulk(2 << 20, number)).await;
            }
            let entries: Vec<_> = storage.entries("large").try_collect().await.unwrap();
            assert_eq!(entries.len(), 7);
            assert!(entries.iter().all(|(_, record)| record.value.len() == 2 << 20));
        })
        .case("the_sweeper_removes_expired_rows", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let storage = place.storage(&format!("table={table}&sweep=50ms")).await;
            let admin = place.admin().await;
            // More rows than one statement removes.
            let rows = "SELECT CONCAT('old', seq), 'x', seq, 1 FROM seq_1_to_900";
            admin.run(format!("INSERT INTO `{table}` {rows}")).await;
            storage.write(key("live"), "x").expiry(Expiry::after_secs(60)).await.unwrap();
            until("all expired rows are gone", PATIENCE, || async {
                admin.texts(format!("SELECT `key` FROM `{table}`"), 0).await == ["live"]
            })
            .await;
            storage.close().await.unwrap();
        })
        .case("a_touching_read_starts_the_sweeper_on_another_runtime", |context| async move {
            let (place, table) = (&context.factory, context.target.space());
            let admin = place.admin().await;
            // The sweeper ends with its runtime.
            let storage = tokio::task::block_in_place(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let storage = place.storage(&format!("table={table}&sweep=5ms")).await;
                    storage.write(key("k"), "1").await.unwrap();
                    storage
                })
            });
            // Its connections, too, belonged to that runtime.
            until("a read works", PATIENCE, || async {
                match storage.read(key("k")).touching(Expiry::after_millis(20)).await {
                    Ok(record) => record.is_some(),
                    Err(error) => {
                        assert!(error.is_retryable(), "{error}");
                        false
                    }
                }
            })
            .await;
            until("the expired row is removed", PATIENCE, || async {
                admin.number(format!("SELECT COUNT(*) FROM `{table}`")).await == 0
            })
            .await;
            storage.close().await.unwrap();
        })
}

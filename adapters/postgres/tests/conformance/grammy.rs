//! The table of `@grammyjs/storage-psql`.

use futures_util::TryStreamExt;
use larder_core::{Bytes, ErrorKind, Expiry, Key};
use larder_testkit::{Fails, Runner};
use serde_json::Value;

use crate::place::{Place, suite};

/// The rows of real bots, and the sessions in them.
const ROWS: &str = include_str!("../../../../tests/fixtures/grammy/psql-sessions.json");
const EXPECTED: &str = include_str!("../../../../tests/fixtures/grammy/expected.json");

/// The SQL that the package runs on its first use.
fn their_setup(table: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS \"{table}\" (\"key\" VARCHAR NOT NULL, \"value\" TEXT); \
         CREATE UNIQUE INDEX IF NOT EXISTS IDX_{table} ON \"{table}\" (\"key\")"
    )
}

pub(crate) fn suites(runner: Runner) -> Runner {
    runner.suite(
        suite("postgres_grammy", "layout=grammy")
            .case("rows_of_real_bots_are_read", |context| async move {
                let table = context.target.space().to_owned();
                let admin = context.factory.admin().await;
                admin.run(&their_setup(&table)).await;
                let rows: Vec<Value> = serde_json::from_str(ROWS).unwrap();
                for row in &rows {
                    let sql = format!("INSERT INTO \"{table}\" (key, value) VALUES ($1, $2)");
                    admin.rows(&sql, &[&row["key"].as_str(), &row["value"].as_str()]).await;
                }
                let storage = context.factory.storage(&format!("table={table}")).await;
                let expected: serde_json::Map<String, Value> = serde_json::from_str(EXPECTED).unwrap();
                let entries: Vec<_> = storage.entries("").try_collect().await.unwrap();
                assert_eq!(entries.len(), expected.len());
                for (key, record) in entries {
                    let found: Value = serde_json::from_slice(&record.value).unwrap();
                    assert_eq!(found, expected[key.as_str()]);
                    assert_eq!(record.expiry, Some(Expiry::Never));
                    let row = rows.iter().find(|row| row["key"] == key.as_str()).unwrap();
                    assert_eq!(row["value"].as_str().map(str::as_bytes), Some(&record.value[..]));
                }
                storage.close().await.unwrap();
            })
            .case("set_up_creates_the_table_of_the_package", |context| async move {
                let table = context.target.space().to_owned();
                let (ours, theirs) = (format!("{table}o"), format!("{table}t"));
                let storage = context.factory.storage(&format!("table={ours}")).await;
                let admin = context.factory.admin().await;
                admin.run(&their_setup(&theirs)).await;
                // The set-up of the package changes nothing: it finds its index.
                admin.run(&their_setup(&ours)).await;
                let shape = |table: String| {
                    let admin = &admin;
                    async move {
                        let sql = format!(
                            "SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull), ', ' \
                             ORDER BY attnum) || (SELECT string_agg(replace(indexdef, tablename, '_'), '; ') FROM pg_indexes \
                             WHERE tablename = '{table}') FROM pg_attribute WHERE attrelid = '\"{table}\"'::regclass AND attnum > 0"
                        );
                        admin.text(&sql).await.unwrap()
                    }
                };
                assert_eq!(shape(ours.clone()).await, shape(theirs.clone()).await);
                // The statements of the package read and overwrite Larder's rows.
                let key = Key::new("42").unwrap();
                storage.write(&key, Bytes::from_static(b"{\"a\":1}")).await.unwrap();
                let read = format!("select * from \"{ours}\" where key = $1");
                assert_eq!(admin.rows(&read, &[&"42"]).await[0].get::<_, &str>("value"), "{\"a\":1}");
                let write = format!(
                    "INSERT INTO \"{ours}\" (key, value) values ($1, $2) ON CONFLICT (key) DO UPDATE SET value = $2"
                );
                admin.rows(&write, &[&"42", &"{}"]).await;
                assert_eq!(&storage.read(&key).await.unwrap().unwrap().value[..], b"{}");
                storage.close().await.unwrap();
                admin.run(&format!("DROP TABLE \"{ours}\", \"{theirs}\"")).await;
            })
            .case("the_default_table_is_sessions", |context| async move {
                let builder = context.factory.builder("");
                assert!(builder.setup_sql().contains("CREATE TABLE IF NOT EXISTS \"sessions\" ("));
            })
            .case("a_null_affects_only_its_key", |context| async move {
                let table = context.target.space().to_owned();
                let storage = context.factory.storage(&format!("table={table}")).await;
                null_row(&context.factory, &table).await;
                let key = Key::new("null").unwrap();
                drop(storage.read(&key).await.fails(ErrorKind::Corrupt, "null is not JSON"));
                let good = Key::new("good").unwrap();
                assert!(storage.read(&good).await.unwrap().is_some());
                storage.write(&key, Bytes::from_static(b"1")).await.unwrap();
                assert!(storage.read(&key).await.unwrap().is_some());
                storage.close().await.unwrap();
            }),
    )
}

async fn null_row(place: &Place, table: &str) {
    let admin = place.admin().await;
    admin.run(&format!("INSERT INTO \"{table}\" VALUES ('null', NULL), ('good', '1')")).await;
}

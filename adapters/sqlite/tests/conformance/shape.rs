//! Tables of other programs.

use larder_core::{Bytes, Change, Condition, ErrorKind, Expiry, Key};
use larder_testkit::{Fails, Must, Suite};
use sqlx::{AssertSqlSafe, Connection};

use crate::spaces::Files;

/// The SQL of a wrong table, and the text that its error must contain.
const WRONG: [(&str, &str); 11] = [
    ("CREATE TABLE larder (id INTEGER PRIMARY KEY, name TEXT)", "`key`"),
    ("CREATE TABLE larder (key TEXT PRIMARY KEY, value BLOB, expires_at INTEGER)", "`version`"),
    (
        "CREATE TABLE larder (key TEXT PRIMARY KEY, value TEXT, version INTEGER, expires_at INTEGER)",
        "`value`",
    ),
    ("CREATE TABLE larder (key TEXT, value BLOB, version INTEGER, expires_at INTEGER)", "primary key"),
    (
        "CREATE TABLE larder (key TEXT, value BLOB, version INTEGER, expires_at INTEGER, bot TEXT, \
         PRIMARY KEY (key, bot))",
        "alone",
    ),
    (
        "CREATE TABLE larder (key INTEGER PRIMARY KEY, value BLOB, version INTEGER, expires_at INTEGER)",
        "`key`",
    ),
    (
        "CREATE TABLE larder (key TEXT PRIMARY KEY COLLATE NOCASE, value BLOB, version INTEGER, \
         expires_at INTEGER)",
        "compare bytes",
    ),
    (
        "CREATE TABLE larder (key TEXT PRIMARY KEY, value BLOB, version INTEGER, expires_at INTEGER, \
         owner TEXT NOT NULL)",
        "`owner`",
    ),
    (
        "CREATE TABLE larder (key TEXT PRIMARY KEY, value BLOB, version INTEGER, expires_at INTEGER) \
         WITHOUT ROWID",
        "WITHOUT ROWID",
    ),
    (
        "CREATE TABLE larder (key TEXT PRIMARY KEY, value BLOB, version INTEGER, expires_at INTEGER, \
         _rowid_ INTEGER)",
        "`_rowid_`",
    ),
    ("CREATE VIEW larder AS SELECT 'k' AS key, x'' AS value, 1 AS version, NULL AS expires_at", "`"),
];

pub(crate) fn cases(suite: Suite<Files>) -> Suite<Files> {
    suite
        .case("a_table_of_another_shape_is_rejected_with_the_reason", |context| async move {
            for (number, (sql, said)) in WRONG.into_iter().enumerate() {
                let space = context.target.beside(&number.to_string());
                let mut stranger = context.factory.stranger(space.space()).await;
                sqlx::query(sql).execute(&mut stranger).await.must("make the table");
                stranger.close().await.must("close");
                for setup in [true, false] {
                    let builder = context.factory.builder(space.space()).setup(setup);
                    let error = builder.connect().await.fails(ErrorKind::InvalidConfig, sql);
                    assert!(error.message().contains(said), "{sql}: {error}");
                }
            }
        })
        .case("a_table_with_more_columns_is_accepted", |context| async move {
            let space = context.target.space();
            let mut stranger = context.factory.stranger(space).await;
            let sql = "CREATE TABLE larder (bot TEXT, key VARCHAR(600) PRIMARY KEY, expires_at BIGINT, \
                       value BLOB, version INT, made INTEGER NOT NULL DEFAULT 7, \
                       t, put, change, column1, name, seen, ttl)";
            sqlx::query(sql).execute(&mut stranger).await.must("make the table");
            let handle = context.target.open().await;
            let key = Key::new("k").must("a key");
            handle.write(&key, Bytes::from_static(b"1")).expiry(Expiry::after_secs(60)).await.must("write");
            assert_eq!(handle.read(&key).await.must("read").must("the entry").value, "1");
            let minute = Expiry::after_secs(60);
            let puts = ["a", "b"].map(|name| Change::put(Key::new(name).must("a key"), "1", minute));
            let [a, b] = puts.clone();
            let mixed = vec![
                a.on(Condition::Present),
                b.on(Condition::Present),
                Change::touch(key.clone(), minute).on(Condition::Present),
                Change::delete(Key::new("c").must("a key")),
            ];
            for batch in [puts.to_vec(), mixed] {
                for result in handle.apply(batch).await {
                    result.must("apply");
                }
            }
            assert_eq!(handle.clear("").await.must("clear"), 3);
            assert_eq!(handle.purge_expired().await.must("purge"), 0);
        })
        .case("a_table_with_an_index_on_the_deadline_is_accepted", |context| async move {
            let mut stranger = context.factory.stranger(context.target.space()).await;
            let sql = "CREATE TABLE larder (key TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL, \
                       version INTEGER NOT NULL, expires_at INTEGER); \
                       CREATE INDEX larder_expires_at ON larder (expires_at) WHERE expires_at IS NOT NULL; \
                       INSERT INTO larder VALUES ('old', x'31', 1, 1), ('kept', x'32', 2, NULL)";
            sqlx::raw_sql(sql).execute(&mut stranger).await.must("make the table");
            let handle = context.target.open().await;
            assert_eq!(handle.read("old").await.must("read"), None);
            let kept = handle.read("kept").await.must("read").must("the entry");
            assert_eq!(kept.value, "2");
            let next = handle.write("kept", "3").if_at(kept.version.must("a version"));
            next.expires_in(std::time::Duration::from_secs(60)).await.must("write");
            assert_eq!(handle.purge_expired().await.must("purge"), 1);
            assert_eq!(handle.read("kept").await.must("read").must("the entry").value, "3");
            stranger.close().await.must("close");
        })
        .case("a_table_made_by_hand_is_accepted", |context| async move {
            let builder = context.factory.builder(context.target.space()).setup(false);
            let error =
                builder.clone().connect().await.fails(ErrorKind::InvalidConfig, "open without a file");
            assert!(error.message().contains("the database file or its directory does not exist"), "{error}");
            assert!(!context.factory.path(context.target.space()).exists(), "a file was made");
            let mut stranger = context.factory.stranger(context.target.space()).await;
            let error =
                builder.clone().connect().await.fails(ErrorKind::InvalidConfig, "open without a table");
            assert!(error.message().contains("setup_sql"), "{error}");
            let sql = AssertSqlSafe(builder.setup_sql());
            sqlx::raw_sql(sql).execute(&mut stranger).await.must("set up by hand");
            stranger.close().await.must("close");
            builder.connect().await.must("open").close().await.must("close");
        })
        .case("a_name_that_sqlite_reserves_is_rejected", |context| async move {
            let builder = context.factory.builder(context.target.space());
            for name in ["sqlite_x", "", "a\0b"] {
                builder.clone().table(name).connect().await.fails(ErrorKind::InvalidConfig, name);
            }
            for name in ["select", "a'b", "\"", "x; DROP TABLE larder", " ", "名前"] {
                let storage = builder.clone().table(name).connect().await.must(name);
                let key = Key::new("k").must("a key");
                storage.write(&key, Bytes::from(name.to_owned())).await.must("write");
                assert_eq!(storage.read(&key).await.must("read").must("the entry").value, name);
                storage.close().await.must("close");
            }
        })
}

//! SQLite: ours, sqlx's prepared call, rusqlite with batches made by hand, and
//! tower-sessions-sqlx-store. All in WAL mode with the same `synchronous`: FULL, which is larder-sqlite's
//! default, and NORMAL, which is what such comparisons are mostly made with.

use std::sync::{Arc, Mutex};

use criterion::{Criterion, criterion_group, criterion_main};
use larder_benches::{Group, KEYS, RUNTIME, TASKS, TTL, VALUE, fill, fresh, key, peers};
use sqlx::{
    Row,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};

const CREATE: &str = "CREATE TABLE raw (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, version INTEGER NOT NULL, \
                      expires_at INTEGER)";
const UPSERT: &str = "INSERT INTO raw (key, value, version, expires_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO \
                      UPDATE SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at";
const SELECT: &str =
    "SELECT value, version FROM raw WHERE key = ?1 AND (expires_at IS NULL OR expires_at > ?2)";

fn sqlite(criterion: &mut Criterion) {
    for synchronous in ["normal", "full"] {
        with(criterion, synchronous);
    }
}

fn with(criterion: &mut Criterion, synchronous: &'static str) {
    let store = &format!("sqlite, synchronous={synchronous},");
    let _runtime = RUNTIME.enter();
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    let url = format!("sqlite:{}?synchronous={synchronous}", path("ours.db").display());
    let ours = RUNTIME.block_on(larder_sqlite::connect(&url)).unwrap();

    let raw = RUNTIME.block_on(async {
        let options = SqliteConnectOptions::new()
            .filename(path("raw.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .pragma("synchronous", synchronous);
        let pool = SqlitePoolOptions::new().max_connections(1).test_before_acquire(false);
        let pool = pool.connect_with(options).await.unwrap();
        sqlx::query(CREATE).execute(&pool).await.unwrap();
        pool
    });
    let by_hand = Arc::new(Mutex::new(rusqlite::Connection::open(path("hand.db")).unwrap()));
    {
        let connection = by_hand.lock().unwrap();
        connection.pragma_update(None, "journal_mode", "WAL").unwrap();
        connection.pragma_update(None, "synchronous", synchronous).unwrap();
        connection.execute(CREATE, ()).unwrap();
    }
    let peer = RUNTIME.block_on(async {
        use sqlx_store::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool};
        let options = SqliteConnectOptions::new()
            .filename(path("peer.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .pragma("synchronous", synchronous);
        let store = sqlx_store::SqliteStore::new(SqlitePool::connect_with(options).await.unwrap());
        store.migrate().await.unwrap();
        store
    });
    let deadline = larder_core::clock::unix_millis() + i64::try_from(TTL.as_millis()).unwrap();
    RUNTIME.block_on(async {
        fill(&ours).await;
        peers::fill(&peer).await;
        for number in 0..KEYS {
            write_raw(&raw, number, deadline).await;
        }
    });
    // In the order of the others' keys: rows that a batch put side by side would go with a few pages.
    for number in 0..KEYS {
        let row = (key(number).as_str().to_owned(), &VALUE[..], fresh(), deadline);
        by_hand.lock().unwrap().execute(UPSERT, row).unwrap();
    }

    for tasks in TASKS {
        let mut group = Group::new(criterion, store, "read", tasks);
        let pool = raw.clone();
        group.measure("raw: sqlx", move |number| {
            let pool = pool.clone();
            async move {
                let now = larder_core::clock::unix_millis();
                let query = sqlx::query(SELECT).bind(key(number).as_str().to_owned()).bind(now);
                let row = query.fetch_one(&pool).await.unwrap();
                assert_eq!(row.get::<Vec<u8>, _>(0).len(), VALUE.len());
            }
        });
        group.read("larder-sqlite", &ours);
        peers::read(&mut group, "tower-sessions-sqlx-store", &peer);
        drop(group);

        let mut group = Group::new(criterion, store, "write", tasks);
        let pool = raw.clone();
        group.measure("raw: sqlx", move |number| {
            let pool = pool.clone();
            async move { write_raw(&pool, number, deadline).await }
        });
        if tasks == 64 {
            let connection = Arc::clone(&by_hand);
            let limit = |number| write_batch(&mut connection.lock().unwrap(), number, deadline);
            limit(0);
            let connection = Arc::clone(&by_hand);
            group.measure_batches("raw: rusqlite, batches of 64 by hand", 64, move |number| {
                let connection = Arc::clone(&connection);
                async move { write_batch(&mut connection.lock().unwrap(), number, deadline) }
            });
        }
        group.write("larder-sqlite", &ours);
        peers::write(&mut group, "tower-sessions-sqlx-store", &peer);
    }
}

async fn write_raw(pool: &sqlx::SqlitePool, number: u64, deadline: i64) {
    let query = sqlx::query(UPSERT)
        .bind(key(number).as_str().to_owned())
        .bind(VALUE.to_vec())
        .bind(fresh())
        .bind(deadline);
    query.execute(pool).await.unwrap();
}

/// 64 upserts in one transaction, each by the same prepared statement.
fn write_batch(connection: &mut rusqlite::Connection, number: u64, deadline: i64) {
    let transaction = connection.transaction().unwrap();
    {
        let mut upsert = transaction.prepare_cached(UPSERT).unwrap();
        for row in 0..64_u64 {
            let key = key(number.wrapping_add(row * 131));
            upsert.execute((key.as_str(), &VALUE[..], fresh(), deadline)).unwrap();
        }
    }
    transaction.commit().unwrap();
}

criterion_group!(benches, sqlite);
criterion_main!(benches);

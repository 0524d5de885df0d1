//! SQLite: sqlx's prepared calls, rusqlite with hand-written batches, and the stores of tower-sessions, teloxide and
//! OpenDAL. All use WAL mode and the same `synchronous`.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use larder_core::clock::unix_millis;
use opendal::{Operator, services::Sqlite};
use sqlx::{
    Row, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use teloxide::dispatching::dialogue::{SqliteStorage, serializer::Json};

use super::Place;
use crate::{
    contenders::{Raw, Set, batch, fill, fill_peer, fill_raw},
    data::{deadline, fresh, key},
    measure::{BATCH, Contender, Kind, Operation},
    peers::{Dialogues, Opendal, Tower},
};

const UPSERT: &str = "INSERT INTO larder (key, value, version, expires_at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO \
                      UPDATE SET value = excluded.value, version = excluded.version, expires_at = excluded.expires_at";
const SELECT: &str =
    "SELECT value, version FROM larder WHERE key = ?1 AND (expires_at IS NULL OR expires_at > ?2)";
const SWAP: &str = "UPDATE larder SET value = ?2, version = ?3, expires_at = ?4 WHERE key = ?1 AND version = ?5 AND \
                    (expires_at IS NULL OR expires_at > ?6)";

pub async fn open(place: Place, synchronous: &'static str) -> Set {
    let data = place.data;
    let mut set = Set::new(data);
    let home = crate::output::scratch();
    let path = |name: &str| home.path().join(name);

    // Filled before the raw connections open the file, in batches of a thousand rows.
    let mut connection = rusqlite_open(&path("raw.db"), synchronous);
    connection.execute_batch(&larder_sqlite::Config::new().setup_sql()).unwrap();
    for from in (0..data.keys).step_by(1_000) {
        upsert(&mut connection, from..data.keys.min(from + 1_000), &data.value());
    }
    let raw = Sqlx::open(&path("raw.db"), synchronous).await;
    set.raw(Kind::Raw, "sqlx", &raw);

    if data.keys >= BATCH {
        let hand = path("hand.db");
        connection.execute("VACUUM INTO ?1", [hand.to_str().unwrap()]).unwrap();
        let state = (Arc::new(Mutex::new(rusqlite_open(&hand, synchronous))), data.value());
        // One task, because a second one would only wait for the first.
        let batches =
            Contender::batches("rusqlite, batches of 64", 1, &state, move |state, number| async move {
                upsert(&mut state.0.lock().unwrap(), batch(number, data), &state.1);
            });
        set.push(Operation::Write, batches);
    }
    drop(connection);

    let url = format!("sqlite:{}?synchronous={synchronous}", path("ours.db").display());
    let ours = larder_sqlite::connect(&url).await.unwrap();
    fill(&ours, data).await;
    set.larder("larder-sqlite", &ours);

    if place.peers {
        tower(&mut set, &path("tower.db"), synchronous).await;
        // teloxide and OpenDAL do not let the caller choose `synchronous`: they use SQLite's default.
        if synchronous == "full" {
            drop(rusqlite_open(&path("teloxide.db"), synchronous));
            let peer = SqliteStorage::open(path("teloxide.db").to_str().unwrap(), Json).await.unwrap();
            let peer = Dialogues(peer, data);
            fill_peer(&peer, data, 1).await;
            set.peer("teloxide", &peer);

            let connection = rusqlite_open(&path("opendal.db"), synchronous);
            connection.execute_batch("CREATE TABLE bytes (key TEXT PRIMARY KEY, value BLOB)").unwrap();
            let url = format!("sqlite:{}", path("opendal.db").display());
            let builder = Sqlite::default().connection_string(&url).table("bytes");
            let peer = Opendal(Operator::new(builder).unwrap());
            fill_raw(&peer, data, 1).await;
            set.raw(Kind::Peer, "OpenDAL", &peer);
        }
    }
    set.keep(home);
    set
}

fn rusqlite_open(path: &Path, synchronous: &str) -> rusqlite::Connection {
    let connection = rusqlite::Connection::open(path).unwrap();
    connection.pragma_update(None, "journal_mode", "WAL").unwrap();
    connection.pragma_update(None, "synchronous", synchronous).unwrap();
    connection
}

/// Writes the rows in one transaction, with one prepared statement.
fn upsert(connection: &mut rusqlite::Connection, numbers: impl Iterator<Item = u64>, value: &Bytes) {
    let transaction = connection.transaction().unwrap();
    {
        let mut upsert = transaction.prepare_cached(UPSERT).unwrap();
        for number in numbers {
            upsert.execute((key(number).as_str(), &value[..], fresh(), deadline())).unwrap();
        }
    }
    transaction.commit().unwrap();
}

async fn tower(set: &mut Set, path: &Path, synchronous: &'static str) {
    use sqlx_store::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool};
    let options = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .pragma("synchronous", synchronous);
    let store = sqlx_store::SqliteStore::new(SqlitePool::connect_with(options).await.unwrap());
    store.migrate().await.unwrap();
    let peer = Tower(store, set.data);
    fill_peer(&peer, set.data, 1).await;
    set.peer("tower-sessions, sqlx", &peer);
}

/// One connection for writes, and as many for reads as Larder's default.
#[derive(Clone)]
struct Sqlx {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Sqlx {
    async fn open(path: &Path, synchronous: &'static str) -> Self {
        let pool = async |connections| {
            let options = SqliteConnectOptions::new()
                .filename(path)
                .journal_mode(SqliteJournalMode::Wal)
                .pragma("synchronous", synchronous);
            let pool = SqlitePoolOptions::new().max_connections(connections).test_before_acquire(false);
            pool.connect_with(options).await.unwrap()
        };
        Self { writer: pool(1).await, readers: pool(4).await }
    }
}

impl Raw for Sqlx {
    type Seen = i64;

    async fn read(&self, number: u64) -> (Bytes, i64) {
        let query = sqlx::query(SELECT).bind(key(number).as_str().to_owned()).bind(unix_millis());
        let row = query.fetch_one(&self.readers).await.unwrap();
        (row.get::<Vec<u8>, _>(0).into(), row.get(1))
    }

    async fn write(&self, number: u64, value: &Bytes) {
        let query = sqlx::query(UPSERT)
            .bind(key(number).as_str().to_owned())
            .bind(value.to_vec())
            .bind(fresh())
            .bind(deadline());
        query.execute(&self.writer).await.unwrap();
    }

    async fn swap(&self, number: u64, value: Bytes, seen: i64) -> bool {
        let query = sqlx::query(SWAP)
            .bind(key(number).as_str().to_owned())
            .bind(value.to_vec())
            .bind(fresh())
            .bind(deadline())
            .bind(seen)
            .bind(unix_millis());
        query.execute(&self.writer).await.unwrap().rows_affected() == 1
    }
}

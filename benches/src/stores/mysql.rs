//! MariaDB: sqlx on its own pool, and on a pool that sends no pings; hand-written batches; the store of
//! tower-sessions. OpenDAL is left out, because the server makes no write of an equal value, and OpenDAL's rows contain
//! nothing else.

use std::{ops::DerefMut, sync::Arc};

use bytes::Bytes;
use deadpool::managed::{self, Metrics, Pool, RecycleResult};
use futures_util::FutureExt;
use sqlx::{
    AssertSqlSafe, ConnectOptions, MySqlConnection, MySqlPool, Row, SqlSafeStr, SqlStr,
    mysql::{MySqlConnectOptions, MySqlPoolOptions},
};

use super::Place;
use crate::{
    contenders::{Raw, Set, batch, fill, fill_peer},
    data::{Data, TTL, fresh, key},
    measure::{BATCH, Contender, Kind, Operation},
    peers::Tower,
};

/// The number of connections in the pools of the raw driver and the peers.
const CONNECTIONS: usize = 10;

/// The number of hand-written batches under way at once.
const BATCHES: u64 = 4;

/// The most bytes of a session in the table of tower-sessions, whose column is a `BLOB`.
const BLOB: usize = 60_000;

pub async fn open(place: Place) -> Set {
    let data = place.data;
    let mut set = Set::new(data);
    let server = larder_test_servers::mariadb().await.unwrap();
    let url = place.url(&server).await;
    let table = format!("{}_raw", place.space);
    let options = MySqlPoolOptions::new().max_connections(CONNECTIONS as u32).test_before_acquire(false);
    let pool = options.connect(&url).await.unwrap();
    run(&pool, format!("DROP TABLE IF EXISTS {table}, {}_ours", place.space)).await;

    let config = larder_mysql::Config::from_url(&format!("{url}?table={table}")).unwrap();
    run(&pool, config.setup_sql()).await;
    let sql = Arc::new(Sql::new(&table));
    let connections = Pool::builder(Opener(url.parse().unwrap())).max_size(CONNECTIONS).build().unwrap();
    let rows = Rows { sql: Arc::clone(&sql), connections: connections.clone() };
    for from in (0..data.keys).step_by(step(data)) {
        rows.upsert(from..data.keys.min(from + step(data) as u64), &data.value()).await;
    }
    set.raw(Kind::Raw, "sqlx, its pool", &Rows { sql, connections: pool.clone() });
    set.raw(Kind::Raw, "sqlx, a pool without pings", &rows);
    if data.keys >= BATCH {
        let state = (rows, data.value());
        let batches =
            Contender::batches("VALUES, batches of 64", BATCHES, &state, move |state, number| async move {
                state.0.upsert(batch(number, data), &state.1).await;
            });
        set.push(Operation::Write, batches);
    }

    let ours = larder_mysql::connect(&format!("{url}?table={}_ours", place.space)).await.unwrap();
    fill(&ours, data).await;
    set.larder("larder-mysql", &ours);

    if place.peers && data.size <= BLOB {
        // With the server's usual collation, tower-sessions would take ids that differ only in case for equal.
        run(&pool, "DROP DATABASE IF EXISTS tower_sessions").await;
        run(&pool, "CREATE DATABASE tower_sessions COLLATE utf8mb4_bin").await;
        let store = sqlx_store::MySqlStore::new(sqlx_store::sqlx::MySqlPool::connect(&url).await.unwrap());
        store.migrate().await.unwrap();
        let peer = Tower(store, data);
        fill_peer(&peer, data, CONNECTIONS).await;
        set.peer("tower-sessions, sqlx", &peer);
    }
    // Earlier rows have left old versions, which the server would otherwise remove during the measurement.
    set.tidy = Some(Box::new(move || {
        let pool = pool.clone();
        async move { run(&pool, "SET GLOBAL innodb_max_purge_lag_wait = 0").await }.boxed()
    }));
    set.keep(server);
    set
}

async fn run(pool: &MySqlPool, statement: impl Into<Arc<str>>) {
    sqlx::raw_sql(AssertSqlSafe(statement.into())).execute(pool).await.unwrap();
}

/// The number of rows per statement that fills a table.
fn step(data: Data) -> usize {
    ((8 << 20) / data.size).clamp(1, 1_000)
}

struct Sql {
    table: String,
    select: SqlStr,
    upsert: SqlStr,
    swap: SqlStr,
    upsert_batch: SqlStr,
}

impl Sql {
    fn new(table: &str) -> Self {
        let lives = "(expires_at IS NULL OR expires_at > UNIX_TIMESTAMP(NOW(3)) * 1000)";
        Self {
            table: table.to_owned(),
            select: sql(format!("SELECT value, version FROM {table} WHERE `key` = ? AND {lives}")),
            upsert: upsert(table, 1),
            swap: sql(format!(
                "UPDATE {table} SET value = ?, version = ?, expires_at = {DEADLINE} WHERE `key` = ? AND version = ? \
                 AND {lives}"
            )),
            upsert_batch: upsert(table, BATCH as usize),
        }
    }
}

const DEADLINE: &str = "UNIX_TIMESTAMP(NOW(3)) * 1000 + ?";

fn upsert(table: &str, rows: usize) -> SqlStr {
    let rows = vec![format!("(?, ?, ?, {DEADLINE})"); rows].join(", ");
    sql(format!(
        "INSERT INTO {table} (`key`, value, version, expires_at) VALUES {rows} ON DUPLICATE KEY UPDATE \
         value = VALUES(value), version = VALUES(version), expires_at = VALUES(expires_at)"
    ))
}

fn sql(text: String) -> SqlStr {
    AssertSqlSafe(text).into_sql_str()
}

fn millis() -> i64 {
    TTL.as_millis() as i64
}

trait Connections: Clone + Send + Sync + 'static {
    fn take(&self) -> impl Future<Output = impl DerefMut<Target = MySqlConnection> + Send> + Send;
}

/// sqlx sends a ping each time that a connection is returned.
impl Connections for MySqlPool {
    async fn take(&self) -> impl DerefMut<Target = MySqlConnection> + Send {
        self.acquire().await.unwrap()
    }
}

impl Connections for Pool<Opener> {
    async fn take(&self) -> impl DerefMut<Target = MySqlConnection> + Send {
        self.get().await.unwrap()
    }
}

struct Opener(MySqlConnectOptions);

impl managed::Manager for Opener {
    type Type = MySqlConnection;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<MySqlConnection, sqlx::Error> {
        self.0.connect().await
    }

    async fn recycle(&self, _: &mut MySqlConnection, _: &Metrics) -> RecycleResult<sqlx::Error> {
        Ok(())
    }
}

/// Hand-written statements, each prepared once per connection.
#[derive(Clone)]
struct Rows<C> {
    sql: Arc<Sql>,
    connections: C,
}

impl<C: Connections> Rows<C> {
    /// Writes the rows with one statement.
    async fn upsert(&self, numbers: impl Iterator<Item = u64>, value: &Bytes) {
        // Sorted, because two concurrent batches could otherwise deadlock.
        let mut keys: Vec<_> = numbers.map(key).collect();
        keys.sort();
        let sql = match keys.len() as u64 {
            BATCH => self.sql.upsert_batch.clone(),
            rows => upsert(&self.sql.table, rows as usize),
        };
        let query = keys.iter().fold(sqlx::query(sql), |query, key| {
            query.bind(key.as_bytes()).bind(&value[..]).bind(fresh()).bind(millis())
        });
        query.execute(&mut *self.connections.take().await).await.unwrap();
    }
}

impl<C: Connections> Raw for Rows<C> {
    type Seen = i64;

    async fn read(&self, number: u64) -> (Bytes, i64) {
        let key = key(number);
        let query = sqlx::query(self.sql.select.clone()).bind(key.as_bytes());
        let row = query.fetch_one(&mut *self.connections.take().await).await.unwrap();
        (row.get::<Vec<u8>, _>(0).into(), row.get(1))
    }

    async fn write(&self, number: u64, value: &Bytes) {
        let key = key(number);
        let query = sqlx::query(self.sql.upsert.clone())
            .bind(key.as_bytes())
            .bind(&value[..])
            .bind(fresh())
            .bind(millis());
        query.execute(&mut *self.connections.take().await).await.unwrap();
    }

    async fn swap(&self, number: u64, value: Bytes, seen: i64) -> bool {
        let key = key(number);
        let query = sqlx::query(self.sql.swap.clone())
            .bind(&value[..])
            .bind(fresh())
            .bind(millis())
            .bind(key.as_bytes())
            .bind(seen);
        query.execute(&mut *self.connections.take().await).await.unwrap().rows_affected() == 1
    }
}

//! PostgreSQL: tokio-postgres on one shared connection, and on a pool; hand-written batches; the stores of
//! tower-sessions and OpenDAL. teloxide's storage is left out, because its type requires native-tls.

use std::{ops::Deref, str::FromStr, sync::Arc};

use bytes::Bytes;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod};
use futures_util::FutureExt;
use opendal::{Operator, services::Postgresql};
use tokio_postgres::{Client, NoTls, Statement};

use super::Place;
use crate::{
    contenders::{Raw, Set, batch, fill, fill_peer, fill_raw},
    data::{Data, TTL, fresh, key},
    measure::{BATCH, Contender, Kind, Operation},
    peers::{Opendal, Tower},
};

/// The number of connections in the pools of the raw driver and the peers.
const CONNECTIONS: usize = 10;

/// The number of hand-written batches under way at once, each on its own connection.
const BATCHES: u64 = 4;

pub async fn open(place: Place) -> Set {
    let data = place.data;
    let mut set = Set::new(data);
    let server = larder_test_servers::postgres().await.unwrap();
    let url = place.url(&server).await;
    let admin = connect(&url).await;
    let table = format!("{}_raw", place.space);
    let tables = format!("DROP TABLE IF EXISTS {table}, {0}_ours, {0}_bytes", place.space);
    admin.batch_execute(&tables).await.unwrap();
    if place.peers {
        let peers = "DROP SCHEMA IF EXISTS tower_sessions CASCADE";
        admin.batch_execute(peers).await.unwrap();
    }

    let config = larder_postgres::Config::from_url(&format!("{url}?table={table}")).unwrap();
    admin.batch_execute(&config.setup_sql()).await.unwrap();
    let sql = Arc::new(Sql::new(&table));
    let mut hands = Vec::new();
    for _ in 0..BATCHES {
        let client = connect(&url).await;
        let upsert = client.prepare(&sql.upsert_many).await.unwrap();
        hands.push((client, upsert));
    }
    for from in (0..data.keys).step_by(step(data)) {
        upsert(&hands[0], from..data.keys.min(from + step(data) as u64), &data.value()).await;
    }
    let config = tokio_postgres::Config::from_str(&url).unwrap();
    let manager = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(config, NoTls, manager);
    let pool = Pool::builder(manager).max_size(CONNECTIONS).build().unwrap();
    let shared = Connections::Shared(Arc::new(pool.get().await.unwrap()));
    let rows = Rows { sql: Arc::clone(&sql), connections: shared };
    set.raw(Kind::Raw, "tokio-postgres, one connection", &rows);
    set.raw(Kind::Raw, "tokio-postgres, a pool", &Rows { sql, connections: Connections::Pool(pool) });
    if data.keys >= BATCH {
        let state = (Arc::new(hands), data.value());
        let batches =
            Contender::batches("unnest, batches of 64", BATCHES, &state, move |state, number| async move {
                let hand = &state.0[number as usize % state.0.len()];
                upsert(hand, batch(number, data), &state.1).await;
            });
        set.push(Operation::Write, batches);
    }

    let ours = larder_postgres::connect(&format!("{url}?table={}_ours", place.space)).await.unwrap();
    fill(&ours, data).await;
    set.larder("larder-postgres", &ours);

    if place.peers {
        let store = sqlx_store::PostgresStore::new(sqlx_store::sqlx::PgPool::connect(&url).await.unwrap());
        store.migrate().await.unwrap();
        let peer = Tower(store, data);
        fill_peer(&peer, data, CONNECTIONS).await;
        set.peer("tower-sessions, sqlx", &peer);

        let bytes = format!("{}_bytes", place.space);
        let create = format!("CREATE TABLE {bytes} (key text PRIMARY KEY, value bytea)");
        admin.batch_execute(&create).await.unwrap();
        let peer = Postgresql::default().connection_string(&url).table(&bytes);
        let peer = Opendal(Operator::new(peer).unwrap());
        fill_raw(&peer, data, CONNECTIONS).await;
        set.raw(Kind::Peer, "OpenDAL", &peer);
    }
    // Earlier rows have left dead tuples, which autovacuum would otherwise remove during the measurement.
    let admin = Arc::new(admin);
    set.tidy = Some(Box::new(move || {
        let admin = Arc::clone(&admin);
        async move {
            for statement in ["VACUUM ANALYZE", "CHECKPOINT"] {
                admin.batch_execute(statement).await.unwrap();
            }
        }
        .boxed()
    }));
    set.keep(server);
    set
}

/// The number of rows per statement that fills a table.
fn step(data: Data) -> usize {
    ((8 << 20) / data.size).clamp(1, 5_000)
}

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

struct Sql {
    select: String,
    upsert: String,
    swap: String,
    upsert_many: String,
}

impl Sql {
    fn new(table: &str) -> Self {
        let deadline = |millis: &str| format!("clock_timestamp() + {millis} * interval '1 millisecond'");
        let conflict = "ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = excluded.version, \
                        expires_at = excluded.expires_at";
        let lives = "(expires_at IS NULL OR expires_at > clock_timestamp())";
        let insert = format!("INSERT INTO {table} (key, value, version, expires_at)");
        Self {
            select: format!("SELECT value, version FROM {table} WHERE key = $1 AND {lives}"),
            upsert: format!("{insert} VALUES ($1, $2, $3, {}) {conflict}", deadline("$4::float8")),
            swap: format!(
                "UPDATE {table} SET value = $2, version = $3, expires_at = {} WHERE key = $1 AND version = $5 AND \
                 {lives}",
                deadline("$4::float8")
            ),
            upsert_many: format!(
                "{insert} SELECT key, value, version, {} FROM unnest($1::text[], $2::bytea[], $3::bigint[]) AS \
                 new (key, value, version) {conflict}",
                deadline("$4::float8")
            ),
        }
    }
}

async fn upsert(
    (client, statement): &(Client, Statement),
    numbers: impl Iterator<Item = u64>,
    value: &Bytes,
) {
    // Sorted, because two concurrent batches could otherwise deadlock.
    let mut keys: Vec<_> = numbers.map(key).collect();
    keys.sort();
    let texts: Vec<_> = keys.iter().map(larder_core::Key::as_str).collect();
    let values = vec![&value[..]; keys.len()];
    let versions: Vec<_> = keys.iter().map(|_| fresh()).collect();
    client.execute(statement, &[&texts, &values, &versions, &millis()]).await.unwrap();
}

fn millis() -> f64 {
    TTL.as_millis() as f64
}

/// Hand-written statements, each prepared once per connection.
#[derive(Clone)]
struct Rows {
    sql: Arc<Sql>,
    connections: Connections,
}

#[derive(Clone)]
enum Connections {
    /// All tasks send their requests on one connection without waiting for replies.
    Shared(Arc<Object>),
    Pool(Pool),
}

#[expect(
    clippy::large_enum_variant,
    reason = "it is on the stack, and a box would be an allocation per operation"
)]
enum Connection<'a> {
    Shared(&'a Object),
    Taken(Object),
}

impl Deref for Connection<'_> {
    type Target = Object;

    fn deref(&self) -> &Object {
        match self {
            Self::Shared(client) => client,
            Self::Taken(client) => client,
        }
    }
}

impl Rows {
    async fn connection(&self) -> Connection<'_> {
        match &self.connections {
            Connections::Shared(client) => Connection::Shared(client),
            Connections::Pool(pool) => Connection::Taken(pool.get().await.unwrap()),
        }
    }
}

impl Raw for Rows {
    type Seen = i64;

    async fn read(&self, number: u64) -> (Bytes, i64) {
        let connection = self.connection().await;
        let select = connection.prepare_cached(&self.sql.select).await.unwrap();
        let row = connection.query_one(&select, &[&key(number).as_str()]).await.unwrap();
        (row.get::<_, Vec<u8>>(0).into(), row.get(1))
    }

    async fn write(&self, number: u64, value: &Bytes) {
        let connection = self.connection().await;
        let upsert = connection.prepare_cached(&self.sql.upsert).await.unwrap();
        let (key, version) = (key(number), fresh());
        connection.execute(&upsert, &[&key.as_str(), &&value[..], &version, &millis()]).await.unwrap();
    }

    async fn swap(&self, number: u64, value: Bytes, seen: i64) -> bool {
        let connection = self.connection().await;
        let swap = connection.prepare_cached(&self.sql.swap).await.unwrap();
        let (key, version) = (key(number), fresh());
        let swapped =
            connection.execute(&swap, &[&key.as_str(), &&value[..], &version, &millis(), &seen]).await;
        swapped.unwrap() == 1
    }
}

//! PostgreSQL: ours, tokio-postgres's prepared call, and tower-sessions-sqlx-store.

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use larder_benches::{Group, KEYS, RUNTIME, TASKS, TTL, VALUE, fill, fresh, key, peers};
use tokio_postgres::{Client, NoTls, Statement};

const CREATE: &str = "DROP TABLE IF EXISTS raw; CREATE TABLE raw (key text COLLATE \"C\" PRIMARY KEY, value bytea NOT \
                      NULL, version bigint NOT NULL, expires_at timestamptz)";
const UPSERT: &str = "INSERT INTO raw (key, value, version, expires_at) VALUES ($1, $2, $3, clock_timestamp() + $4 * \
                      interval '1 millisecond') ON CONFLICT (key) DO UPDATE SET value = excluded.value, version = \
                      excluded.version, expires_at = excluded.expires_at";
const SELECT: &str = "SELECT value, version FROM raw WHERE key = $1 AND (expires_at IS NULL OR expires_at > clock_timestamp())";

struct Raw {
    client: Client,
    upsert: Statement,
    select: Statement,
}

impl Raw {
    async fn connect(url: &str) -> Self {
        let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(CREATE).await.unwrap();
        let (upsert, select) = (client.prepare(UPSERT).await.unwrap(), client.prepare(SELECT).await.unwrap());
        Self { client, upsert, select }
    }

    async fn write(&self, number: u64) {
        let millis = TTL.as_millis() as f64;
        let (key, version) = (key(number), fresh());
        self.client.execute(&self.upsert, &[&key.as_str(), &&VALUE[..], &version, &millis]).await.unwrap();
    }

    async fn read(&self, number: u64) {
        let row = self.client.query_one(&self.select, &[&key(number).as_str()]).await.unwrap();
        assert_eq!(row.get::<_, Vec<u8>>(0).len(), VALUE.len());
    }
}

fn postgres(criterion: &mut Criterion) {
    let _runtime = RUNTIME.enter();
    let server = RUNTIME.block_on(larder_test_servers::postgres()).unwrap();
    let url = server.url().to_owned();
    let ours = RUNTIME.block_on(larder_postgres::connect(&format!("{url}?table=bench"))).unwrap();
    let raw = Arc::new(RUNTIME.block_on(Raw::connect(&url)));
    let peer = RUNTIME.block_on(async {
        let pool = sqlx_store::sqlx::PgPool::connect(&url).await.unwrap();
        let store = sqlx_store::PostgresStore::new(pool);
        store.migrate().await.unwrap();
        store
    });
    RUNTIME.block_on(async {
        fill(&ours).await;
        peers::fill(&peer).await;
        for number in 0..KEYS {
            raw.write(number).await;
        }
    });

    for tasks in TASKS {
        let mut group = Group::new(criterion, "postgres", "read", tasks);
        let shared = Arc::clone(&raw);
        group.measure("raw: tokio-postgres", move |number| {
            let raw = Arc::clone(&shared);
            async move { raw.read(number).await }
        });
        group.read("larder-postgres", &ours);
        peers::read(&mut group, "tower-sessions-sqlx-store", &peer);
        drop(group);

        let mut group = Group::new(criterion, "postgres", "write", tasks);
        let shared = Arc::clone(&raw);
        group.measure("raw: tokio-postgres", move |number| {
            let raw = Arc::clone(&shared);
            async move { raw.write(number).await }
        });
        group.write("larder-postgres", &ours);
        peers::write(&mut group, "tower-sessions-sqlx-store", &peer);
    }
}

criterion_group!(benches, postgres);
criterion_main!(benches);

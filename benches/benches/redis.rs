//! Redis: ours, the redis crate on one multiplexed connection, and tower-sessions-redis-store.

use criterion::{Criterion, criterion_group, criterion_main};
use larder_benches::{Group, KEYS, RUNTIME, TASKS, TTL, VALUE, fill, key, peers};
use redis::aio::MultiplexedConnection;
use redis_store::fred::prelude::{ClientLike, Config, Pool};

async fn write(connection: &mut MultiplexedConnection, number: u64) {
    let mut command = redis::cmd("SET");
    command.arg(format!("raw:{}", key(number))).arg(&VALUE[..]).arg("PX").arg(TTL.as_millis() as u64);
    command.query_async::<()>(connection).await.unwrap();
}

async fn read(connection: &mut MultiplexedConnection, number: u64) {
    let mut command = redis::cmd("GET");
    command.arg(format!("raw:{}", key(number)));
    assert_eq!(command.query_async::<Vec<u8>>(connection).await.unwrap().len(), VALUE.len());
}

fn redis(criterion: &mut Criterion) {
    let _runtime = RUNTIME.enter();
    let server = RUNTIME.block_on(larder_test_servers::redis()).unwrap();
    let url = server.url().to_owned();
    let ours = RUNTIME.block_on(larder_redis::connect(&format!("{url}?prefix=bench"))).unwrap();
    let raw = RUNTIME.block_on(async {
        // As ours does it: without this, replies wait for more to send.
        let info: redis::ConnectionInfo = url.parse().unwrap();
        let settings = info.tcp_settings().clone().set_nodelay(true);
        let client = redis::Client::open(info.set_tcp_settings(settings)).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    });
    let peer = RUNTIME.block_on(async {
        let pool = Pool::new(Config::from_url(&url).unwrap(), None, None, None, 6).unwrap();
        pool.init().await.unwrap();
        redis_store::RedisStore::new(pool)
    });
    RUNTIME.block_on(async {
        fill(&ours).await;
        let mut connection = raw.clone();
        for number in 0..KEYS {
            write(&mut connection, number).await;
            // Its `save` does not make a session, only its `create` does.
            let mut record = peers::record(number);
            // It fails where an earlier run has left one.
            sessions::SessionStore::delete(&peer, &record.id).await.unwrap();
            sessions::SessionStore::create(&peer, &mut record).await.unwrap();
        }
    });

    for tasks in TASKS {
        let mut group = Group::new(criterion, "redis", "read", tasks);
        let connection = raw.clone();
        group.measure("raw: redis", move |number| {
            let mut connection = connection.clone();
            async move { read(&mut connection, number).await }
        });
        group.read("larder-redis", &ours);
        peers::read(&mut group, "tower-sessions-redis-store", &peer);
        drop(group);

        let mut group = Group::new(criterion, "redis", "write", tasks);
        let connection = raw.clone();
        group.measure("raw: redis", move |number| {
            let mut connection = connection.clone();
            async move { write(&mut connection, number).await }
        });
        group.write("larder-redis", &ours);
        peers::write(&mut group, "tower-sessions-redis-store", &peer);
    }
}

criterion_group!(benches, redis);
criterion_main!(benches);

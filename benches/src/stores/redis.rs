//! Redis: the redis crate on one multiplexed connection, and the stores of tower-sessions, teloxide,
//! actix-session and OpenDAL. All use one server, and so have the same durability.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use opendal::{Operator, services::Redis};
use redis::{AsyncConnectionConfig, Script, aio::MultiplexedConnection};
use redis_store::fred::prelude::{ClientLike, Config, Pool};
use teloxide::dispatching::dialogue::{RedisStorage, serializer::Json};

use super::Place;
use crate::{
    contenders::{Peer, Raw, Set, batch, fill, fill_peer, fill_raw},
    data::{Data, TTL, key},
    measure::{BATCH, Contender, Kind, Operation},
    peers::{Actix, Dialogues, Opendal, Tower},
};

/// The number of connections in the pools.
const CONNECTIONS: usize = 10;

/// The database of each space. It is emptied first, because the peers choose their keys themselves.
fn database(space: &str) -> i64 {
    9 + ["bench", "before", "trips"].iter().position(|name| *name == space).unwrap() as i64
}

const SWAP: &str = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end redis.call('SET', KEYS[1], ARGV[2], \
                    'PX', ARGV[3]) return 1";

pub async fn open(place: Place) -> Set {
    let data = place.data;
    let mut set = Set::new(data);
    let server = larder_test_servers::redis().await.unwrap();
    let url = place.url(&server).await;
    let database = database(place.space);
    let url = format!("{}/{database}", url.trim_end_matches('/'));
    let raw = Commands::connect(&url, place.space).await;
    redis::cmd("FLUSHDB").query_async::<()>(&mut raw.connection.clone()).await.unwrap();

    let value = data.value();
    for from in (0..data.keys).step_by(step(data)) {
        raw.set(from..data.keys.min(from + step(data) as u64), &value).await;
    }
    set.raw(Kind::Raw, "redis, one connection", &raw);
    if data.keys >= BATCH {
        let state = (raw.clone(), value);
        let batches = Contender::batches("pipelines of 64", 4, &state, move |state, number| async move {
            state.0.set(batch(number, data), &state.1).await;
        });
        set.push(Operation::Write, batches);
    }

    let ours = larder_redis::connect(&format!("{url}?prefix={}:", place.space)).await.unwrap();
    fill(&ours, data).await;
    set.larder("larder-redis", &ours);

    if place.peers {
        let pool = Pool::new(Config::from_url(&url).unwrap(), None, None, None, CONNECTIONS).unwrap();
        pool.init().await.unwrap();
        let peer = Tower(redis_store::RedisStore::new(pool), data);
        create(&peer, data).await;
        set.peer("tower-sessions, fred", &peer);

        let peer = Dialogues(RedisStorage::open(&url, Json).await.unwrap(), data);
        fill_peer(&peer, data, CONNECTIONS).await;
        set.peer("teloxide", &peer);

        set.peer("actix-session", &Actix::filled(&url, data).await);

        let builder = Redis::default().endpoint(&url).root("/opendal").db(database).default_ttl(TTL);
        let peer = Opendal(Operator::new(builder.connection_pool_max_size(CONNECTIONS)).unwrap());
        fill_raw(&peer, data, CONNECTIONS).await;
        set.raw(Kind::Peer, "OpenDAL", &peer);
    }
    set.keep(server);
    set
}

fn step(data: Data) -> usize {
    ((4 << 20) / data.size).clamp(1, 1_000)
}

/// tower-sessions' `save` only writes existing sessions, so this creates them first.
async fn create<S: sessions::SessionStore + Clone>(peer: &Tower<S>, data: Data) {
    for number in 0..data.keys {
        peer.0.create(&mut peer.session(number)).await.unwrap();
    }
}

#[derive(Clone)]
struct Commands {
    connection: MultiplexedConnection,
    swap: Arc<Script>,
    prefix: &'static str,
}

impl Commands {
    async fn connect(url: &str, prefix: &'static str) -> Self {
        let info: redis::ConnectionInfo = url.parse().unwrap();
        // As Larder does. Without it, replies wait for more data to send.
        let settings = info.tcp_settings().clone().set_nodelay(true);
        let client = redis::Client::open(info.set_tcp_settings(settings)).unwrap();
        // Larder's timeout. A call without a timeout could hang forever.
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(5)));
        let connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        Self { connection, swap: Arc::new(Script::new(SWAP)), prefix }
    }

    fn key(&self, number: u64) -> String {
        format!("{}-raw:{}", self.prefix, key(number))
    }

    async fn set(&self, numbers: impl Iterator<Item = u64>, value: &Bytes) {
        let mut pipe = redis::pipe();
        for number in numbers {
            pipe.cmd("SET").arg(self.key(number)).arg(&value[..]).arg("PX").arg(millis()).ignore();
        }
        pipe.query_async::<()>(&mut self.connection.clone()).await.unwrap();
    }
}

fn millis() -> u64 {
    TTL.as_millis() as u64
}

impl Raw for Commands {
    type Seen = Bytes;

    async fn read(&self, number: u64) -> (Bytes, Bytes) {
        let mut get = redis::cmd("GET");
        let value: Vec<u8> =
            get.arg(self.key(number)).query_async(&mut self.connection.clone()).await.unwrap();
        let value = Bytes::from(value);
        (value.clone(), value)
    }

    async fn write(&self, number: u64, value: &Bytes) {
        let mut set = redis::cmd("SET");
        set.arg(self.key(number)).arg(&value[..]).arg("PX").arg(millis());
        set.query_async::<()>(&mut self.connection.clone()).await.unwrap();
    }

    /// The value is its own version, as in Larder.
    async fn swap(&self, number: u64, value: Bytes, seen: Bytes) -> bool {
        let mut call = self.swap.prepare_invoke();
        call.key(self.key(number)).arg(&seen[..]).arg(&value[..]).arg(millis());
        call.invoke_async::<bool>(&mut self.connection.clone()).await.unwrap()
    }
}

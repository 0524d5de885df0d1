//! Connections of the caller.

use larder_core::{Error, ErrorKind, Overlap, Result, Store, async_trait};
use larder_redis::{Config, Connection, redis};
use larder_test_servers::Kind;
use larder_testkit::{Context, Factory, Fails, Must, Suite};

use crate::places::{PATIENCE, Place, key, location, missing, open, private, raw};

/// One connection for all storages of the suite.
pub(crate) struct Own(Connection);

#[async_trait]
impl Factory for Own {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        Config::new().prefix(space).connect_with(self.0.clone()).await
    }
}

pub(crate) fn manager() -> Suite<Own> {
    Suite::connect("redis_own_manager", || async {
        let server = larder_test_servers::redis().await.map_err(missing)?;
        let client = redis::Client::open(server.url()).must("parse the URL");
        Ok(Own(patient_manager(&client).await.into()))
    })
}

/// With timeouts for a busy machine: the defaults of the driver are half a second and a second.
async fn patient_manager(client: &redis::Client) -> redis::aio::ConnectionManager {
    let config = redis::aio::ConnectionManagerConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    client.get_connection_manager_with_config(config).await.must("connect")
}

pub(crate) fn cluster() -> Suite<Own> {
    Suite::connect("redis_own_cluster", || async {
        let server = larder_test_servers::redis_cluster().await.map_err(missing)?;
        let client = redis::cluster::ClusterClient::builder(server.urls().to_vec())
            .connection_timeout(PATIENCE)
            .response_timeout(PATIENCE)
            .build()
            .must("parse the URLs");
        Ok(Own(client.get_async_connection().await.must("connect").into()))
    })
}

pub(crate) async fn stays_open(context: Context<Place>) {
    let mut own = raw(context.factory.server.url()).await;
    let space = context.target.space();
    let build = || Config::new().prefix(space).connect_with(own.clone());
    let storage = build().await.must("wrap the connection");
    let other = build().await.must("wrap the connection");
    assert!(!storage.info().fenced);
    storage.write(key("k"), "v").await.must("write");
    storage.close().await.must("close");
    storage.close().await.must("close twice");
    storage.read(key("k")).await.fails(ErrorKind::Closed, "read after close");
    storage.flush().await.fails(ErrorKind::Closed, "flush after close");
    assert_eq!(other.read(key("k")).await.must("read").must("find it").value, "v");
    other.close().await.must("close");
    let value: String = redis::cmd("GET")
        .arg(format!("{space}:k"))
        .query_async(&mut own)
        .await
        .must("use the connection after both storages");
    assert_eq!(value, "v");
    redis::cmd("DEL").arg(format!("{space}:k")).exec_async(&mut own).await.must("tidy up");
}

/// A connection of the caller leads to the entries of its database.
pub(crate) async fn location_of_a_connection(context: Context<Place>) {
    let server = &context.factory.server;
    let space = context.target.space();
    let here = location(&open(server, space, "").await).await;
    let elsewhere = location(&open(server, space, "&db=1").await).await;
    assert_eq!(here.overlap(&elsewhere), Overlap::Disjoint);
    let other_prefix = location(&open(server, &format!("{space}:x"), "").await).await;
    assert_eq!(here.overlap(&other_prefix), Overlap::Disjoint);
    let mut own = raw(server.url()).await;
    let storage = Config::new().prefix(space).connect_with(own.clone()).await.must("wrap the connection");
    assert_eq!(here.overlap(&location(&storage).await), Overlap::Same);
    redis::cmd("SELECT").arg(1).exec_async(&mut own).await.must("select another database");
    assert_eq!(elsewhere.overlap(&location(&storage).await), Overlap::Same);
}

pub(crate) async fn broken(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let client = redis::Client::open(server.url()).must("parse the URL");
    let manager = patient_manager(&client).await;
    let plain = raw(server.url()).await;
    let build = |own: Connection| Config::new().prefix(context.target.space()).connect_with(own);
    let reconnects = build(manager.into()).await.must("wrap the manager");
    let stays_broken = build(plain.into()).await.must("wrap the connection");
    server.restart().await.must("restart the server");
    // A plain connection does not reconnect: every call fails.
    for _ in 0..2 {
        let error = stays_broken.read(key("k")).await;
        assert!(error.fails(ErrorKind::Unavailable, "read on a broken connection").is_retryable());
    }
    // A manager reconnects.
    larder_testkit::until("the manager reconnects", PATIENCE, || async {
        match reconnects.read(key("k")).await {
            Ok(record) => record.is_none(),
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                false
            }
        }
    })
    .await;
}

//! Redis Sentinel: a master that is replaced.

use std::time::Duration;

use larder_core::ErrorKind;
use larder_redis::redis;
use larder_test_servers::{Kind, SENTINEL_MASTER};
use larder_testkit::{Context, Fails, Must, until};

use crate::places::{Place, command, key, location, open, private, raw, try_command, url};

pub(crate) async fn failover(context: Context<Place>) {
    let server = private(Kind::RedisSentinel, &[]).await;
    let storage = open(&server, context.target.space(), "&timeout=2s&connect_timeout=2s").await;
    storage.write(key("before"), "v").await.must("write");
    let master = format!("redis://127.0.0.1:{}", server.ports()[0]);
    // Replication is asynchronous. Wait for it: this write has to survive.
    until("the replica follows", Duration::from_secs(10), || async {
        storage.write(key("before"), "v").await.must("write");
        let mut raw = raw(&master).await;
        let lag: String = redis::cmd("INFO").arg("replication").query_async(&mut raw).await.must("INFO");
        lag.contains("state=online")
    })
    .await;
    let replica = format!("redis://127.0.0.1:{}", server.ports()[1]);
    let stored = format!("EXISTS {}:before", context.target.space());
    until("the replica has it", Duration::from_secs(10), || async {
        command(&replica, &stored).await == redis::Value::Int(1)
    })
    .await;

    server.kill_node(0).await.must("kill the master");
    // On the same storage, until the Sentinel has made the replica the master.
    let write_again = async |what: &str| {
        until(what, Duration::from_secs(60), || async {
            match storage.write(key("after"), what.to_owned()).await {
                Ok(_) => true,
                Err(error) => {
                    assert!(error.is_retryable(), "{error:?}");
                    false
                }
            }
        })
        .await;
    };
    write_again("writes go to the new master").await;
    assert_eq!(storage.read(key("before")).await.must("read").must("find it").value, "v");

    // The old master comes back as a replica, and receives no writes.
    server.start_node(0).await.must("start the old master");
    server.wait_ready().await.must("wait for the replica");
    write_again("writes still go to the new master").await;
    assert!(is_master(&replica).await);
    // And back, without a kill: the master is demoted under an open connection.
    let sentinel = server.url();
    command(sentinel, &format!("SENTINEL FAILOVER {SENTINEL_MASTER}")).await;
    until("the first server is the master again", Duration::from_secs(60), || async {
        is_master(&master).await
    })
    .await;
    // Until the Sentinel has demoted the old master, that one accepts writes that Redis loses. The
    // storage only promises to find the new master.
    let stored = format!("GET {}:after", context.target.space());
    until("writes reach the first server again", Duration::from_secs(60), || async {
        let written = storage.write(key("after"), "again").await;
        if let Err(error) = &written {
            assert!(error.is_retryable(), "{error:?}");
        }
        written.is_ok() && try_command(&master, &stored).await == Ok("again".to_owned())
    })
    .await;
}

/// Returns whether a server reports that it is a master. `false` without a reply: when a Sentinel gives a
/// server another role, the server closes all its connections.
async fn is_master(url: &str) -> bool {
    let role: Result<Vec<redis::Value>, _> = try_command(url, "ROLE").await;
    role.is_ok_and(|role| role.first() == Some(&redis::Value::BulkString(b"master".to_vec())))
}

/// The master and its replica have the same entries.
pub(crate) async fn one_location(context: Context<Place>) {
    let server = &context.factory.server;
    let space = context.target.space();
    let here = location(&open(server, space, "").await).await;
    // Those of servers from the environment are unknown.
    for port in server.ports().iter().take(2) {
        let direct = format!("redis://127.0.0.1:{port}?prefix={space}");
        let direct = larder_redis::connect(&direct).await.must("connect to one server");
        assert_eq!(location(&direct).await, here, "port {port}");
    }
}

pub(crate) async fn unknown_master(context: Context<Place>) {
    let url = url(&context.factory.server, "x").replace(SENTINEL_MASTER, "unknown");
    let error = larder_redis::connect(&url).await.fails(ErrorKind::Unavailable, "an unknown master");
    assert!(error.message().contains("name"), "{error}");
}

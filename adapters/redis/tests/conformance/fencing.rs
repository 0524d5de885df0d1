//! Fencing: whether a former connection can be closed.

use larder_core::{ErrorKind, Outcome};
use larder_redis::redis;
use larder_test_servers::{Kind, Relay, Server};
use larder_testkit::{Context, Fails, Must, until};

use crate::places::{
    PATIENCE, Place, command, key, open, open_impatient, open_over_line, open_patient_over_line, private,
    raw, write_until_acknowledged,
};

/// A single server is fenced; a cluster and a Sentinel's servers are not.
pub(crate) async fn claimed_by_one_server(context: Context<Place>) {
    let kind = context.factory.server.kind();
    let one = !matches!(kind, Kind::RedisCluster | Kind::RedisSentinel);
    let store = open(&context.factory.server, context.target.space(), context.factory.options).await;
    assert_eq!(store.info().fenced, one);
}

/// The URL of a user with permission for all commands but some.
async fn user(server: &Server, rules: &str) -> String {
    command(server.url(), &format!("ACL SETUSER bot on >wrong-horse ~* &* +@all {rules}")).await;
    server.url().replacen("://", "://bot:wrong-horse@", 1)
}

pub(crate) async fn needs_permission(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    for (rules, fenced) in [
        ("", true),
        ("-client|kill", false),
        ("-client|info", false),
        ("-info", false),
        ("-@admin", false),
        ("-@dangerous", false),
    ] {
        let url = format!("{}?prefix={}", user(&server, rules).await, context.target.space());
        let storage = larder_redis::connect(&url).await.must("connect");
        assert_eq!(storage.info().fenced, fenced, "with the rules `{rules}`");
        storage.write(key("k"), "v").await.must("write");
        assert_eq!(storage.read(key("k")).await.must("read").must("find it").value, "v");
        storage.close().await.must("close");
        command(server.url(), "ACL DELUSER bot").await;
    }
}

/// Without the permission, the storage still works after a timeout.
pub(crate) async fn unfenced_storage_reconnects(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let url = format!("{}?prefix={}", user(&server, "-client|kill").await, context.target.space());
    let (storage, line) = open_over_line(&url).await.must("connect");
    line.hold();
    let late = storage.write(key("k"), "late").await;
    late.fails(ErrorKind::Timeout, "write that is held back");
    write_until_acknowledged(&storage, &key("k"), "newer").await;
}

/// After the permission is revoked, changes are rejected and never applied unfenced.
pub(crate) async fn lost_permission_stops_changes(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let url = format!("{}?prefix={}", user(&server, "").await, context.target.space());
    let (storage, line) = open_over_line(&url).await.must("connect");
    assert!(storage.info().fenced);
    write_until_acknowledged(&storage, &key("k"), "older").await;
    user(&server, "-client|kill").await;
    line.hold();
    let late = storage.write(key("k"), "late").await;
    late.fails(ErrorKind::Timeout, "write that is held back");
    for _ in 0..2 {
        let refused = storage.write(key("k"), "newer").await;
        let error = refused.fails(ErrorKind::Unavailable, "write without the permission");
        assert!(error.is_retryable());
        assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
        assert!(error.message().contains("CLIENT KILL"), "{error}");
    }
    let other = open(&server, context.target.space(), "").await;
    assert_eq!(other.read(key("k")).await.must("read").must("find it").value, "older");
    user(&server, "+client|kill").await;
    write_until_acknowledged(&storage, &key("k"), "newer").await;
    line.release().await;
    assert_eq!(other.read(key("k")).await.must("read").must("find it").value, "newer");
}

/// The number of requests to close a connection. Each new connection sends one that closes none.
async fn kills(server: &Server) -> u64 {
    let mut raw = raw(server.url()).await;
    let info = redis::cmd("INFO").arg("commandstats").query_async(&mut raw).await;
    let info: String = info.must("ask for the statistics");
    let line = info.lines().find_map(|line| line.strip_prefix("cmdstat_client|kill:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

pub(crate) async fn one_kill_per_reconnect(context: Context<Place>) {
    for kind in [Kind::Redis, Kind::Valkey] {
        let server = private(kind, &[]).await;
        let url = format!("{}?prefix={}", server.url(), context.target.space());
        // A timeout would cause one more connection.
        let (storage, line) = open_patient_over_line(&url).await.must("connect");
        assert_eq!(kills(&server).await, 1, "when connecting");
        line.hold();
        line.cut();
        write_until_acknowledged(&storage, &key("k"), "v").await;
        assert_eq!(kills(&server).await, 3, "when connecting again");
        // A restarted server numbers its clients from the start: the former number is invalid.
        server.restart().await.must("restart the server");
        write_until_acknowledged(&storage, &key("k"), "v").await;
        assert_eq!(kills(&server).await, 1, "after a restart");
    }
}

fn host(server: &Server) -> &str {
    let (_, host) = server.url().split_once("://").must("find the host");
    host.trim_end_matches('/')
}

/// Puts a space into a client's address in the server's answer. The path of a socket may contain one.
fn address_with_space(answer: &mut [u8]) {
    let name = b" addr=";
    let Some(at) = answer.windows(name.len()).position(|window| window == name) else { return };
    if let Some(dot) = answer[at..].iter_mut().find(|byte| **byte == b'.') {
        *dot = b' ';
    }
}

pub(crate) async fn address_with_a_space(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let relay = Relay::to(host(&server), address_with_space).await.must("start a relay");
    let url = format!("redis://{}?prefix={}", relay.address(), context.target.space());
    let (storage, line) = open_over_line(&url).await.must("connect");
    assert!(storage.info().fenced);
    line.hold();
    let late = storage.write(key("k"), "late").await;
    late.fails(ErrorKind::Timeout, "write that is held back");
    write_until_acknowledged(&storage, &key("k"), "newer").await;
    line.release().await;
    let other = open(&server, context.target.space(), "").await;
    assert_eq!(other.read(key("k")).await.must("read").must("find it").value, "newer");
}

/// Two running servers under one name: the connection to the first is closed before the first is used again.
pub(crate) async fn other_server_in_between(context: Context<Place>) {
    let (first, second) = (private(Kind::Redis, &[]).await, private(Kind::Redis, &[]).await);
    let relay = Relay::to(host(&first), |_| {}).await.must("start a relay");
    let url = format!("redis://{}?prefix={}", relay.address(), context.target.space());
    let (storage, line) = open_over_line(&url).await.must("connect");
    write_until_acknowledged(&storage, &key("k"), "before").await;
    line.hold();
    let late = storage.write(key("k"), "late").await;
    late.fails(ErrorKind::Timeout, "write that is held back");
    relay.redirect(host(&second));
    write_until_acknowledged(&storage, &key("k"), "elsewhere").await;
    relay.redirect(host(&first));
    command(second.url(), "CLIENT KILL TYPE normal SKIPME yes").await;
    let at_first = open(&first, context.target.space(), "").await;
    until("the storage is back at the first server", PATIENCE, || async {
        let _ = storage.write(key("k"), "newer").await;
        at_first.read(key("k")).await.must("read").must("find it").value == "newer"
    })
    .await;
    line.release().await;
    assert_eq!(at_first.read(key("k")).await.must("read").must("find it").value, "newer");
}

pub(crate) async fn frozen_server_confirms_nothing(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let storage = open_impatient(&server, context.target.space()).await;
    server.pause().await.must("freeze the server");
    let late = storage.write(key("k"), "late").await;
    let error = late.fails(ErrorKind::Timeout, "write to a frozen server");
    assert_eq!(error.outcome(), Outcome::Unknown, "{error}");
    let refused = storage.write(key("k"), "newer").await;
    let error = refused.fails(ErrorKind::Unavailable, "write that cannot be fenced");
    assert!(error.is_retryable() && error.outcome() == Outcome::NotApplied, "{error:?}");
    server.resume().await.must("thaw the server");
    write_until_acknowledged(&storage, &key("k"), "newer").await;
}

//! Servers that reject a client or cannot be reached.

use std::time::{Duration, Instant};

use larder_core::{Condition, Error, ErrorKind, Expiry, Operation, Outcome};
use larder_redis::Config;
use larder_test_servers::{Kind, PASSWORD};
use larder_testkit::{Context, Fails, Must};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::places::{Place, command, key, location, open, private};

async fn refused(url: &str, kind: ErrorKind, what: &str) -> Error {
    let started = Instant::now();
    let error = larder_redis::connect(url).await.fails(kind, what);
    assert!(started.elapsed() < Duration::from_secs(10), "{what}: took {:?}", started.elapsed());
    assert_eq!((error.adapter(), error.operation()), (Some("redis"), Some(Operation::Connect)), "{what}");
    assert_eq!(error.outcome(), Outcome::NotApplied, "{what}");
    for secret in [PASSWORD, "wrong-horse"] {
        assert!(!format!("{error} {error:?}").contains(secret), "{what}: prints a password");
    }
    error
}

pub(crate) async fn tls(context: Context<Place>) {
    let server = &context.factory.server;
    let url = server.url();
    if let Some(other) = server.other_ca_path() {
        let wrong = format!("{url}?tls_ca={}", other.display());
        let error = refused(&wrong, ErrorKind::InvalidConfig, "TLS with another authority").await;
        assert!(!error.is_retryable());
        refused(url, ErrorKind::InvalidConfig, "TLS with the system's authorities").await;
    }
    let none = format!("{url}?tls_ca=/no/such/file.pem");
    refused(&none, ErrorKind::InvalidConfig, "TLS with an authority that is not there").await;
    let garbage = format!("{url}?tls_ca={}", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    refused(&garbage, ErrorKind::InvalidConfig, "TLS with an invalid authority").await;
    // Without TLS the server closes the connection, or sends nothing.
    let plain = format!("{}?connect_timeout=1s", url.replacen("rediss://", "redis://", 1));
    let error = larder_redis::connect(&plain).await.err().must("fail without TLS");
    assert!(error.is_retryable() || error.kind() == ErrorKind::Other, "{error}");
}

pub(crate) async fn password(context: Context<Place>) {
    let url = context.factory.server.url();
    for protocol in ["auto", "resp2"] {
        let wrong = url.replace(PASSWORD, "wrong-horse");
        refused(&format!("{wrong}?protocol={protocol}"), ErrorKind::PermissionDenied, "a wrong password")
            .await;
        let (_, host) = url.split_once('@').must("find the host");
        let none = format!("redis://{host}?protocol={protocol}");
        let opened = larder_redis::connect(&none).await;
        let error = match opened {
            Ok(storage) => storage.read(key("k")).await.err().must("be refused without a password"),
            Err(error) => error,
        };
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        let beside = Config::from_url(&none).must("parse the URL").password(PASSWORD).connect().await;
        beside.must("connect with the password beside the URL").ping().await.must("ping");
    }
}

pub(crate) async fn unknown_host(_: Context<Place>) {
    let error = refused("redis://unknown.invalid", ErrorKind::Unavailable, "an unknown host").await;
    assert!(error.is_retryable());
    let url = "redis-cluster://:wrong-horse@nobody.invalid,nowhere.invalid";
    refused(url, ErrorKind::Unavailable, "a cluster of unknown hosts").await;
    let url = "redis-sentinel://:wrong-horse@nobody.invalid/master";
    refused(url, ErrorKind::Unavailable, "Sentinels on unknown hosts").await;
}

pub(crate) async fn refused_port(_: Context<Place>) {
    // Nothing listens on port 1.
    let error = refused("redis://127.0.0.1:1", ErrorKind::Unavailable, "a refused port").await;
    assert!(error.is_retryable());
    refused("redis-cluster://127.0.0.1:1", ErrorKind::Unavailable, "a refused cluster").await;
    refused("redis-sentinel://127.0.0.1:1/m", ErrorKind::Unavailable, "a refused Sentinel").await;
}

pub(crate) async fn silent_server(_: Context<Place>) {
    // The system accepts connections, and the server never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.must("bind");
    let host = listener.local_addr().must("name the port");
    for place in ["redis://HOST", "redis-sentinel://HOST/m"] {
        let url = format!("{}?connect_timeout=300ms", place.replace("HOST", &host.to_string()));
        let started = Instant::now();
        let error = larder_redis::connect(&url).await.err().must("fail on a silent server");
        assert!(error.is_retryable(), "{error}");
        // The default is five seconds.
        assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    }
}

pub(crate) async fn missing_permission(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let space = context.target.space();
    let rules = format!("ACL SETUSER reader on >wrong-horse ~{space}:* +get +ping +hello +select");
    command(server.url(), &rules).await;
    let (_, host) = server.url().split_once("://").must("find the host");
    let url = |prefix| format!("redis://reader:wrong-horse@{host}?prefix={prefix}");
    let storage = larder_redis::connect(&url(space)).await.must("connect as a reader");
    storage.ping().await.must("ping");
    assert!(storage.read(key("k")).await.must("read").is_none());
    let error = storage.write(key("k"), "v").await;
    let error = error.fails(ErrorKind::PermissionDenied, "write as a reader");
    assert!(!error.is_retryable());
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    let error = storage.touch(key("k"), Expiry::Never).await;
    let error = error.fails(ErrorKind::PermissionDenied, "touch by a script as a reader");
    assert!(error.message().contains("`EVALSHA`"), "{error}");
    // A script has the permissions of its user.
    command(server.url(), "ACL SETUSER reader +eval +evalsha").await;
    open(&server, space, "").await.write(key("here"), "v").await.must("write");
    let error = storage.touch(key("here"), Expiry::Never).await;
    let error =
        error.fails(ErrorKind::PermissionDenied, "touch by a script as a reader with permission for scripts");
    assert_eq!(error.outcome(), Outcome::NotApplied, "{error}");
    open(&server, space, "").await.delete(key("here")).await.must("delete");
    let absent = storage.write(key("k"), "v").if_absent().await;
    absent.fails(ErrorKind::PermissionDenied, "conditional write as a reader");
    storage.clear("").await.fails(ErrorKind::PermissionDenied, "clear as a reader");
    assert_eq!(storage.location().await.must("ask for the location as a reader"), None);
    // Another prefix is not permitted.
    let other = larder_redis::connect(&url("other")).await.must("connect as a reader");
    other.read(key("k")).await.fails(ErrorKind::PermissionDenied, "read of a forbidden key");
    // A listing does not need INFO.
    command(server.url(), "ACL SETUSER reader +scan").await;
    open(&server, space, "").await.write(key("k"), "v").await.must("write");
    let listed: Vec<_> = futures_util::TryStreamExt::try_collect(storage.keys("")).await.must("list");
    assert_eq!(listed, [key("k")]);
}

/// The permissions in the README suffice for everything.
pub(crate) async fn documented_permissions(context: Context<Place>) {
    let server = private(Kind::Redis, &[]).await;
    let space = context.target.space();
    let readme = include_str!("../../../../adapters/redis/README.md");
    let documented = readme.lines().find(|line| line.starts_with("ACL SETUSER")).must("find the permissions");
    let rules = documented.replace("shop-bot", space).replace(">password", ">wrong-horse");
    command(server.url(), &rules).await;
    let url = server.url().replacen("://", "://bot:wrong-horse@", 1);
    for cas in ["auto", "script"] {
        let storage = larder_redis::connect(&format!("{url}?prefix={space}&cas={cas}")).await.must("connect");
        assert!(storage.info().fenced);
        location(&storage).await;
        storage.ping().await.must("ping");
        for (name, expiry) in [("goes", Expiry::after_secs(60)), ("stays", Expiry::Never)] {
            let written = storage.write(key(name), "v").expiry(expiry).if_absent().await.must("write");
            let at = Condition::unchanged(written.version);
            storage.write(key(name), "v").expiry(expiry).condition(at.clone()).await.must("overwrite");
            storage.touch(key(name), expiry).condition(at).await.must("touch a version");
            assert!(storage.touch(key(name), expiry).await.must("touch"));
            assert!(storage.contains(&key(name)).await.must("contains"));
            assert!(storage.ttl(&key(name)).await.must("ttl").is_some());
            assert!(storage.read(key(name)).touching(expiry).await.must("read and touch").is_some());
            assert!(storage.read(key(name)).with_ttl().await.must("read with the TTL").is_some());
        }
        let entries: Vec<_> = futures_util::TryStreamExt::try_collect(storage.entries("")).await.must("list");
        assert_eq!(entries.len(), 2);
        let version = entries[0].1.version.clone();
        let deletion = storage.delete(&entries[0].0).condition(Condition::unchanged(version));
        assert!(deletion.await.must("delete a version"));
        assert_eq!(storage.clear("").await.must("clear"), 1);
    }
}

pub(crate) async fn no_such_database(context: Context<Place>) {
    let url = format!("{}/99999", context.factory.server.url());
    refused(&url, ErrorKind::InvalidConfig, "a database that is not there").await;
}

pub(crate) async fn unix_socket(context: Context<Place>) {
    // A socket that leads to the shared server.
    let directory = std::env::temp_dir().join(format!("larder-{}", context.target.space()));
    std::fs::create_dir(&directory).must("make a directory");
    let path = directory.join("redis.sock");
    let listener = UnixListener::bind(&path).must("bind a socket");
    let (_, server) = context.factory.server.url().split_once("://").must("find the host");
    let server = server.trim_end_matches('/').to_owned();
    let proxy = tokio::spawn(async move {
        while let Ok((mut inside, _)) = listener.accept().await {
            let mut outside = TcpStream::connect(&server).await.must("connect to the server");
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inside, &mut outside).await });
        }
    });
    let place = format!("redis+unix://{}", path.display());
    let storage = larder_redis::connect(&format!("{place}?prefix={}&db=1", context.target.space())).await;
    let storage = storage.must("connect by a socket");
    assert!(storage.info().fenced);
    let by_host = open(&context.factory.server, context.target.space(), "&db=1").await;
    assert_eq!(location(&storage).await, location(&by_host).await);
    storage.write(key("k"), "v").expiry(Expiry::after_secs(60)).await.must("write");
    assert_eq!(storage.read(key("k")).await.must("read").must("find it").value, "v");
    assert_eq!(storage.clear("").await.must("clear"), 1);
    refused(&format!("{place}.not"), ErrorKind::Unavailable, "a socket that is not there").await;
    proxy.abort();
    std::fs::remove_dir_all(&directory).must("remove the directory");
}

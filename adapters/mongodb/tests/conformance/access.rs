//! Servers that reject a client or cannot be reached.

use std::time::{Duration, Instant};

use larder_core::{Error, ErrorKind};
use larder_testkit::{Context, Fails, Must};
use mongodb::bson::doc;
use tokio::net::TcpListener;

use crate::places::{Place, database, key, url};

async fn refused(url: &str, kind: ErrorKind, what: &str) -> Error {
    let started = Instant::now();
    let error = larder_mongodb::connect(url).await.fails(kind, what);
    assert!(started.elapsed() < Duration::from_secs(10), "{what}: took {:?}", started.elapsed());
    for secret in ["correct-horse", "wrong-horse"] {
        assert!(!format!("{error} {error:?}").contains(secret), "{what}: prints a password");
    }
    error
}

/// A server without passwords also rejects a wrong one.
pub(crate) async fn password(context: Context<Place>) {
    let server = &context.factory.server;
    let database = database(server).await;
    let user = context.target.space();
    let create = doc! {
        "createUser": user, "pwd": "correct-horse",
        "roles": [{ "role": "readWrite", "db": crate::places::DATABASE }],
    };
    database.run_command(create).await.must("create a user");
    let url = url(server, user);
    let with = |password: &str| {
        let url = url.replacen("mongodb://", &format!("mongodb://{user}:{password}@"), 1);
        format!("{url}&authSource={}", crate::places::DATABASE)
    };
    let error = refused(&with("wrong-horse"), ErrorKind::PermissionDenied, "a wrong password").await;
    assert!(!error.is_retryable());
    let nobody = with("wrong-horse").replacen(user, "unknown", 1);
    refused(&nobody, ErrorKind::PermissionDenied, "an unknown user").await;
    let storage = larder_mongodb::connect(&with("correct-horse")).await.must("connect with the password");
    storage.write(key("k"), "v").await.must("write");
    assert!(!format!("{storage:?}").contains("correct-horse"));
    storage.close().await.must("close");
    database.run_command(doc! { "dropUser": user }).await.must("drop the user");
}

pub(crate) async fn unknown_host(_: Context<Place>) {
    let url = "mongodb://u:wrong-horse@nobody.invalid/db?serverSelectionTimeoutMS=1000";
    let error = refused(url, ErrorKind::Unavailable, "an unknown host").await;
    assert!(error.is_retryable());
}

pub(crate) async fn refused_port(_: Context<Place>) {
    // Nothing listens on port 1. With the default timeout of five seconds.
    let url = "mongodb://u:wrong-horse@127.0.0.1:1/db?setup=false";
    let error = refused(url, ErrorKind::Unavailable, "a refused port").await;
    assert!(error.is_retryable());
}

pub(crate) async fn silent_server(_: Context<Place>) {
    // The system accepts connections, and the server never answers.
    let listener = TcpListener::bind("127.0.0.1:0").await.must("bind");
    let host = listener.local_addr().must("name the port");
    let error = refused(&format!("mongodb://{host}/?timeout=1s"), ErrorKind::Timeout, "silence").await;
    assert!(error.is_retryable());
    let url = format!("mongodb://{host}/?serverSelectionTimeoutMS=500&connectTimeoutMS=300");
    refused(&url, ErrorKind::Unavailable, "silence, by the driver's timeout").await;
}

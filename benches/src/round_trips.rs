//! Counts round trips: the driver of each contender connects to its server through a proxy.
//!
//! One task waits for each reply before it continues. So a round trip begins each time the client sends on a
//! connection after the server has sent. This works for every driver and protocol.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    contenders::Set,
    data::Data,
    measure::{Load, Operation},
    results::RoundTrips,
    stores::{Bench, Place},
};

/// The time that each contender works: a few hundred operations.
const TIME: Duration = Duration::from_millis(200);

pub async fn count(bench: &Bench) -> Vec<RoundTrips> {
    let server = match bench.name {
        "postgres" => larder_test_servers::postgres().await,
        "mysql" => larder_test_servers::mariadb().await,
        "redis" => larder_test_servers::redis().await,
        "mongodb" => larder_test_servers::mongodb().await,
        "dynamodb" => larder_test_servers::dynamodb().await,
        _ => return Vec::new(),
    };
    let server = server.unwrap();
    let begun = Arc::new(AtomicU64::new(0));
    let url = proxied(server.url(), &begun).await;
    let data = Data { keys: 100, size: 512 };
    let set: Set = (bench.open)(Place { data, peers: true, url: Some(url), space: "trips" }).await;
    let mut counted = Vec::new();
    for operation in [Operation::Read, Operation::Write, Operation::Update] {
        for contender in &set.rows[&operation] {
            let load = Load { tasks: 1, keys: data.keys, time: TIME };
            // A first run opens the connections and prepares the statements.
            contender.run(load).await.unwrap();
            let before = begun.load(Ordering::Relaxed);
            let sample = contender.run(load).await.unwrap();
            let round_trips = begun.load(Ordering::Relaxed) - before;
            counted.push(RoundTrips {
                store: bench.name.to_owned(),
                operation,
                contender: contender.name.clone(),
                per_operation: round_trips as f64 / sample.operations as f64,
            });
        }
    }
    counted
}

/// Starts a proxy to the server, and returns its URL.
async fn proxied(url: &str, begun: &Arc<AtomicU64>) -> String {
    let (_, rest) = url.split_once("://").unwrap();
    let authority = rest.split(['/', '?', '&']).next().unwrap();
    let address = authority.rsplit('@').next().unwrap().to_owned();
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    let url = url.replacen(&address, &proxy, 1);
    let begun = Arc::clone(begun);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(&address).await.unwrap();
            client.set_nodelay(true).unwrap();
            server.set_nodelay(true).unwrap();
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let replied = Arc::new(AtomicBool::new(true));
            let (asked, begun) = (Arc::clone(&replied), Arc::clone(&begun));
            tokio::spawn(forward(from_client, to_server, move || {
                begun.fetch_add(u64::from(asked.swap(false, Ordering::Relaxed)), Ordering::Relaxed);
            }));
            tokio::spawn(forward(from_server, to_client, move || replied.store(true, Ordering::Relaxed)));
        }
    });
    url
}

async fn forward(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, each: impl Fn()) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        each();
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

//! Helpers that open stores on the servers.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use larder_core::{Change, Error, Key, Location, Result, Store, async_trait};
use larder_redis::redis;
use larder_test_servers::{Kind, Relay, SENTINEL_MASTER, Server};
use larder_testkit::{Factory, Line, Missing, Must, Proxy, until};

/// The limit of each wait for a server on a busy machine. The driver's default of half a second is shorter
/// than a write to a busy disk.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server with options; the spaces of the suite are prefixes.
pub(crate) struct Place {
    pub(crate) server: Server,
    pub(crate) options: &'static str,
}

/// The shared server of a kind.
pub(crate) async fn place(kind: Kind, options: &'static str) -> Result<Place, Missing> {
    let server = kind.shared().await.map_err(missing)?;
    Ok(Place { server, options })
}

/// For cases that start their own server, to kill or configure it. With a server from
/// the environment they are ignored.
pub(crate) async fn needs_private(kind: Kind) -> Result<Place, Missing> {
    let variable = kind.url_variable();
    if std::env::var_os(&variable).is_some() {
        let reason = format!("the case kills or configures its server, which {variable} names");
        return Err(Missing::new(reason, false));
    }
    place(kind, "").await
}

/// A server for a single case.
pub(crate) async fn private(kind: Kind, options: &[&str]) -> Server {
    kind.private_with(options).await.must("start a server for this case alone")
}

pub(crate) fn missing(missing: larder_test_servers::Missing) -> Missing {
    Missing::new(missing.to_string(), missing.required())
}

/// The hosts of a server, with their ports.
fn hosts(server: &Server) -> Vec<&str> {
    let hosts = server.urls().iter().filter_map(|url| url.split_once("://"));
    hosts.map(|(_, host)| host.trim_end_matches('/')).collect()
}

/// The storage URL of a server, ready for `&option=value`.
pub(crate) fn url(server: &Server, prefix: &str) -> String {
    let place = match server.kind() {
        Kind::RedisCluster => format!("redis-cluster://{}", hosts(server).join(",")),
        Kind::RedisSentinel => format!("redis-sentinel://{}/{SENTINEL_MASTER}", hosts(server).join(",")),
        _ => server.url().to_owned(),
    };
    let authority = server.ca_path().map(|path| format!("&tls_ca={}", path.display())).unwrap_or_default();
    format!("{place}?prefix={prefix}{authority}")
}

/// Opens a store on a server, with further options (`&timeout=1s`).
pub(crate) async fn open(server: &Server, prefix: &str, options: &str) -> Store {
    larder_redis::connect(&format!("{}{options}", url(server, prefix))).await.must("connect")
}

/// Opens a store with short timeouts, on a server that will stop answering.
pub(crate) async fn open_impatient(server: &Server, prefix: &str) -> Store {
    let url = format!("{}&timeout=1s&connect_timeout=1s", url(server, prefix));
    let opened = tokio::sync::OnceCell::new();
    until("a storage with short timeouts is open", PATIENCE, || async {
        match larder_redis::connect(&url).await {
            Err(error) if error.is_retryable() => false,
            store => opened.set(store.must("connect")).is_ok(),
        }
    })
    .await;
    opened.into_inner().must("connect")
}

/// Opens a store over a line, for a URL with options. The timeout is half a
/// second, so that a case quickly sees a timeout.
pub(crate) async fn open_over_line(url: &str) -> Result<(Store, Arc<dyn Line>), Error> {
    open_patient_over_line(&format!("{url}&timeout=500ms")).await
}

/// The same, with the timeouts of the URL.
pub(crate) async fn open_patient_over_line(url: &str) -> Result<(Store, Arc<dyn Line>), Error> {
    let (_, rest) = url.split_once("://").must("find the host");
    let authority = rest.split(['/', '?']).next().must("find the host");
    let host = authority.rsplit('@').next().must("find the host");
    let proxy = Proxy::to(host).await.must("start a proxy");
    let url = url.replacen(host, &proxy.address().to_string(), 1);
    Ok((larder_redis::connect(&url).await?, Arc::new(proxy)))
}

/// The lines to all nodes, as one.
struct Lines(Vec<Proxy>);

#[async_trait]
impl Line for Lines {
    fn hold(&self) {
        self.0.iter().for_each(Line::hold);
    }

    fn held(&self) -> usize {
        self.0.iter().map(Line::held).sum()
    }

    fn swallow(&self) {
        self.0.iter().for_each(Line::swallow);
    }

    fn damage(&self) {
        self.0.iter().for_each(Line::damage);
    }

    fn cut(&self) {
        self.0.iter().for_each(Line::cut);
    }

    fn refuse(&self) {
        self.0.iter().for_each(Line::refuse);
    }

    fn restore(&self) {
        self.0.iter().for_each(Line::restore);
    }

    async fn release(&self) {
        for line in &self.0 {
            line.release().await;
        }
    }
}

/// Opens a store on servers that report each other, with lines to the masters. A relay
/// replaces the port of the master by that of the line in the reports.
async fn open_over_lines(place: &Place, space: &str) -> Result<(Store, Arc<dyn Line>), Error> {
    let ports = Arc::new(OnceLock::<Vec<(String, String)>>::new());
    let told = Arc::clone(&ports);
    let answer = move |answer: &mut [u8]| {
        for (master, line) in told.get().into_iter().flatten() {
            for at in 0..(answer.len() + 1).saturating_sub(master.len()) {
                let here = &mut answer[at..at + master.len()];
                if *here == *master.as_bytes() {
                    here.copy_from_slice(line.as_bytes());
                }
            }
        }
    };
    let mut url = place.url(space);
    let mut relays = Vec::new();
    for host in hosts(&place.server) {
        relays.push((host, Relay::to(host, answer.clone()).await.must("start a relay").address()));
    }
    let mut lines = Vec::new();
    let mut pairs = Vec::new();
    if place.server.kind() == Kind::RedisSentinel {
        // Not always the first one: after a long silence the Sentinel makes the other one the master.
        let question = format!("SENTINEL get-master-addr-by-name {SENTINEL_MASTER}");
        let answer = try_command(place.server.url(), &question).await;
        let (_, master): (String, String) = answer.must("ask for the master");
        let line = Proxy::to(format!("127.0.0.1:{master}")).await.must("start a proxy");
        pairs.push((master, line.address().port().to_string()));
        lines.push(line);
    }
    for (host, relay) in relays {
        if place.server.kind() == Kind::RedisSentinel {
            url = url.replacen(host, &relay, 1);
            continue;
        }
        let (_, port) = host.rsplit_once(':').must("find the port");
        let line = Proxy::to(relay).await.must("start a proxy");
        url = url.replacen(host, &line.address().to_string(), 1);
        pairs.push((port.to_owned(), line.address().port().to_string()));
        lines.push(line);
    }
    assert!(pairs.iter().all(|(master, line)| master.len() == line.len()), "ports of one length: {pairs:?}");
    ports.set(pairs).ok().must("name the lines");
    let store = larder_redis::connect(&format!("{url}&timeout=500ms")).await?;
    Ok((store, Arc::new(Lines(lines))))
}

/// A connection of the test.
pub(crate) async fn raw(url: &str) -> redis::aio::MultiplexedConnection {
    try_raw(url).await.must("connect past the storage")
}

/// The same, if the server may close the connection.
pub(crate) async fn try_raw(url: &str) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
    let config = redis::AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

/// Runs a command of the test: words separated by spaces.
pub(crate) async fn command(url: &str, words: &str) -> redis::Value {
    try_command(url, words).await.must("run a command past the storage")
}

/// The same, if the server may close the connection.
pub(crate) async fn try_command<T: redis::FromRedisValue>(url: &str, words: &str) -> redis::RedisResult<T> {
    let mut words = words.split(' ');
    let mut command = redis::cmd(words.next().must("name a command"));
    command.arg(words.collect::<Vec<_>>());
    command.query_async(&mut try_raw(url).await?).await
}

/// Repeats a write until it is acknowledged: with short timeouts, a reply may come too late.
pub(crate) async fn write_until_acknowledged(storage: &Store, key: &Key, value: &'static str) {
    until("a write is acknowledged", PATIENCE, || async {
        match storage.write(key, value).await {
            Ok(_) => true,
            Err(error) => {
                assert!(error.is_retryable(), "{error:?}");
                false
            }
        }
    })
    .await;
}

/// Applies all changes.
pub(crate) async fn apply(store: &Store, changes: impl IntoIterator<Item = Change>) {
    for result in store.apply(changes.into_iter().collect()).await {
        result.must("apply a change");
    }
}

pub(crate) async fn location(store: &Store) -> Location {
    store.location().await.must("ask for the location").must("tell the location")
}

pub(crate) fn key(text: impl AsRef<str>) -> Key {
    Key::new(text).must("make a key")
}

impl Place {
    /// The URL of a space.
    pub(crate) fn url(&self, space: &str) -> String {
        format!("{}{}", url(&self.server, space), self.options)
    }
}

#[async_trait]
impl Factory for Place {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        larder_redis::connect(&self.url(space)).await
    }

    async fn open_over_line(&self, space: &str) -> Result<Option<(Store, Arc<dyn Line>)>, Error> {
        match self.server.kind() {
            // The master of servers from the environment is unknown.
            Kind::RedisCluster | Kind::RedisSentinel if self.server.ports().is_empty() => Ok(None),
            Kind::RedisCluster | Kind::RedisSentinel => open_over_lines(self, space).await.map(Some),
            _ => open_over_line(&self.url(space)).await.map(Some),
        }
    }
}

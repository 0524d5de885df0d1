//! Where the servers are: the four kinds of URL.

use larder_core::Result;
use larder_kit::StoreUrl;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use crate::error::configuration;

/// The servers that a URL names.
#[derive(Clone)]
pub(crate) enum Place {
    /// One server, by TCP, TLS or a Unix socket.
    Server(ConnectionInfo),
    /// Some nodes of a cluster; they tell of the others.
    #[cfg(feature = "cluster")]
    Cluster(Vec<ConnectionInfo>),
    /// Sentinels, which know the master.
    #[cfg(feature = "sentinel")]
    Sentinel(Sentinels),
}

/// What a Sentinel URL says.
#[cfg(feature = "sentinel")]
#[derive(Clone)]
pub(crate) struct Sentinels {
    pub(crate) addresses: Vec<ConnectionAddr>,
    /// The master's name.
    pub(crate) master: String,
    /// User, password and database of the master.
    pub(crate) server: RedisConnectionInfo,
    pub(crate) tls: bool,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
}

impl Place {
    /// Reads the place out of `location`, and takes the options that belong to it.
    pub(crate) fn parse(location: &mut StoreUrl) -> Result<Self> {
        let scheme = location.scheme().to_owned();
        match scheme.as_str() {
            "redis" | "rediss" | "valkey" | "valkeys" => server(&scheme, location.rest()),
            "redis+unix" => socket(location),
            "redis-cluster" => cluster("redis", location.rest()),
            "rediss-cluster" => cluster("rediss", location.rest()),
            "redis-sentinel" => sentinel("redis", location),
            "rediss-sentinel" => sentinel("rediss", location),
            _ => Err(configuration(format!(
                "`{scheme}:` is none of the schemes of Redis: {}",
                crate::SCHEMES.join(", ")
            ))),
        }
    }

    /// Whether the servers are reached over TLS.
    pub(crate) fn is_tls(&self) -> bool {
        let tls = |address: &ConnectionAddr| matches!(address, ConnectionAddr::TcpTls { .. });
        match self {
            Self::Server(info) => tls(info.addr()),
            #[cfg(feature = "cluster")]
            Self::Cluster(nodes) => nodes.iter().any(|node| tls(node.addr())),
            #[cfg(feature = "sentinel")]
            Self::Sentinel(sentinels) => sentinels.tls,
        }
    }

    /// A word for `Debug`.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Server(_) => "server",
            #[cfg(feature = "cluster")]
            Self::Cluster(_) => "cluster",
            #[cfg(feature = "sentinel")]
            Self::Sentinel(_) => "sentinel",
        }
    }
}

fn server(scheme: &str, rest: &str) -> Result<Place> {
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if host.contains(',') {
        return Err(configuration(
            "a URL with several hosts begins with `redis-cluster://` or `redis-sentinel://`",
        ));
    }
    Ok(Place::Server(info(scheme, rest)?))
}

/// One server, as the driver reads it (`rest` begins with `//`).
fn info(scheme: &str, rest: &str) -> Result<ConnectionInfo> {
    if scheme.ends_with('s') && scheme != "redis" && !cfg!(feature = "tls") {
        return Err(configuration(
            "this program was built without TLS: turn on the feature `tls` of `larder-redis`, or of `larder` if the \
             program uses that",
        ));
    }
    format!("{scheme}:{rest}").into_connection_info().map_err(|_| {
        configuration(
            "the URL is not of the form `redis://[user:password@]host[:port][/database]` (characters such as `/`, \
             `@` and `#` in a password are percent-encoded)",
        )
    })
}

fn socket(location: &mut StoreUrl) -> Result<Place> {
    let path = location.path()?;
    if path.is_empty() {
        return Err(configuration("the URL of a Unix socket is of the form `redis+unix:///path/to/socket`"));
    }
    let mut server = RedisConnectionInfo::default();
    if let Some(database) = location.take_parsed("db", "the number of a database")? {
        server = server.set_db(database);
    }
    if let Some(user) = location.take("user")? {
        server = server.set_username(user);
    }
    if let Some(password) = location.take("password")? {
        server = server.set_password(password);
    }
    let info = ConnectionAddr::Unix(path.into()).into_connection_info();
    info.map(|info| Place::Server(info.set_redis_settings(server)))
        .map_err(|_| configuration("the driver refused the path of the Unix socket"))
}

/// `//[user:password@]host[:port],host[:port]/path`, taken apart.
#[cfg(any(feature = "cluster", feature = "sentinel"))]
struct Hosts<'a> {
    /// With the `@`, or empty.
    user: &'a str,
    hosts: Vec<&'a str>,
    path: &'a str,
}

#[cfg(any(feature = "cluster", feature = "sentinel"))]
impl<'a> Hosts<'a> {
    fn parse(rest: &'a str) -> Result<Self> {
        let place = rest.strip_prefix("//").ok_or_else(|| configuration("the URL names no host"))?;
        let (user, place) = place.split_at(place.rfind('@').map_or(0, |at| at + 1));
        let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
        let hosts: Vec<_> = hosts.split(',').collect();
        if hosts.contains(&"") {
            return Err(configuration("the URL has an empty place in its list of hosts"));
        }
        Ok(Self { user, hosts, path })
    }
}

#[cfg(feature = "cluster")]
fn cluster(scheme: &str, rest: &str) -> Result<Place> {
    let Hosts { user, hosts, path } = Hosts::parse(rest)?;
    let nodes: Result<_> =
        hosts.into_iter().map(|host| info(scheme, &format!("//{user}{host}/{path}"))).collect();
    Ok(Place::Cluster(nodes?))
}

#[cfg(not(feature = "cluster"))]
fn cluster(_: &str, _: &str) -> Result<Place> {
    Err(configuration(
        "this program was built without Redis Cluster: turn on the feature `cluster` of `larder-redis`, or use \
         `larder`, whose feature `redis` has it",
    ))
}

#[cfg(feature = "sentinel")]
fn sentinel(scheme: &str, location: &mut StoreUrl) -> Result<Place> {
    let username = location.take("sentinel_username")?;
    let password = location.take("sentinel_password")?;
    let Hosts { user, hosts, path } = Hosts::parse(location.rest())?;
    let (master, database) = path.split_once('/').unwrap_or((path, ""));
    let master = percent_encoding::percent_decode_str(master)
        .decode_utf8()
        .ok()
        .filter(|master| !master.is_empty())
        .ok_or_else(|| {
            configuration(
                "the URL of Sentinels ends in the master's name: `redis-sentinel://host1:26379,host2:26379/mymaster`",
            )
        })?
        .into_owned();
    let mut addresses = Vec::with_capacity(hosts.len());
    let mut server = RedisConnectionInfo::default();
    for host in hosts {
        // The driver's default port is the server's, not the Sentinel's.
        let has_port = host.rsplit(']').next().is_some_and(|after| after.contains(':'));
        let port = if has_port { "" } else { ":26379" };
        let info = info(scheme, &format!("//{user}{host}{port}/{database}"))?;
        addresses.push(info.addr().clone());
        server = info.redis_settings().clone();
    }
    Ok(Place::Sentinel(Sentinels { addresses, master, server, tls: scheme == "rediss", username, password }))
}

#[cfg(not(feature = "sentinel"))]
fn sentinel(_: &str, _: &mut StoreUrl) -> Result<Place> {
    Err(configuration(
        "this program was built without Redis Sentinel: turn on the feature `sentinel` of `larder-redis`, or use \
         `larder`, whose feature `redis` has it",
    ))
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    fn parse(url: &str) -> Result<Place> {
        Place::parse(&mut StoreUrl::parse(url)?)
    }

    #[test]
    fn one_server() {
        let Ok(Place::Server(info)) = parse("redis://bot:p%2Fw@[::1]:7000/3") else { panic!() };
        assert_eq!(info.addr(), &ConnectionAddr::Tcp("::1".into(), 7000));
        assert_eq!(info.redis_settings().password(), Some("p/w"));
        assert_eq!(info.redis_settings().db(), 3);
        let Ok(Place::Server(info)) = parse("redis+unix:///run/redis.sock?db=2&password=x") else { panic!() };
        assert_eq!(info.addr(), &ConnectionAddr::Unix("/run/redis.sock".into()));
        assert_eq!(info.redis_settings().db(), 2);
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn cluster_nodes() {
        let Ok(Place::Cluster(nodes)) = parse("redis-cluster://:pw@a:1,b,[::1]:3") else { panic!() };
        let addresses: Vec<_> = nodes.iter().map(|node| node.addr().to_string()).collect();
        assert_eq!(addresses, ["a:1", "b:6379", "::1:3"]);
        assert!(nodes.iter().all(|node| node.redis_settings().password() == Some("pw")));
    }

    #[cfg(feature = "sentinel")]
    #[test]
    fn sentinels() {
        let url = "redis-sentinel://bot:pw@a,b:2,[::1]/my%20master/4?sentinel_password=spw";
        let Ok(Place::Sentinel(sentinels)) = parse(url) else { panic!() };
        let addresses: Vec<_> = sentinels.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["a:26379", "b:2", "::1:26379"]);
        assert_eq!(sentinels.master, "my master");
        assert_eq!(sentinels.server.db(), 4);
        assert_eq!(sentinels.server.password(), Some("pw"));
        assert_eq!(sentinels.password.as_deref(), Some("spw"));
    }

    #[cfg(not(all(feature = "tls", feature = "cluster", feature = "sentinel")))]
    #[test]
    fn missing_feature_is_named_for_both_crates() {
        for (url, built) in [
            ("rediss://h", cfg!(feature = "tls")),
            ("redis-cluster://h", cfg!(feature = "cluster")),
            ("redis-sentinel://h/m", cfg!(feature = "sentinel")),
        ] {
            let Err(error) = parse(url) else {
                assert!(built, "{url}");
                continue;
            };
            assert!(!built, "{url}: {error}");
            for name in ["`larder-redis`", "`larder`"] {
                assert!(error.message().contains(name), "{error}");
            }
        }
    }

    #[test]
    fn nonsense_is_refused_without_printing_it() {
        for url in [
            "redis:hunter2",
            "redis://",
            "redis://u:hunter2@a,b",
            "redis://u:hunter2@h/notanumber",
            "redis://u:hunter2@h:99999999",
            "redis-cluster:hunter2",
            "redis-cluster://u:hunter2@a,,b",
            "redis-sentinel://u:hunter2@a",
            "redis+unix:",
            "http://u:hunter2@h",
        ] {
            let Err(error) = parse(url) else { panic!("{url} was taken") };
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}");
        }
    }
}

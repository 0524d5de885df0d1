//! The servers that a URL names.

use larder_core::{Error, Result};
use larder_kit::{StoreUrl, invalid_option};
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use crate::error::configuration;

/// The options of a URL that belong to one kind of endpoint: Sentinels, or a Unix socket.
pub const ENDPOINT_OPTIONS: &[&str] = &["sentinel_username", "sentinel_password", "db", "user", "password"];

/// Where to connect to. The driver's `Debug` prints no password.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) tls: bool,
    pub(crate) servers: Servers,
}

#[derive(Clone, Debug)]
pub(crate) enum Servers {
    /// One server, by TCP, TLS or a Unix socket.
    One(ConnectionInfo),
    /// Some nodes of a cluster; they tell of the others.
    #[cfg(feature = "cluster")]
    Cluster(Vec<ConnectionInfo>),
    /// Sentinels, which know the master.
    #[cfg(feature = "sentinel")]
    Sentinel {
        sentinels: Vec<ConnectionAddr>,
        /// User and password of the Sentinels.
        login: RedisConnectionInfo,
        /// The master's name.
        master: String,
        /// User, password and database of the master.
        server: RedisConnectionInfo,
    },
}

impl Endpoint {
    /// Reads the endpoint out of `url`, and takes the options that belong to it.
    pub(crate) fn parse(url: &mut StoreUrl) -> Result<Self> {
        let scheme = url.scheme().to_owned();
        let tls = scheme.starts_with("rediss") || scheme == "valkeys";
        if tls && !cfg!(feature = "tls") {
            return Err(not_built("TLS", "tls", "tls"));
        }
        let base = if tls { "rediss" } else { "redis" };
        let servers = match scheme.as_str() {
            "redis" | "rediss" | "valkey" | "valkeys" => server(base, url.rest()),
            "redis+unix" => socket(url),
            #[cfg(feature = "cluster")]
            "redis-cluster" | "rediss-cluster" => cluster(base, url.rest()),
            #[cfg(not(feature = "cluster"))]
            "redis-cluster" | "rediss-cluster" => Err(not_built("Redis Cluster", "cluster", "redis")),
            #[cfg(feature = "sentinel")]
            "redis-sentinel" | "rediss-sentinel" => sentinel(base, url),
            #[cfg(not(feature = "sentinel"))]
            "redis-sentinel" | "rediss-sentinel" => Err(not_built("Redis Sentinel", "sentinel", "redis")),
            _ => Err(configuration(format!(
                "`{scheme}:` is not a scheme of Redis; the schemes are: {}",
                crate::SCHEMES.join(", ")
            ))),
        };
        Ok(Self { tls, servers: servers? })
    }
}

/// The program was built without `what`.
fn not_built(what: &str, feature: &str, of_larder: &str) -> Error {
    configuration(format!(
        "this program was built without {what}: turn on the feature `{feature}` of `larder-redis`, or the feature \
         `{of_larder}` of `larder`"
    ))
}

/// Hands `value` to a setter, if there is one.
pub(crate) fn with<B, T>(builder: B, value: Option<T>, set: impl FnOnce(B, T) -> B) -> B {
    match value {
        Some(value) => set(builder, value),
        None => builder,
    }
}

fn server(scheme: &str, rest: &str) -> Result<Servers> {
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    if host.contains(',') {
        return Err(configuration(
            "a URL with several hosts begins with `redis-cluster://` or `redis-sentinel://`",
        ));
    }
    Ok(Servers::One(info(scheme, rest)?))
}

/// One server, as the driver reads it (`rest` begins with `//`).
fn info(scheme: &str, rest: &str) -> Result<ConnectionInfo> {
    format!("{scheme}:{rest}").into_connection_info().map_err(|_| {
        configuration(
            "the URL is not of the form `redis://[user:password@]host[:port][/database]` (characters such as `/`, \
             `@` and `#` in a password are percent-encoded)",
        )
    })
}

fn socket(url: &mut StoreUrl) -> Result<Servers> {
    let path = url.path()?;
    if path.is_empty() {
        return Err(configuration("the URL of a Unix socket is of the form `redis+unix:///path/to/socket`"));
    }
    let invalid = |_| invalid_option("db", "the number of a database");
    let database = url.take("db")?.map(|number| number.parse().map_err(invalid)).transpose()?;
    let server = login(url.take("user")?, url.take("password")?);
    let server = with(server, database, RedisConnectionInfo::set_db);
    let info = ConnectionAddr::Unix(path.into()).into_connection_info();
    info.map(|info| Servers::One(info.set_redis_settings(server)))
        .map_err(|_| configuration("the driver refused the path of the Unix socket"))
}

fn login(user: Option<String>, password: Option<String>) -> RedisConnectionInfo {
    let login = with(RedisConnectionInfo::default(), user, RedisConnectionInfo::set_username);
    with(login, password, RedisConnectionInfo::set_password)
}

/// Takes `//[user:password@]host[:port],host[:port]/path` apart; the user comes with the `@`.
#[cfg(any(feature = "cluster", feature = "sentinel"))]
fn hosts(rest: &str) -> Result<(&str, Vec<&str>, &str)> {
    let place = rest.strip_prefix("//").ok_or_else(|| configuration("the URL names no host"))?;
    let (user, place) = place.split_at(place.rfind('@').map_or(0, |at| at + 1));
    let (hosts, path) = place.split_once('/').unwrap_or((place, ""));
    let hosts: Vec<_> = hosts.split(',').collect();
    if hosts.contains(&"") {
        return Err(configuration("the URL has an empty place in its list of hosts"));
    }
    Ok((user, hosts, path))
}

#[cfg(feature = "cluster")]
fn cluster(scheme: &str, rest: &str) -> Result<Servers> {
    let (user, hosts, path) = hosts(rest)?;
    let node = |host: &str| info(scheme, &format!("//{user}{host}/{path}"));
    hosts.into_iter().map(node).collect::<Result<_>>().map(Servers::Cluster)
}

#[cfg(feature = "sentinel")]
fn sentinel(scheme: &str, url: &mut StoreUrl) -> Result<Servers> {
    let login = login(url.take("sentinel_username")?, url.take("sentinel_password")?);
    let (user, hosts, path) = hosts(url.rest())?;
    let (master, database) = path.split_once('/').unwrap_or((path, ""));
    let master = percent_encoding::percent_decode_str(master).decode_utf8().unwrap_or_default().into_owned();
    if master.is_empty() {
        return Err(configuration(
            "the URL of Sentinels ends in the master's name: `redis-sentinel://host1:26379,host2:26379/mymaster`",
        ));
    }
    let info = |host: &str| {
        // The driver's default port is the server's, not the Sentinel's.
        let has_port = host.rsplit(']').next().is_some_and(|after| after.contains(':'));
        let port = if has_port { "" } else { ":26379" };
        info(scheme, &format!("//{user}{host}{port}/{database}"))
    };
    let infos = hosts.into_iter().map(info).collect::<Result<Vec<_>>>()?;
    let sentinels = infos.iter().map(|info| info.addr().clone()).collect();
    let server = infos[0].redis_settings().clone();
    Ok(Servers::Sentinel { sentinels, login, master, server })
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    fn parse(url: &str) -> Result<Servers> {
        Endpoint::parse(&mut StoreUrl::parse(url)?).map(|endpoint| endpoint.servers)
    }

    #[test]
    fn one_server() {
        let Ok(Servers::One(info)) = parse("redis://bot:p%2Fw@[::1]:7000/3") else { panic!() };
        assert_eq!(info.addr(), &ConnectionAddr::Tcp("::1".into(), 7000));
        assert_eq!(info.redis_settings().password(), Some("p/w"));
        assert_eq!(info.redis_settings().db(), 3);
        let Ok(Servers::One(info)) = parse("redis+unix:///run/redis.sock?db=2&password=x") else { panic!() };
        assert_eq!(info.addr(), &ConnectionAddr::Unix("/run/redis.sock".into()));
        assert_eq!(info.redis_settings().db(), 2);
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn cluster_nodes() {
        let Ok(Servers::Cluster(nodes)) = parse("redis-cluster://:pw@a:1,b,[::1]:3") else { panic!() };
        let addresses: Vec<_> = nodes.iter().map(|node| node.addr().to_string()).collect();
        assert_eq!(addresses, ["a:1", "b:6379", "::1:3"]);
        assert!(nodes.iter().all(|node| node.redis_settings().password() == Some("pw")));
    }

    #[cfg(feature = "sentinel")]
    #[test]
    fn sentinels() {
        let url = "redis-sentinel://bot:pw@a,b:2,[::1]/my%20master/4?sentinel_password=spw";
        let Ok(Servers::Sentinel { sentinels, login, master, server }) = parse(url) else { panic!() };
        let addresses: Vec<_> = sentinels.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["a:26379", "b:2", "::1:26379"]);
        assert_eq!(master, "my master");
        assert_eq!(server.db(), 4);
        assert_eq!(server.password(), Some("pw"));
        assert_eq!(login.password(), Some("spw"));
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

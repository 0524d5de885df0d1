//! Parses the URLs of servers.

use larder_core::Result;
use larder_kit::StoreUrl;
use percent_encoding::percent_decode_str;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use crate::error::configuration;

/// The kind of endpoint that a URL names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One server, over TCP or TLS.
    Server,
    /// One server, over a Unix socket.
    Socket,
    /// Some nodes of a cluster, which report the other nodes.
    Cluster,
    /// Sentinels, which report the master.
    Sentinel,
}

/// The URL schemes, each with its kind of endpoint and whether it uses TLS.
const SCHEMES: [(&str, Kind, bool); 9] = [
    ("redis", Kind::Server, false),
    ("rediss", Kind::Server, true),
    ("valkey", Kind::Server, false),
    ("valkeys", Kind::Server, true),
    ("redis+unix", Kind::Socket, false),
    ("redis-cluster", Kind::Cluster, false),
    ("rediss-cluster", Kind::Cluster, true),
    ("redis-sentinel", Kind::Sentinel, false),
    ("rediss-sentinel", Kind::Sentinel, true),
];

/// The names of the schemes.
pub(crate) const SCHEME_NAMES: &[&str] = &{
    let mut names = [""; SCHEMES.len()];
    let mut next = 0;
    while next < names.len() {
        names[next] = SCHEMES[next].0;
        next += 1;
    }
    names
};

/// The address and login of the servers. The driver's `Debug` prints no password.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) kind: Kind,
    pub(crate) tls: bool,
    /// The server, the nodes or the Sentinels.
    pub(crate) addresses: Vec<ConnectionAddr>,
    /// User, password and database. Behind Sentinels, those for the master.
    pub(crate) login: RedisConnectionInfo,
    /// Whether the URL contains the number of the database.
    pub(crate) has_db: bool,
    /// The master's name in the Sentinels.
    #[cfg_attr(not(feature = "sentinel"), allow(dead_code))]
    pub(crate) master: String,
}

impl Endpoint {
    pub(crate) fn parse(url: &StoreUrl) -> Result<Self> {
        let scheme = url.scheme();
        let Some((_, kind, tls)) = SCHEMES.into_iter().find(|(name, ..)| *name == scheme) else {
            let known = SCHEME_NAMES.join(", ");
            let message = format!("`{scheme}:` is not a Redis URL scheme; the schemes are: {known}");
            return Err(configuration(message));
        };
        check_build(tls, cfg!(feature = "tls"), "TLS", "tls", "tls")?;
        let (cluster, sentinel) = (kind == Kind::Cluster, kind == Kind::Sentinel);
        check_build(cluster, cfg!(feature = "cluster"), "Redis Cluster", "cluster", "redis")?;
        check_build(sentinel, cfg!(feature = "sentinel"), "Redis Sentinel", "sentinel", "redis")?;
        match kind {
            Kind::Socket => Self::socket(url),
            _ => Self::hosts(kind, tls, url.rest()),
        }
    }

    fn socket(url: &StoreUrl) -> Result<Self> {
        let path = url.path()?;
        if path.is_empty() {
            return Err(configuration(
                "the URL of a Unix socket must have the form `redis+unix:///path/to/socket`",
            ));
        }
        Ok(Self {
            kind: Kind::Socket,
            tls: false,
            addresses: vec![ConnectionAddr::Unix(path.into())],
            login: RedisConnectionInfo::default(),
            has_db: false,
            master: String::new(),
        })
    }

    /// Parses `//[user:password@]host[:port],host[:port][/path]`.
    fn hosts(kind: Kind, tls: bool, rest: &str) -> Result<Self> {
        let place = rest.strip_prefix("//").ok_or_else(|| configuration("the URL does not name a host"))?;
        let (user, place) = place.split_at(place.rfind('@').map_or(0, |at| at + 1));
        let (hosts, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        if kind == Kind::Server && hosts.contains(',') {
            return Err(configuration(
                "a URL with several hosts must begin with `redis-cluster://` or `redis-sentinel://`",
            ));
        }
        if hosts.split(',').any(str::is_empty) {
            return Err(configuration("the URL contains an empty host"));
        }
        let (master, database) = match path.strip_prefix('/') {
            Some(path) if kind == Kind::Sentinel => path.split_at(path.find('/').unwrap_or(path.len())),
            _ => ("", path),
        };
        if kind == Kind::Sentinel && master.is_empty() {
            return Err(configuration(
                "the URL of Sentinels must end with the master's name: \
                 `redis-sentinel://host1:26379,host2:26379/mymaster`",
            ));
        }
        let scheme = if tls { "rediss" } else { "redis" };
        let node = |host: &str| {
            // The driver's default port is that of servers, not of Sentinels.
            let has_port = host.rsplit(']').next().is_some_and(|after| after.contains(':'));
            let port = if kind == Kind::Sentinel && !has_port { ":26379" } else { "" };
            parse_node(&format!("{scheme}://{user}{host}{port}{database}"))
        };
        let nodes = hosts.split(',').map(node).collect::<Result<Vec<_>>>()?;
        Ok(Self {
            kind,
            tls,
            addresses: nodes.iter().map(|node| node.addr().clone()).collect(),
            login: nodes[0].redis_settings().clone(),
            has_db: !database.trim_matches('/').is_empty(),
            master: percent_decode_str(master).decode_utf8().unwrap_or_default().into_owned(),
        })
    }
}

/// Rejects an endpoint that needs a feature which this program was built without.
fn check_build(needed: bool, built: bool, name: &str, feature: &str, of_larder: &str) -> Result<()> {
    if !needed || built {
        return Ok(());
    }
    Err(configuration(format!(
        "this program was built without {name}: enable the feature `{feature}` of `larder-redis`, or the feature \
         `{of_larder}` of `larder`"
    )))
}

/// Parses one host with the driver.
fn parse_node(url: &str) -> Result<ConnectionInfo> {
    url.into_connection_info().map_err(|_| {
        configuration(
            "the URL must have the form `redis://[user:password@]host[:port][/database]` (percent-encode \
             characters such as `/`, `@` and `#` in a password)",
        )
    })
}

/// Passes `value` to a setter, if it is set.
pub(crate) fn with<B, T>(builder: B, value: Option<T>, set: impl FnOnce(B, T) -> B) -> B {
    match value {
        Some(value) => set(builder, value),
        None => builder,
    }
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    fn parse(url: &str) -> Result<Endpoint> {
        Endpoint::parse(&StoreUrl::parse(url)?)
    }

    #[cfg(any(feature = "cluster", feature = "sentinel"))]
    fn addresses(endpoint: &Endpoint) -> Vec<String> {
        endpoint.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_url_names_one_server() {
        let server = parse("redis://bot:p%2Fw@[::1]:7000/3").unwrap();
        assert_eq!(server.addresses, [ConnectionAddr::Tcp("::1".into(), 7000)]);
        assert_eq!(server.login.password(), Some("p/w"));
        assert_eq!((server.login.db(), server.has_db), (3, true));
        assert!(!parse("redis://localhost/").unwrap().has_db);
        let socket = parse("redis+unix:///run/redis.sock").unwrap();
        assert_eq!(socket.addresses, [ConnectionAddr::Unix("/run/redis.sock".into())]);
    }

    #[cfg(feature = "cluster")]
    #[test]
    fn a_cluster_url_names_nodes() {
        let cluster = parse("redis-cluster://:pw@a:1,b,[::1]:3").unwrap();
        assert_eq!(addresses(&cluster), ["a:1", "b:6379", "::1:3"]);
        assert_eq!(cluster.login.password(), Some("pw"));
    }

    #[cfg(feature = "sentinel")]
    #[test]
    fn a_sentinel_url_names_sentinels_and_a_master() {
        let url = "redis-sentinel://bot:pw@a,b:2,[::1]/my%20master/4";
        let endpoint = parse(url).unwrap();
        assert_eq!(addresses(&endpoint), ["a:26379", "b:2", "::1:26379"]);
        assert_eq!(endpoint.master, "my master");
        assert_eq!((endpoint.login.db(), endpoint.has_db), (4, true));
        assert_eq!(endpoint.login.password(), Some("pw"));
    }

    #[cfg(not(all(feature = "tls", feature = "cluster", feature = "sentinel")))]
    #[test]
    fn a_missing_feature_is_named_for_both_crates() {
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
    fn invalid_urls_are_rejected_without_printing_them() {
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
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{url}");
        }
    }
}

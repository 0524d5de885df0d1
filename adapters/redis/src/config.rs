//! The options, in code and in a URL.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use larder_core::Result;
use larder_kit::StoreUrl;

use crate::{
    endpoint::Endpoint,
    error::{configuration, opening},
    tls::TlsFiles,
};

/// The options that a URL can have.
pub const OPTIONS: &[&str] = &[
    "prefix",
    "layout",
    "timeout",
    "connect_timeout",
    "scan_count",
    "cas",
    "protocol",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "sentinel_username",
    "sentinel_password",
    "db",
    "user",
    "password",
];

const DEFAULT_PREFIX: &str = "larder";

/// How sessions are stored in Redis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Layout {
    /// `prefix:key`, with colons and percent signs of the prefix percent-encoded.
    #[default]
    Larder,
    /// The key as it is, as grammY's Redis adapter has it. The whole database belongs to the storage:
    /// listing it lists all strings, clearing it deletes them.
    Grammy,
}

/// How the server compares and swaps. Either way it is one round trip and atomic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CompareAndSwap {
    /// `SET ... IFEQ` where the server has it (Valkey 8.1, Redis 8.4 and newer) and the old value has
    /// at most 16 KiB, a script otherwise. The first use finds out whether the server has it.
    #[default]
    Auto,
    /// A script that compares the SHA-1 digest of the stored value: only 40 bytes of the old value are
    /// sent. The user needs the permission to run `EVAL` and `EVALSHA`.
    Script,
    /// `SET ... IFEQ` always. Deletions and touches on a version are a script even so.
    IfEq,
}

/// The protocol to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// RESP3 where the server has it.
    Auto,
    Resp2,
    Resp3,
}

/// The options of a storage on Redis.
///
/// ```no_run
/// # async fn example() -> larder_core::Result<()> {
/// use std::time::Duration;
/// use larder_redis::RedisConfig;
///
/// let store = RedisConfig::from_url("redis://localhost/0")?
///     .prefix("shop-bot")
///     .timeout(Duration::from_secs(2))
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct RedisConfig {
    pub(crate) endpoint: Option<Endpoint>,
    prefix: Option<String>,
    layout: Layout,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) scan_count: NonZeroUsize,
    pub(crate) cas: CompareAndSwap,
    pub(crate) protocol: Protocol,
    pub(crate) tls: TlsFiles,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self::new()
    }
}

impl RedisConfig {
    /// The default options without a server, for a connection of your own
    /// ([`connect_with`](Self::connect_with)).
    #[must_use]
    pub fn new() -> Self {
        Self {
            endpoint: None,
            prefix: None,
            layout: Layout::Larder,
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(5),
            scan_count: NonZeroUsize::new(512).unwrap_or(NonZeroUsize::MIN),
            cas: CompareAndSwap::Auto,
            protocol: Protocol::Auto,
            tls: TlsFiles::default(),
        }
    }

    /// The server or servers that `url` names, with its options ([`OPTIONS`]).
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the URL does not parse, has an
    /// unknown option, or asks for a feature that this build does not have. The message contains no
    /// password.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::parse(url).map_err(opening)
    }

    fn parse(url: &str) -> Result<Self> {
        let layouts = [("larder", Layout::Larder), ("grammy", Layout::Grammy)];
        let strategies = [
            ("auto", CompareAndSwap::Auto),
            ("script", CompareAndSwap::Script),
            ("ifeq", CompareAndSwap::IfEq),
        ];
        let protocols = [("auto", Protocol::Auto), ("resp2", Protocol::Resp2), ("resp3", Protocol::Resp3)];
        let mut url = StoreUrl::parse(url)?;
        let mut config = Self::new();
        config.prefix = url.take("prefix")?;
        config.layout = url.take_choice("layout", &layouts)?.unwrap_or(config.layout);
        config.timeout = url.take_duration("timeout")?.unwrap_or(config.timeout);
        config.connect_timeout = url.take_duration("connect_timeout")?.unwrap_or(config.connect_timeout);
        let count = url.take_parsed("scan_count", "a whole number, 1 or more")?;
        config.scan_count = count.unwrap_or(config.scan_count);
        config.cas = url.take_choice("cas", &strategies)?.unwrap_or(config.cas);
        config.protocol = url.take_choice("protocol", &protocols)?.unwrap_or(config.protocol);
        config.tls.ca = url.take("tls_ca")?.map(PathBuf::from);
        config.tls.certificate = url.take("tls_cert")?.map(PathBuf::from);
        config.tls.key = url.take("tls_key")?.map(PathBuf::from);
        config.endpoint = Some(Endpoint::parse(&mut url)?);
        url.finish(OPTIONS)?;
        // An option that is known but not taken belongs to another kind of URL.
        if let Some(option) = url.remaining().next() {
            return Err(configuration(format!("`{}:` does not take the option `{option}`", url.scheme())));
        }
        config.check()?;
        Ok(config)
    }

    /// Comes before every key, so that several programs can share a server. Default: `larder`. No prefix
    /// reaches into the keys of another: `app`, `app-one` and `app:x` are three. An empty prefix would
    /// reach into all of them and is refused; [`Layout::Grammy`] leaves keys as they are.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// How sessions are stored in Redis.
    #[must_use]
    pub const fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// How long a command may take before it is a
    /// [`Timeout`](larder_core::ErrorKind::Timeout). Default: 5 s. A connection of your own keeps its
    /// own time-outs.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How long connecting may take, TLS and Sentinels included. Default: 5 s. A single node of a cluster
    /// has a third of it.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How many keys the server looks at per step of a listing (`COUNT`). Default: 512.
    #[must_use]
    pub const fn scan_count(mut self, count: NonZeroUsize) -> Self {
        self.scan_count = count;
        self
    }

    /// How the server compares and swaps.
    #[must_use]
    pub const fn compare_and_swap(mut self, strategy: CompareAndSwap) -> Self {
        self.cas = strategy;
        self
    }

    /// The prefix of all keys; empty for keys as they are.
    pub(crate) fn key_prefix(&self) -> &str {
        match self.layout {
            Layout::Larder => self.prefix.as_deref().unwrap_or(DEFAULT_PREFIX),
            Layout::Grammy => "",
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.layout == Layout::Grammy && self.prefix.as_deref().is_some_and(|prefix| !prefix.is_empty()) {
            return Err(configuration("grammY's layout has no prefix: leave `prefix` out"));
        }
        if self.layout == Layout::Larder && self.prefix.as_deref() == Some("") {
            return Err(configuration(
                "an empty prefix reaches every key of the database, those of other prefixes and programs included: \
                 give a prefix, or use `layout=grammy` if the whole database belongs to this program",
            ));
        }
        if self.timeout.is_zero() || self.connect_timeout.is_zero() {
            return Err(configuration("a time-out is longer than zero"));
        }
        self.endpoint.as_ref().map_or(Ok(()), |endpoint| self.tls.check(endpoint.tls))
    }
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    #[test]
    fn options_are_taken() {
        let config = RedisConfig::from_url(
            "redis://localhost?prefix=a&timeout=2s&connect_timeout=300ms&scan_count=9&cas=script&protocol=resp2",
        )
        .unwrap();
        assert_eq!(config.prefix.as_deref(), Some("a"));
        assert_eq!(config.timeout, Duration::from_secs(2));
        assert_eq!(config.connect_timeout, Duration::from_millis(300));
        assert_eq!(config.scan_count.get(), 9);
        assert_eq!(config.cas, CompareAndSwap::Script);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (url, word) in [
            ("redis://h?colour=red", "scan_count"),
            ("redis://h?scan_count=0", "scan_count"),
            ("redis://h?timeout=0s", "time-out"),
            ("redis://h?layout=grammy&prefix=x", "prefix"),
            ("redis://h?prefix=", "layout=grammy"),
            ("redis://h?prefix=&layout=larder", "layout=grammy"),
            ("redis://h?cas=maybe", "ifeq"),
            ("redis://h?sentinel_password=x", "sentinel_password"),
            ("redis://h?tls_ca=/ca.pem", "tls_ca"),
        ] {
            let error = RedisConfig::from_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(error.message().contains(word), "{url}: {error}");
            assert!(error.to_string().starts_with("redis: connect: "), "{url}: {error}");
        }
    }

    #[test]
    fn empty_prefix_belongs_to_the_layout_without_one() {
        assert!(RedisConfig::from_url("redis://h?layout=grammy&prefix=").is_ok());
        let built = RedisConfig::new().prefix("").check().unwrap_err();
        assert_eq!(built.kind(), ErrorKind::InvalidConfig);
    }

    #[test]
    fn debug_prints_no_password() {
        for url in [
            "redis://bot:hunter2@localhost",
            "redis+unix:///redis.sock?password=hunter2",
            #[cfg(feature = "cluster")]
            "redis-cluster://bot:hunter2@a,b",
            #[cfg(feature = "sentinel")]
            "redis-sentinel://bot:hunter2@a,b/master?sentinel_password=hunter2",
        ] {
            let config = RedisConfig::from_url(url).unwrap();
            assert!(!format!("{config:?}").contains("hunter2"), "{url}");
        }
    }
}

//! The options, in code and in a URL.

use std::{path::PathBuf, time::Duration};

use larder_core::Result;
use larder_kit::{POSITIVE_DURATION, StoreUrl};

use crate::{
    endpoint::{ENDPOINT_OPTIONS, Endpoint},
    error::{configuration, opening},
};

const DEFAULT_PREFIX: &str = "larder";

larder_kit::choices! {
    /// How sessions are stored in Redis.
    pub enum Layout {
        /// `prefix:key`, with colons and percent signs of the prefix percent-encoded.
        #[default]
        "larder" => Larder,
        /// The key as it is, as grammY's Redis adapter has it. The whole database belongs to the storage:
        /// listing it lists all strings, clearing it deletes them.
        "grammy" => Grammy,
    }
}

larder_kit::choices! {
    /// How the server compares and swaps. Either way it is one round trip and atomic.
    pub enum CompareAndSwap {
        /// `SET ... IFEQ` where the server has it (Valkey 8.1, Redis 8.4 and newer) and the old value has
        /// at most 16 KiB, a script otherwise. The first use finds out whether the server has it.
        #[default]
        "auto" => Auto,
        /// A script that compares the SHA-1 digest of the stored value: only 40 bytes of the old value are
        /// sent. The user needs the permission to run `EVAL` and `EVALSHA`.
        "script" => Script,
        /// `SET ... IFEQ` always. Deletions and touches on a version are a script even so.
        "ifeq" => IfEq,
    }
}

larder_kit::choices! {
    /// The protocol to speak.
    pub enum Protocol {
        /// RESP3 where the server has it.
        #[default]
        "auto" => Auto,
        /// RESP2.
        "resp2" => Resp2,
        /// RESP3.
        "resp3" => Resp3,
    }
}

larder_kit::options! {
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
        endpoint: Option<Endpoint>,
    }

    /// The options that a URL can have, besides [`ENDPOINT_OPTIONS`].
    OPTIONS {
        /// Comes before every key, so that several programs can share a server. Default: `larder`. No prefix
        /// reaches into the keys of another: `app`, `app-one` and `app:x` are three. An empty prefix would
        /// reach into all of them and is refused; [`Layout::Grammy`] leaves keys as they are.
        "prefix" => prefix: Option<String> = None;
        /// How sessions are stored in Redis.
        "layout" => layout: Layout = Layout::Larder;
        /// How long a command may take before it is a [`Timeout`](larder_core::ErrorKind::Timeout).
        /// Default: 5 s. A connection of your own keeps its own time-outs.
        "timeout" => timeout: Duration = Duration::from_secs(5), if |time| !time.is_zero() => POSITIVE_DURATION;
        /// How long connecting may take, TLS and Sentinels included. Default: 5 s. A single node of a
        /// cluster has a third of it.
        "connect_timeout" => connect_timeout: Duration = Duration::from_secs(5),
            if |time| !time.is_zero() => POSITIVE_DURATION;
        /// How many keys the server looks at per step of a listing (`COUNT`). Default: 512.
        "scan_count" => scan_count: usize = 512, if |count| *count > 0 => "a whole number from 1";
        /// How the server compares and swaps.
        "cas" => cas: CompareAndSwap = CompareAndSwap::Auto;
        /// The protocol to speak. Default: RESP3 where the server has it.
        "protocol" => protocol: Protocol = Protocol::Auto;
        /// A PEM file of the authorities to trust, instead of the system's.
        "tls_ca" => tls_ca: Option<PathBuf> = None;
        /// A PEM file with the client's own certificate.
        "tls_cert" => tls_cert: Option<PathBuf> = None;
        /// A PEM file with the client's private key.
        "tls_key" => tls_key: Option<PathBuf> = None;
    }
}

impl RedisConfig {
    /// The default options without a server, for a connection of your own
    /// ([`connect_with`](Self::connect_with)).
    #[must_use]
    pub fn new() -> Self {
        Self::with_defaults(None)
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
        let mut url = StoreUrl::parse(url)?;
        let mut config = Self::with_defaults(Some(Endpoint::parse(&mut url)?));
        config.take_options(&mut url)?;
        url.finish(&[OPTIONS, ENDPOINT_OPTIONS].concat())?;
        // An option that is known but not taken belongs to another kind of URL.
        if let Some(option) = url.remaining().next() {
            return Err(configuration(format!("`{}:` does not take the option `{option}`", url.scheme())));
        }
        config.check()?;
        Ok(config)
    }

    /// The prefix of all keys; empty for keys as they are.
    pub(crate) fn key_prefix(&self) -> &str {
        match self.layout {
            Layout::Larder => self.prefix.as_deref().unwrap_or(DEFAULT_PREFIX),
            Layout::Grammy => "",
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.check_options()?;
        match (self.layout, self.prefix.as_deref()) {
            (Layout::Larder, Some("")) => Err(configuration(
                "an empty prefix reaches every key of the database, those of other prefixes and programs included: \
                 give a prefix, or use `layout=grammy` if the whole database belongs to this program",
            )),
            (Layout::Grammy, Some(prefix)) if !prefix.is_empty() => {
                Err(configuration("grammY's layout has no prefix: leave `prefix` out"))
            }
            _ => self.endpoint.as_ref().map_or(Ok(()), |endpoint| self.check_certificates(endpoint.tls)),
        }
    }
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self::new()
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
        assert_eq!(config.scan_count, 9);
        assert_eq!(config.cas, CompareAndSwap::Script);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for (url, word) in [
            ("redis://h?colour=red", "scan_count"),
            ("redis://h?scan_count=0", "scan_count"),
            ("redis://h?timeout=0s", "longer than zero"),
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

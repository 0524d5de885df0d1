//! The options.

use std::path::PathBuf;

use larder_core::Result;
use larder_kit::{Configure, Layout, Secret, StoreUrl, Timeout};

use crate::{
    endpoint::{Endpoint, Kind},
    error::configuration,
};

const DEFAULT_PREFIX: &str = "larder";

larder_kit::choices! {
    /// The method of compare-and-swap. Each is atomic and takes one round trip.
    pub enum CompareAndSwap {
        /// `SET ... IFEQ` if the server has it (Valkey 8.1, Redis 8.4 and newer) and the old value has at most 16 KiB;
        /// a script otherwise. The first use detects whether the server has it.
        #[default]
        "auto" => Auto,
        /// A script that compares the SHA-1 digest of the stored value, so only 40 bytes of the old value are sent. The
        /// user needs the permission to run `EVAL` and `EVALSHA`.
        "script" => Script,
        /// Always `SET ... IFEQ`. Deletions and touches on a version still use a script.
        "ifeq" => IfEq,
    }
}

larder_kit::choices! {
    /// The version of the protocol.
    pub enum Protocol {
        /// RESP3 if the server supports it, otherwise RESP2.
        #[default]
        "auto" => Auto,
        /// RESP2.
        "resp2" => Resp2,
        /// RESP3.
        "resp3" => Resp3,
    }
}

larder_kit::config! {
    /// The configuration of a store on Redis.
    ///
    /// ```no_run
    /// # async fn example() -> larder_core::Result<()> {
    /// use std::time::Duration;
    /// use larder_redis::Config;
    ///
    /// let store = Config::from_url("redis://localhost/0")?
    ///     .prefix("shop-bot")
    ///     .password("correct horse")
    ///     .timeout(Duration::from_secs(2))
    ///     .connect()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    #[derive(Clone, Debug)]
    pub struct Config for "redis" {
        endpoint: Option<Endpoint>,
    }

    options {
        /// The text before every key, which lets several programs share a database. Keys of different prefixes never
        /// collide. Must not be empty.
        prefix: Option<String>, unset "`larder`";
        /// The layout of keys: `larder`, or `grammy` to store keys without a prefix, as grammY's Redis adapter does. No
        /// other program may then use the database.
        layout: Layout = "larder";
        /// The longest time for a command. Your own connection keeps its own timeouts.
        timeout: Timeout = "5s";
        /// The longest time for connecting, including TLS and Sentinels. Each node of a cluster gets a third of it.
        connect_timeout: Timeout = "5s";
        /// The number of keys that the server looks at per step of a listing (`COUNT`).
        scan_count: usize = "512", if |count| *count > 0 => "a whole number from 1";
        /// The method of compare-and-swap: `ifeq`, a `script`, or `auto` for the best that the server supports.
        cas: CompareAndSwap = "auto";
        /// The version of the protocol: `resp2`, `resp3`, or `auto` for RESP3 if the server supports it.
        protocol: Protocol = "auto";
        /// A PEM file with the certificate authorities to trust.
        tls_ca: Option<PathBuf>, unset "the system's";
        /// A PEM file with the client's certificate.
        tls_cert: Option<PathBuf>, unset "none";
        /// A PEM file with the client's private key.
        tls_key: Option<PathBuf>, unset "none";
        /// The number of the database, if it is not in the URL. A cluster has only one database.
        db: Option<u32>, unset "0";
        /// The user, if it is not in the URL. Behind Sentinels, the user for the master.
        user: Option<String>, unset "none";
        /// The password, if it is not in the URL. Behind Sentinels, the password for the master.
        password: Option<Secret>, unset "none";
        /// The user for the Sentinels themselves.
        sentinel_username: Option<String>, unset "none";
        /// The password for the Sentinels themselves.
        sentinel_password: Option<Secret>, unset "none";
    }
}

impl Config {
    fn locate(&mut self, url: &StoreUrl) -> Result<()> {
        self.endpoint = Some(Endpoint::parse(url)?);
        Ok(())
    }

    /// Returns the prefix of all keys; empty if keys have no prefix.
    pub(crate) fn key_prefix(&self) -> &str {
        match self.layout {
            Layout::Grammy => "",
            _ => self.prefix.as_deref().unwrap_or(DEFAULT_PREFIX),
        }
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.check_options()?;
        match (self.layout, self.prefix.as_deref()) {
            (Layout::Larder, Some("")) => {
                return Err(configuration(
                    "`prefix` must not be empty, or other programs' keys in the database would appear as entries: set \
                     a prefix, or use `layout=grammy` if no other program uses the database",
                ));
            }
            (Layout::Grammy, Some(prefix)) if !prefix.is_empty() => {
                return Err(configuration("`layout=grammy` has no prefix: remove the option `prefix`"));
            }
            _ => {}
        }
        self.check_endpoint()?;
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(configuration("`tls_cert` and `tls_key` must be set together"));
        }
        Ok(())
    }

    /// Rejects options that the endpoint does not support, or that are also in the URL.
    fn check_endpoint(&self) -> Result<()> {
        let endpoint = self.endpoint.as_ref();
        let kind = endpoint.map(|endpoint| endpoint.kind);
        let tls = endpoint.is_some_and(|endpoint| endpoint.tls);
        let sentinels = kind == Some(Kind::Sentinel);
        let databases = !matches!(kind, None | Some(Kind::Cluster));
        let of_url = "a URL: your own connection is already authenticated";
        let of_tls = "a URL with TLS, such as `rediss://`";
        let of_sentinels = "a URL of Sentinels, `redis-sentinel://`";
        for (option, given, taken, place) in [
            ("db", self.db.is_some(), databases, "a URL of one server or of Sentinels"),
            ("user", self.user.is_some(), kind.is_some(), of_url),
            ("password", self.password.is_some(), kind.is_some(), of_url),
            ("sentinel_username", self.sentinel_username.is_some(), sentinels, of_sentinels),
            ("sentinel_password", self.sentinel_password.is_some(), sentinels, of_sentinels),
            ("tls_ca", self.tls_ca.is_some(), tls, of_tls),
            ("tls_cert", self.tls_cert.is_some(), tls, of_tls),
            ("tls_key", self.tls_key.is_some(), tls, of_tls),
        ] {
            if given && !taken {
                return Err(configuration(format!("the option `{option}` needs {place}")));
            }
        }
        let in_url = |has: fn(&Endpoint) -> bool| endpoint.is_some_and(has);
        for (option, given, in_url) in [
            ("db", self.db.is_some(), in_url(|endpoint| endpoint.has_db)),
            ("user", self.user.is_some(), in_url(|endpoint| endpoint.login.username().is_some())),
            ("password", self.password.is_some(), in_url(|endpoint| endpoint.login.password().is_some())),
        ] {
            if given && in_url {
                return Err(configuration(format!(
                    "`{option}` is both in the URL and an option: remove one of them"
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use larder_core::{Error, ErrorKind};
    use serde_json::json;

    use super::*;

    fn check(url: &str) -> Result<()> {
        Config::from_url(url)?.check().map_err(Config::named)
    }

    fn refused(config: &Config) -> Error {
        let error = config.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig);
        error
    }

    #[test]
    fn options_are_read_from_the_url() {
        let config = Config::from_url(
            "redis://localhost?prefix=a&timeout=2s&connect_timeout=300ms&scan_count=9&cas=script&protocol=resp2",
        )
        .unwrap();
        assert_eq!(config.prefix.as_deref(), Some("a"));
        assert_eq!(config.timeout.get(), Duration::from_secs(2));
        assert_eq!(config.connect_timeout.get(), Duration::from_millis(300));
        assert_eq!(config.scan_count, 9);
        assert_eq!(config.cas, CompareAndSwap::Script);
    }

    #[test]
    fn invalid_options_are_rejected() {
        for (url, word) in [
            ("redis://h?colour=red", "scan_count"),
            ("redis://h?scan_count=0", "scan_count"),
            ("redis://h?timeout=0s", "longer than zero"),
            ("redis://h?layout=grammy&prefix=x", "prefix"),
            ("redis://h?prefix=", "layout=grammy"),
            ("redis://h?prefix=&layout=larder", "layout=grammy"),
            ("redis://h?cas=maybe", "ifeq"),
            ("redis://h?db=one", "`db`"),
            ("redis://h?sentinel_username=x", "`sentinel_username`"),
            ("redis://h?sentinel_password=x", "`sentinel_password`"),
            ("redis://h?tls_ca=/ca.pem", "`tls_ca`"),
            ("redis+unix:///redis.sock?tls_key=/key.pem", "`tls_key`"),
            #[cfg(feature = "tls")]
            ("rediss://h?tls_cert=/c.pem", "`tls_key`"),
            #[cfg(feature = "cluster")]
            ("redis-cluster://h?db=1", "`db`"),
        ] {
            let error = check(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(error.message().contains(word), "{url}: {error}");
            assert!(error.to_string().starts_with("redis: connect: "), "{url}: {error}");
        }
    }

    #[test]
    fn a_login_given_twice_is_rejected_without_printing_it() {
        for (url, option) in [
            ("redis://h/1?db=1", "`db`"),
            ("redis://bot@h?user=bot", "`user`"),
            ("redis://:hunter2@h?password=hunter2", "`password`"),
            #[cfg(feature = "sentinel")]
            ("redis-sentinel://a,b/master/1?db=2", "`db`"),
            #[cfg(feature = "cluster")]
            ("redis-cluster://bot:hunter2@a,b?password=x", "`password`"),
        ] {
            let error = check(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(error.message().contains(option), "{url}: {error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        assert!(check("redis://bot@h/1?password=hunter2").is_ok());
    }

    #[test]
    fn a_login_may_be_beside_the_url() {
        let map = json!({ "url": "redis://bot@localhost", "password": "hunter2", "db": 3 });
        let config: Config = serde_json::from_value(map).unwrap();
        config.check().unwrap();
        assert_eq!(config.db, Some(3));
        assert_eq!(config.password.as_ref().map(Secret::expose), Some("hunter2"));
        let map = json!({ "url": "redis://bot:hunter2@localhost", "password": "hunter2" });
        let error = refused(&serde_json::from_value(map).unwrap());
        assert!(error.message().contains("`password`"), "{error}");
    }

    #[test]
    fn connection_options_are_rejected_without_a_url() {
        for config in [
            Config::new().password("x"),
            Config::new().user("x"),
            Config::new().db(1),
            Config::new().tls_ca("/ca.pem"),
            Config::new().sentinel_password("x"),
        ] {
            refused(&config);
        }
        Config::new().prefix("x").check().unwrap();
    }

    #[test]
    fn an_empty_prefix_needs_the_grammy_layout() {
        assert!(check("redis://h?layout=grammy&prefix=").is_ok());
        refused(&Config::new().prefix(""));
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
            let config = Config::from_url(url).unwrap();
            assert!(!format!("{config:?}").contains("hunter2"), "{url}");
        }
    }
}

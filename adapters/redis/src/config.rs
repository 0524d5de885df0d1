//! The builder, and the options of a URL.

use std::{fmt, num::NonZeroUsize, path::PathBuf, time::Duration};

use larder_core::Result;
use larder_kit::StoreUrl;

use crate::{
    Connection, RedisStorage,
    cas::CompareAndSwap,
    connect::{Connector, Protocol, Settings},
    driver::Driver,
    error::configuration,
    keyspace::Keyspace,
    link::Link,
    place::Place,
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

/// How sessions lie in Redis.
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

/// Sets up a [`RedisStorage`].
///
/// ```no_run
/// # async fn example() -> larder_core::Result<()> {
/// use std::time::Duration;
/// use larder_redis::RedisBuilder;
///
/// let storage = RedisBuilder::from_url("redis://localhost/0")?
///     .prefix("shop-bot")
///     .timeout(Duration::from_secs(2))
///     .connect()
///     .await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisBuilder {
    place: Option<Place>,
    prefix: Option<String>,
    layout: Layout,
    scan_count: NonZeroUsize,
    cas: CompareAndSwap,
    settings: Settings,
    tls: TlsFiles,
}

impl Default for RedisBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl RedisBuilder {
    /// A builder with no server, to be used with a connection of your own
    /// ([`with_connection`](Self::with_connection)).
    #[must_use]
    pub fn new() -> Self {
        Self {
            place: None,
            prefix: None,
            layout: Layout::Larder,
            scan_count: NonZeroUsize::new(512).unwrap_or(NonZeroUsize::MIN),
            cas: CompareAndSwap::Auto,
            settings: Settings::default(),
            tls: TlsFiles::default(),
        }
    }

    /// A builder for the server or servers that `url` names, with its options ([`OPTIONS`]).
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the URL does not parse, has an
    /// unknown option, or asks for a feature that this build does not have. The message contains no
    /// password.
    pub fn from_url(url: &str) -> Result<Self> {
        Self::from_location(StoreUrl::parse(url)?)
    }

    /// As [`from_url`](Self::from_url), for a URL that has been taken apart already.
    ///
    /// # Errors
    ///
    /// As [`from_url`](Self::from_url).
    pub fn from_location(mut location: StoreUrl) -> Result<Self> {
        let mut builder = Self::new();
        builder.take_options(&mut location)?;
        builder.place = Some(Place::parse(&mut location)?);
        location.finish(OPTIONS)?;
        // What is known but not taken belongs to another kind of URL.
        if let Some(option) = location.remaining().next() {
            return Err(configuration(format!(
                "`{}:` does not take the option `{option}`",
                location.scheme()
            )));
        }
        builder.check()?;
        Ok(builder)
    }

    fn take_options(&mut self, location: &mut StoreUrl) -> Result<()> {
        self.prefix = location.take("prefix")?;
        let layouts = [("larder", Layout::Larder), ("grammy", Layout::Grammy)];
        if let Some(layout) = location.take_choice("layout", &layouts)? {
            self.layout = layout;
        }
        if let Some(timeout) = location.take_duration("timeout")? {
            self.settings.timeout = timeout;
        }
        if let Some(timeout) = location.take_duration("connect_timeout")? {
            self.settings.connect_timeout = timeout;
        }
        if let Some(count) = location.take_parsed("scan_count", "a whole number, 1 or more")? {
            self.scan_count = count;
        }
        let ways = [
            ("auto", CompareAndSwap::Auto),
            ("script", CompareAndSwap::Script),
            ("ifeq", CompareAndSwap::IfEq),
        ];
        if let Some(way) = location.take_choice("cas", &ways)? {
            self.cas = way;
        }
        let protocols = [("auto", Protocol::Auto), ("resp2", Protocol::Resp2), ("resp3", Protocol::Resp3)];
        if let Some(protocol) = location.take_choice("protocol", &protocols)? {
            self.settings.protocol = protocol;
        }
        self.tls = TlsFiles {
            ca: location.take("tls_ca")?.map(PathBuf::from),
            certificate: location.take("tls_cert")?.map(PathBuf::from),
            key: location.take("tls_key")?.map(PathBuf::from),
        };
        Ok(())
    }

    /// What comes before every key, so that several programs can share a server; `larder` unless
    /// said otherwise. No prefix reaches into the keys of another: `app`, `app-one` and `app:x` are
    /// three. An empty prefix would reach into all of them and is refused;
    /// [`Layout::Grammy`] leaves keys as they are.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// How sessions lie in Redis.
    #[must_use]
    pub const fn layout(mut self, layout: Layout) -> Self {
        self.layout = layout;
        self
    }

    /// How long a command may take before it is a
    /// [`Timeout`](larder_core::ErrorKind::Timeout); 5 s unless said otherwise. A connection of your
    /// own keeps its own time-outs.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// How long connecting may take, a Sentinel's advice and TLS included; 5 s unless said
    /// otherwise.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.settings.connect_timeout = timeout;
        self
    }

    /// How many keys the server looks at per step of a listing (`COUNT`); 512 unless said otherwise.
    #[must_use]
    pub const fn scan_count(mut self, count: NonZeroUsize) -> Self {
        self.scan_count = count;
        self
    }

    /// How the server compares and swaps.
    #[must_use]
    pub const fn compare_and_swap(mut self, way: CompareAndSwap) -> Self {
        self.cas = way;
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if there is no server to connect to
    /// or a certificate cannot be read, [`Unavailable`](larder_core::ErrorKind::Unavailable) if the
    /// host is unknown or nobody listens there, [`PermissionDenied`](larder_core::ErrorKind::PermissionDenied) if user or
    /// password are wrong, [`Timeout`](larder_core::ErrorKind::Timeout).
    pub async fn connect(self) -> Result<RedisStorage> {
        self.check()?;
        let Some(place) = self.place.clone() else {
            return Err(configuration(
                "there is no server to connect to: begin with `RedisBuilder::from_url`",
            ));
        };
        let kind = place.kind();
        let link = Link::connect(Connector::new(place, self.settings, &self.tls)?).await?;
        Ok(self.storage(link, kind))
    }

    /// A storage on a connection of your own, with its own time-outs and its own way to reconnect.
    /// It is never closed: closing the storage only closes the storage. Nothing is sent yet.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use larder_redis::{RedisBuilder, redis};
    ///
    /// let client = redis::Client::open("redis://localhost")?;
    /// let manager = client.get_connection_manager().await?;
    /// let storage = RedisBuilder::new().prefix("shop-bot").with_connection(manager)?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](larder_core::ErrorKind::InvalidConfig) if the builder was made from a URL.
    pub fn with_connection(self, connection: impl Into<Connection>) -> Result<RedisStorage> {
        self.check()?;
        if self.place.is_some() {
            return Err(configuration(
                "there is a URL and a connection: begin with `RedisBuilder::new` to use the connection",
            ));
        }
        let link = Link::borrow(connection.into());
        Ok(self.storage(link, "connection"))
    }

    fn check(&self) -> Result<()> {
        if self.layout == Layout::Grammy && self.prefix.as_deref().is_some_and(|prefix| !prefix.is_empty()) {
            return Err(configuration("grammY's layout has no prefix: leave `prefix` out"));
        }
        if self.layout == Layout::Larder && self.prefix.as_deref() == Some("") {
            return Err(configuration(
                "an empty prefix reaches every key of the database, those of other prefixes and programs included: \
                 give a prefix, or use `layout=grammy` if the whole database belongs to this program",
            ));
        }
        if self.settings.timeout.is_zero() || self.settings.connect_timeout.is_zero() {
            return Err(configuration("a time-out is longer than zero"));
        }
        match &self.place {
            Some(place) => self.tls.check(place.is_tls()),
            None => Ok(()),
        }
    }

    fn storage(self, link: Link, kind: &'static str) -> RedisStorage {
        let prefix = match self.layout {
            Layout::Larder => self.prefix.as_deref().unwrap_or(DEFAULT_PREFIX),
            Layout::Grammy => "",
        };
        let keyspace = Keyspace::new(prefix);
        RedisStorage::new(Driver::new(link, keyspace, self.cas, self.scan_count), kind)
    }
}

impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The place holds passwords.
        f.debug_struct("RedisBuilder")
            .field("place", &self.place.as_ref().map(Place::kind))
            .field("prefix", &self.prefix)
            .field("layout", &self.layout)
            .field("scan_count", &self.scan_count)
            .field("compare_and_swap", &self.cas)
            .field("timeout", &self.settings.timeout)
            .field("connect_timeout", &self.settings.connect_timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use larder_core::ErrorKind;

    use super::*;

    #[test]
    fn options_are_taken() {
        let builder = RedisBuilder::from_url(
            "redis://localhost?prefix=a&timeout=2s&connect_timeout=300ms&scan_count=9&cas=script&protocol=resp2",
        )
        .unwrap();
        assert_eq!(builder.prefix.as_deref(), Some("a"));
        assert_eq!(builder.settings.timeout, Duration::from_secs(2));
        assert_eq!(builder.settings.connect_timeout, Duration::from_millis(300));
        assert_eq!(builder.scan_count.get(), 9);
        assert_eq!(builder.cas, CompareAndSwap::Script);
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
            let error = RedisBuilder::from_url(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(error.message().contains(word), "{url}: {error}");
        }
    }

    #[test]
    fn empty_prefix_belongs_to_the_layout_without_one() {
        assert!(RedisBuilder::from_url("redis://h?layout=grammy&prefix=").is_ok());
        let built = RedisBuilder::new().prefix("").check().unwrap_err();
        assert_eq!(built.kind(), ErrorKind::InvalidConfig);
    }

    #[test]
    fn debug_prints_no_password() {
        let builder = RedisBuilder::from_url("redis://bot:hunter2@localhost").unwrap();
        assert!(!format!("{builder:?}").contains("hunter2"));
    }
}

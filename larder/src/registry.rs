//! Stores by URL, from a set of adapters.

use std::{fmt, sync::Arc};

use futures_util::future::BoxFuture;
use larder_core::{Error, ErrorKind, Result, Store};
use larder_kit::{Adapter, StoreUrl, is_scheme};

/// Opens the store at `url`, and creates the store if it does not exist: [`Registry::open`] on
/// [`Registry::builtin`].
///
/// Dropping the store ends its background work. To be sure that a snapshot file has been written, call
/// [`Store::close`] or [`Store::flush`].
///
/// # Errors
///
/// As [`Registry::open`].
pub async fn open(url: &str) -> Result<Store> {
    Registry::builtin().open(url).await
}

/// Opens the store at `url` only if it exists: [`Registry::open_existing`] on [`Registry::builtin`].
///
/// # Errors
///
/// As [`Registry::open_existing`].
pub async fn open_existing(url: &str) -> Result<Store> {
    Registry::builtin().open_existing(url).await
}

/// A set of adapters, which opens a store with the adapter for the scheme of its URL.
///
/// ```
/// use larder::{Adapter, Registry, Result, Store};
///
/// /// An adapter of another crate, or of the application.
/// struct Shared(Store);
///
/// impl Adapter for Shared {
///     const SCHEMES: &'static [&'static str] = &["shared"];
///
///     async fn connect(&self, _: &str) -> Result<Store> {
///         Ok(self.0.clone())
///     }
///
///     async fn connect_existing(&self, url: &str) -> Result<Store> {
///         self.connect(url).await
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<()> {
/// # let store = Store::from(larder_memory::MemoryStorage::new());
/// let registry = Registry::builtin().with(Shared(store));
/// registry.open("shared:").await?.write("chat:42", "hello").await?;
///
/// let error = registry.open("oracle://localhost").await.unwrap_err();
/// assert!(error.message().contains("shared:"), "the error lists the schemes");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Registry {
    entries: Vec<Entry>,
}

/// The features of this crate that bring an adapter, and the schemes of its URLs.
const FEATURES: &[(&str, &[&str])] = &[
    ("memory", &["memory"]),
    ("file", &["file"]),
    ("sqlite", &["sqlite"]),
    ("postgres", &["postgres", "postgresql"]),
    ("mysql", &["mysql", "mariadb"]),
    (
        "redis",
        &[
            "redis",
            "rediss",
            "valkey",
            "valkeys",
            "redis+unix",
            "redis-cluster",
            "rediss-cluster",
            "redis-sentinel",
            "rediss-sentinel",
        ],
    ),
    ("mongodb", &["mongodb", "mongodb+srv"]),
    ("dynamodb", &["dynamodb"]),
];

#[derive(Clone)]
struct Entry {
    scheme: &'static str,
    source: Source,
}

/// The way to open the URLs of a scheme.
#[derive(Clone)]
enum Source {
    Adapter {
        adapter: Arc<dyn Connect>,
        urls: &'static [(&'static str, &'static str)],
    },
    /// The adapter was not compiled, because this feature is off.
    Feature(&'static str),
}

/// [`Adapter`] with boxed futures.
trait Connect: Send + Sync {
    fn connect<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Store>>;
    fn connect_existing<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Store>>;
}

impl<A: Adapter> Connect for A {
    fn connect<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Store>> {
        Box::pin(Adapter::connect(self, url))
    }

    fn connect_existing<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Store>> {
        Box::pin(Adapter::connect_existing(self, url))
    }
}

impl Registry {
    /// Creates a registry without adapters.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a registry of the adapters whose features are on.
    ///
    /// It also knows the schemes of the other adapters: the error for such a URL names the feature.
    #[must_use]
    pub fn builtin() -> Self {
        let mut registry = Self::new();
        for (feature, schemes) in FEATURES {
            for scheme in *schemes {
                registry.set(scheme, Source::Feature(feature));
            }
        }
        #[cfg(feature = "memory")]
        let registry = registry.with(larder_memory::Adapter);
        #[cfg(feature = "file")]
        let registry = registry.with(larder_file::Adapter);
        #[cfg(feature = "sqlite")]
        let registry = registry.with(larder_sqlite::Adapter);
        #[cfg(feature = "postgres")]
        let registry = registry.with(larder_postgres::Adapter);
        #[cfg(feature = "mysql")]
        let registry = registry.with(larder_mysql::Adapter);
        #[cfg(feature = "redis")]
        let registry = registry.with(larder_redis::Adapter);
        #[cfg(feature = "mongodb")]
        let registry = registry.with(larder_mongodb::Adapter);
        #[cfg(feature = "dynamodb")]
        let registry = registry.with(larder_dynamodb::Adapter);
        registry
    }

    /// Adds an adapter.
    ///
    /// It then opens the URLs with its [schemes](Adapter::SCHEMES). If an earlier adapter has the same scheme, the new
    /// one replaces it for that scheme only.
    ///
    /// The program does not compile if the adapter has no scheme, a scheme that is
    /// [not valid](larder_kit::is_scheme), or a [form of its URLs](Adapter::URLS) with another scheme:
    ///
    /// ```compile_fail,E0080
    /// # use larder::{Adapter, Registry, Result, Store};
    /// struct Invalid;
    ///
    /// impl Adapter for Invalid {
    ///     const SCHEMES: &'static [&'static str] = &["my scheme"];
    /// #   async fn connect(&self, url: &str) -> Result<Store> { larder::open(url).await }
    /// #   async fn connect_existing(&self, url: &str) -> Result<Store> { larder::open_existing(url).await }
    ///     // ...
    /// }
    ///
    /// let registry = Registry::new().with(Invalid);
    /// ```
    #[must_use]
    pub fn with<A: Adapter>(mut self, adapter: A) -> Self {
        const { check(A::SCHEMES, A::URLS) };
        let adapter: Arc<dyn Connect> = Arc::new(adapter);
        for scheme in A::SCHEMES {
            self.set(scheme, Source::Adapter { adapter: Arc::clone(&adapter), urls: A::URLS });
        }
        self
    }

    fn set(&mut self, scheme: &'static str, source: Source) {
        match self.entries.iter_mut().find(|entry| entry.scheme == scheme) {
            Some(entry) => entry.source = source,
            None => self.entries.push(Entry { scheme, source }),
        }
    }

    /// Opens the store at `url`, and creates the store if it does not exist.
    ///
    /// The documentation of this crate has the [URLs and options](crate#urls) of the built-in adapters.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfig`] if the URL is not valid, or if its scheme or an option is unknown (the message
    /// lists the known ones), or if the feature of its adapter is off. Otherwise the error of connecting to the store.
    /// No error contains the URL.
    pub async fn open(&self, url: &str) -> Result<Store> {
        self.adapter(url)?.connect(url).await
    }

    /// Opens the store at `url` only if it exists.
    ///
    /// Opening creates no file, directory, table, collection or index and changes no permissions, and a store that
    /// was opened like this does not remove expired entries in the background. The right to read is enough. Reads,
    /// writes and deletions work as usual, as far as the rights allow. A store in memory and a Redis database need no
    /// creation; for them this is the same as [`open`](Self::open).
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and [`ErrorKind::InvalidConfig`] if the file, directory, table or collection does not
    /// exist, or does not have the layout that the URL asks for.
    pub async fn open_existing(&self, url: &str) -> Result<Store> {
        self.adapter(url)?.connect_existing(url).await
    }

    /// Returns the schemes that this registry knows, in the order in which they were added.
    ///
    /// They include those of built-in adapters whose feature is off.
    ///
    /// ```
    /// assert_eq!(larder::Registry::builtin().schemes().next(), Some("memory"));
    /// ```
    pub fn schemes(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.entries.iter().map(|entry| entry.scheme)
    }

    /// Returns the forms of the URLs that this registry opens, each with a short description, for the help of a
    /// command line ([`Adapter::URLS`]).
    pub fn urls(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        self.entries.iter().flat_map(|entry| {
            let urls = match entry.source {
                Source::Adapter { urls, .. } => urls,
                Source::Feature(_) => &[],
            };
            let scheme = entry.scheme;
            urls.iter().copied().filter(move |(form, _)| form.split(':').next() == Some(scheme))
        })
    }

    fn adapter(&self, url: &str) -> Result<&dyn Connect> {
        let url = StoreUrl::parse(url)?;
        let scheme = url.scheme();
        let message = match self
            .entries
            .iter()
            .find(|entry| entry.scheme == scheme)
            .map(|entry| &entry.source)
        {
            Some(Source::Adapter { adapter, .. }) => return Ok(&**adapter),
            Some(Source::Feature(feature)) => {
                format!(
                    "`{scheme}:` URLs need the feature `{feature}` of the crate `larder`, which is off in this program"
                )
            }
            None => {
                let (mut known, mut off) = (String::new(), Vec::new());
                for entry in &self.entries {
                    match entry.source {
                        Source::Adapter { .. } => known.extend([" ", entry.scheme, ":"]),
                        Source::Feature(feature) => off.push(feature),
                    }
                }
                off.dedup();
                let known = if known.is_empty() {
                    ", and no adapter is registered".to_owned()
                } else {
                    format!("; the known schemes are:{known}")
                };
                let off = if off.is_empty() {
                    String::new()
                } else {
                    format!(" (features of the crate `larder` that are off: {})", off.join(" "))
                };
                format!("no adapter opens `{scheme}:` URLs{known}{off}")
            }
        };
        Err(Error::new(ErrorKind::InvalidConfig, message))
    }
}

/// Lists the schemes.
impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.schemes().collect::<Vec<_>>()).finish()
    }
}

const fn check(schemes: &[&str], urls: &[(&str, &str)]) {
    assert!(!schemes.is_empty(), "an adapter has at least one scheme");
    let mut rest = schemes;
    while let [scheme, after @ ..] = rest {
        assert!(
            is_scheme(scheme),
            "a scheme is a lower-case letter, followed by letters, digits, `+`, `-` and `.`"
        );
        rest = after;
    }
    let mut rest = urls;
    while let [(form, _), after @ ..] = rest {
        assert!(
            has_scheme(form, schemes),
            "the form of a URL begins with one of the adapter's schemes and a colon"
        );
        rest = after;
    }
}

/// Whether `form` begins with one of `schemes` and a colon.
const fn has_scheme(form: &str, mut schemes: &[&str]) -> bool {
    while let [scheme, after @ ..] = schemes {
        let (mut form, mut scheme) = (form.as_bytes(), scheme.as_bytes());
        while let ([a, form_after @ ..], [b, scheme_after @ ..]) = (form, scheme)
            && *a == *b
        {
            (form, scheme) = (form_after, scheme_after);
        }
        if matches!((form, scheme), ([b':', ..], [])) {
            return true;
        }
        schemes = after;
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // A test fails by panicking.

    use larder_core::{Error, ErrorKind, Result, Store};
    use larder_kit::Adapter;

    use super::{Registry, Source, check};

    #[test]
    fn forms_of_urls_may_have_any_scheme_of_the_adapter() {
        check(&["db", "dbs"], &[("dbs://HOST", "with TLS"), ("db://HOST", "")]);
    }

    #[test]
    #[should_panic = "begins with one of the adapter's schemes"]
    fn a_form_with_another_scheme_is_rejected() {
        check(&["db", "dbs"], &[("db+unix:PATH", "")]);
    }

    #[test]
    #[should_panic = "begins with one of the adapter's schemes"]
    fn a_form_without_a_colon_is_rejected() {
        check(&["db"], &[("db", "")]);
    }

    #[test]
    #[cfg(feature = "all")]
    fn table_of_features_has_the_schemes_of_the_adapters() {
        let registry = Registry::builtin();
        assert!(registry.entries.iter().all(|entry| matches!(entry.source, Source::Adapter { .. })));
        let listed: usize = super::FEATURES.iter().map(|(_, schemes)| schemes.len()).sum();
        assert_eq!(registry.entries.len(), listed);
    }

    #[test]
    fn error_for_an_unknown_scheme_lists_only_schemes_that_the_program_opens() {
        struct Db;

        impl Adapter for Db {
            const SCHEMES: &'static [&'static str] = &["db", "dbs"];

            async fn connect(&self, _: &str) -> Result<Store> {
                Err(Error::new(ErrorKind::Unsupported, "a test"))
            }

            async fn connect_existing(&self, url: &str) -> Result<Store> {
                self.connect(url).await
            }
        }

        let mut registry = Registry::new();
        registry.set("redis", Source::Feature("redis"));
        registry.set("rediss", Source::Feature("redis"));
        registry.set("sqlite", Source::Feature("sqlite"));
        let message = |registry: &Registry| registry.adapter("oracle:").err().unwrap().message().to_owned();
        assert_eq!(
            message(&registry),
            "no adapter opens `oracle:` URLs, and no adapter is registered \
             (features of the crate `larder` that are off: redis sqlite)"
        );
        assert_eq!(
            message(&registry.with(Db)),
            "no adapter opens `oracle:` URLs; the known schemes are: db: dbs: \
             (features of the crate `larder` that are off: redis sqlite)"
        );
        assert_eq!(
            message(&Registry::new().with(Db)),
            "no adapter opens `oracle:` URLs; the known schemes are: db: dbs:"
        );
    }
}

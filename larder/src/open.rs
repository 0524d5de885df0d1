//! Any store, by its URL.

use larder_core::{Error, ErrorKind, Result, Store};
use larder_kit::StoreUrl;

/// A scheme that [`open`] knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Scheme {
    /// What stands before the first colon of the URL.
    pub name: &'static str,
    /// The feature of this crate that it needs.
    pub feature: &'static str,
    /// Whether that feature is on in this build.
    pub available: bool,
}

macro_rules! schemes {
    ($($name:literal in $feature:literal),+ $(,)?) => {
        /// Every scheme that there is, in the order of the documentation.
        pub const SCHEMES: &[Scheme] =
            &[$(Scheme { name: $name, feature: $feature, available: cfg!(feature = $feature) }),+];
    };
}

schemes! {
    "memory" in "memory",
    "file" in "file",
    "sqlite" in "sqlite",
    "postgres" in "postgres",
    "postgresql" in "postgres",
    "redis" in "redis",
    "rediss" in "redis",
    "valkey" in "redis",
    "valkeys" in "redis",
    "redis+unix" in "redis",
    "redis-cluster" in "redis",
    "rediss-cluster" in "redis",
    "redis-sentinel" in "redis",
    "rediss-sentinel" in "redis",
    "mongodb" in "mongodb",
    "mongodb+srv" in "mongodb",
}

/// Opens the store at `url`, or makes it. The table of URLs and their options is in the documentation of this
/// crate.
///
/// Dropping the store ends its background work, but a snapshot file is only sure to be written by
/// [`Store::close`] (or [`Store::flush`]).
///
/// # Errors
///
/// [`ErrorKind::InvalidConfig`] for a URL, a scheme or an option that is not known (the message
/// names the known ones) or whose feature is off; otherwise the error of connecting to the store.
/// No error contains the URL.
pub async fn open(url: &str) -> Result<Store> {
    connect(url, Intent::Use).await
}

/// Opens the store at `url` if it is there, to look at it.
///
/// Makes no file, directory, table, collection or index, changes no mode, and removes no expired
/// entries in the background. A right to read is enough. Reads, writes and deletes work as usual, as far
/// as the rights allow. A memory store and a Redis database have nothing to set up; for them this is
/// [`open`].
///
/// # Errors
///
/// As [`open`], and [`ErrorKind::InvalidConfig`] if there is no such file, directory, table or
/// collection, or if it does not have the shape that the URL asks for.
pub async fn open_existing(url: &str) -> Result<Store> {
    connect(url, Intent::Look).await
}

/// The purpose of opening a store.
#[derive(Clone, Copy)]
enum Intent {
    /// To use it; it is made if it is not there.
    Use,
    /// To look at it as it is.
    Look,
}

async fn connect(url: &str, intent: Intent) -> Result<Store> {
    let location = StoreUrl::parse(url)?;
    let Some(scheme) = SCHEMES.iter().find(|scheme| scheme.name == location.scheme()) else {
        return Err(unknown(location.scheme()));
    };
    match (scheme.feature, intent) {
        #[cfg(feature = "memory")]
        ("memory", _) => larder_memory::connect(url).await,
        #[cfg(feature = "file")]
        ("file", Intent::Use) => larder_file::connect(url).await,
        #[cfg(feature = "file")]
        ("file", Intent::Look) if larder_file::is_snapshot(url)? => {
            larder_file::SnapshotConfig::from_url(url)?.existing().connect().await
        }
        #[cfg(feature = "file")]
        ("file", Intent::Look) => larder_file::Config::from_url(url)?.existing().connect().await,
        #[cfg(feature = "sqlite")]
        ("sqlite", Intent::Use) => larder_sqlite::connect(url).await,
        #[cfg(feature = "sqlite")]
        ("sqlite", Intent::Look) => larder_sqlite::Config::from_url(url)?.existing().connect().await,
        #[cfg(feature = "postgres")]
        ("postgres", Intent::Use) => larder_postgres::connect(url).await,
        #[cfg(feature = "postgres")]
        ("postgres", Intent::Look) => larder_postgres::Config::from_url(url)?.existing().connect().await,
        #[cfg(feature = "redis")]
        ("redis", _) => larder_redis::connect(url).await,
        #[cfg(feature = "mongodb")]
        ("mongodb", Intent::Use) => larder_mongodb::connect(url).await,
        #[cfg(feature = "mongodb")]
        ("mongodb", Intent::Look) => larder_mongodb::Config::from_url(url)?.existing().connect().await,
        _ => Err(Error::new(
            ErrorKind::InvalidConfig,
            format!(
                "`{}:` needs the feature `{}` of the crate `larder`, which this program was built without",
                scheme.name, scheme.feature
            ),
        )),
    }
}

fn unknown(scheme: &str) -> Error {
    let known: Vec<_> = SCHEMES.iter().map(|scheme| format!("{}:", scheme.name)).collect();
    Error::new(
        ErrorKind::InvalidConfig,
        format!("there is no storage for `{scheme}:` URLs; the known schemes are: {}", known.join(" ")),
    )
}

//! Any store, by its URL.

use larder_core::{Error, ErrorKind, Location, Result, Storage};

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

/// Opens the store at `url`. The table of URLs and their options is in the documentation of this
/// crate.
///
/// Dropping the storage ends its background work, but a snapshot file is only sure to be written by
/// [`Storage::close`] (or [`Storage::flush`]).
///
/// # Errors
///
/// [`ErrorKind::Configuration`] for a URL, a scheme or an option that is not known (the message
/// names the known ones) or whose feature is off; otherwise what connecting to the store came to.
/// No error contains the URL.
pub async fn open(url: &str) -> Result<Box<dyn Storage>> {
    let location = Location::parse(url)?;
    let Some(scheme) = SCHEMES.iter().find(|scheme| scheme.name == location.scheme()) else {
        return Err(unknown(location.scheme()));
    };
    connect(scheme, url).await
}

async fn connect(scheme: &Scheme, url: &str) -> Result<Box<dyn Storage>> {
    match scheme.feature {
        #[cfg(feature = "memory")]
        "memory" => Ok(Box::new(larder_memory::MemoryStorage::connect(url).await?)),
        #[cfg(feature = "file")]
        "file" => larder_file::open(url).await,
        #[cfg(feature = "sqlite")]
        "sqlite" => Ok(Box::new(larder_sqlite::SqliteStorage::connect(url).await?)),
        #[cfg(feature = "postgres")]
        "postgres" => Ok(Box::new(larder_postgres::PostgresStorage::connect(url).await?)),
        #[cfg(feature = "redis")]
        "redis" => Ok(Box::new(larder_redis::RedisStorage::connect(url).await?)),
        #[cfg(feature = "mongodb")]
        "mongodb" => Ok(Box::new(larder_mongodb::MongoStorage::connect(url).await?)),
        _ => {
            // Only read where a feature is on.
            let _ = url;
            Err(Error::new(
                ErrorKind::Configuration,
                format!(
                    "`{}:` needs the feature `{}` of the crate `larder`, which this program was built without",
                    scheme.name, scheme.feature
                ),
            ))
        }
    }
}

fn unknown(scheme: &str) -> Error {
    let known: Vec<_> = SCHEMES.iter().map(|scheme| format!("{}:", scheme.name)).collect();
    Error::new(
        ErrorKind::Configuration,
        format!("there is no storage for `{scheme}:` URLs; the known schemes are: {}", known.join(" ")),
    )
}

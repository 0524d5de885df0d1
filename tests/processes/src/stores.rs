//! Stores by URL.

use larder::{Error, Store, async_trait};
use larder_test_servers::{self as servers, Server};
use larder_testkit::{Factory, Missing};
use tempfile::TempDir;

/// The stores of a suite: in a directory of its own, or on a server.
#[derive(Debug)]
pub struct Stores {
    /// The parts of a URL before and after the name of the space.
    before: String,
    after: String,
    directory: Option<TempDir>,
    /// Keeps the server alive.
    _server: Option<Server>,
}

impl Stores {
    /// Directories with one file per key.
    ///
    /// # Errors
    ///
    /// [`Missing`] if a temporary directory cannot be created.
    pub fn file() -> Result<Self, Missing> {
        Self::local("file", "")
    }

    /// SQLite files.
    ///
    /// # Errors
    ///
    /// [`Missing`] if a temporary directory cannot be created.
    pub fn sqlite() -> Result<Self, Missing> {
        Self::local("sqlite", ".db")
    }

    /// Snapshot files.
    ///
    /// # Errors
    ///
    /// [`Missing`] if a temporary directory cannot be created.
    pub fn snapshot() -> Result<Self, Missing> {
        Self::local("file", ".json")
    }

    /// Directories in grammY's layout.
    ///
    /// # Errors
    ///
    /// [`Missing`] if a temporary directory cannot be created.
    pub fn grammy_file() -> Result<Self, Missing> {
        Self::local("file", "?layout=grammy")
    }

    /// Tables in Postgres, with additional URL `options`.
    ///
    /// # Errors
    ///
    /// [`Missing`] if the server is missing.
    pub async fn postgres(options: &str) -> Result<Self, Missing> {
        Self::server(servers::postgres().await, "table", options)
    }

    /// Tables in MariaDB, with additional URL `options`.
    ///
    /// # Errors
    ///
    /// [`Missing`] if the server is missing.
    pub async fn mysql(options: &str) -> Result<Self, Missing> {
        Self::server(servers::mariadb().await, "table", options)
    }

    /// Prefixes in Redis.
    ///
    /// # Errors
    ///
    /// [`Missing`] if the server is missing.
    pub async fn redis() -> Result<Self, Missing> {
        Self::server(servers::redis().await, "prefix", "")
    }

    /// Prefixes in Valkey, which has a command for compare-and-swap.
    ///
    /// # Errors
    ///
    /// [`Missing`] if the server is missing.
    pub async fn valkey() -> Result<Self, Missing> {
        Self::server(servers::valkey().await, "prefix", "")
    }

    /// Tables in DynamoDB.
    ///
    /// # Errors
    ///
    /// [`Missing`] if the server is missing.
    pub async fn dynamodb() -> Result<Self, Missing> {
        Self::server(servers::dynamodb().await, "table", "")
    }

    /// Collections in MongoDB, with additional URL `options`.
    ///
    /// # Errors
    ///
    /// [`Missing`] if the server is missing.
    pub async fn mongodb(options: &str) -> Result<Self, Missing> {
        Self::server(servers::mongodb().await, "collection", options)
    }

    fn local(scheme: &str, after: &str) -> Result<Self, Missing> {
        let directory = tempfile::tempdir()
            .map_err(|error| Missing::new(format!("cannot create a temporary directory: {error}"), true))?;
        Ok(Self {
            before: format!("{scheme}:{}/", directory.path().display()),
            after: after.to_owned(),
            directory: Some(directory),
            _server: None,
        })
    }

    fn server(
        server: Result<Server, servers::Missing>,
        option: &str,
        options: &str,
    ) -> Result<Self, Missing> {
        let server = server.map_err(|missing| Missing::new(missing.to_string(), missing.required()))?;
        let separator = if server.url().contains('?') { '&' } else { '?' };
        Ok(Self {
            before: format!("{}{separator}{option}=", server.url()),
            after: options.to_owned(),
            directory: None,
            _server: Some(server),
        })
    }

    /// The URL of the space called `space`.
    #[must_use]
    pub fn url(&self, space: &str) -> String {
        format!("{}{space}{}", self.before, self.after)
    }

    /// Whether the entries are in local files.
    #[must_use]
    pub const fn is_local(&self) -> bool {
        self.directory.is_some()
    }
}

#[async_trait]
impl Factory for Stores {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        larder::open(&self.url(space)).await
    }
}

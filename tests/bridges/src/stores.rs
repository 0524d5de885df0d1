//! The stores that bridges are tried on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use larder::{Error, Storage, async_trait};
use larder_memory::MemoryStorage;
use larder_test_servers::{self as servers, Server};
use larder_testkit::{Factory, Missing, Runner, Suite};
use tempfile::TempDir;

/// A store with a space for each case. A space that is opened again is as it was left.
#[derive(Debug)]
pub struct Stores(Kind);

#[derive(Debug)]
enum Kind {
    Memory(Mutex<HashMap<String, MemoryStorage>>),
    /// The space's name stands between the two ends of a URL.
    Files {
        before: String,
        after: &'static str,
        _directory: TempDir,
    },
    Server {
        before: String,
        _server: Box<Server>,
    },
}

impl Stores {
    /// Memory.
    #[must_use]
    pub fn memory() -> Self {
        Self(Kind::Memory(Mutex::default()))
    }

    /// Directories of files.
    ///
    /// # Errors
    ///
    /// Where there can be no temporary directory.
    pub async fn file() -> Result<Self, Missing> {
        Self::files("file:", "")
    }

    /// SQLite's files.
    ///
    /// # Errors
    ///
    /// Where there can be no temporary directory.
    pub async fn sqlite() -> Result<Self, Missing> {
        Self::files("sqlite:", ".db")
    }

    /// Redis.
    ///
    /// # Errors
    ///
    /// Where there is no server.
    pub async fn redis() -> Result<Self, Missing> {
        Self::server(servers::redis().await, "prefix")
    }

    /// PostgreSQL.
    ///
    /// # Errors
    ///
    /// Where there is no server.
    pub async fn postgres() -> Result<Self, Missing> {
        Self::server(servers::postgres().await, "table")
    }

    /// PostgreSQL, with the values in its own form for JSON.
    ///
    /// # Errors
    ///
    /// Where there is no server.
    pub async fn postgres_jsonb() -> Result<Self, Missing> {
        Self::server(servers::postgres().await, "values=jsonb&table")
    }

    /// MongoDB.
    ///
    /// # Errors
    ///
    /// Where there is no server.
    pub async fn mongodb() -> Result<Self, Missing> {
        Self::server(servers::mongodb().await, "collection")
    }

    fn files(scheme: &str, after: &'static str) -> Result<Self, Missing> {
        let directory = tempfile::tempdir()
            .map_err(|error| Missing::new(format!("no temporary directory: {error}"), true))?;
        let before = format!("{scheme}{}/", directory.path().display());
        Ok(Self(Kind::Files { before, after, _directory: directory }))
    }

    fn server(server: Result<Server, servers::Missing>, space: &str) -> Result<Self, Missing> {
        let server = server.map_err(|missing| Missing::new(missing.to_string(), missing.required()))?;
        let separator = if server.url().contains('?') { '&' } else { '?' };
        let before = format!("{}{separator}{space}=", server.url());
        Ok(Self(Kind::Server { before, _server: Box::new(server) }))
    }
}

/// These cases on each adapter.
#[must_use]
pub fn on_every_adapter(with_cases: impl Fn(Suite<Stores>) -> Suite<Stores>) -> Runner {
    Runner::new()
        .suite(with_cases(Suite::new("memory", Stores::memory())))
        .suite(with_cases(Suite::connect("file", Stores::file)))
        .suite(with_cases(Suite::connect("sqlite", Stores::sqlite)))
        .suite(with_cases(Suite::connect("redis", Stores::redis)))
        .suite(with_cases(Suite::connect("postgres", Stores::postgres)))
        .suite(with_cases(Suite::connect("mongodb", Stores::mongodb)))
}

#[async_trait]
impl Factory for Stores {
    async fn open(&self, space: &str) -> Result<Arc<dyn Storage>, Error> {
        let url = match &self.0 {
            Kind::Memory(spaces) => {
                let mut spaces = spaces.lock().unwrap();
                return Ok(Arc::new(spaces.entry(space.to_owned()).or_default().clone()));
            }
            Kind::Files { before, after, .. } => format!("{before}{space}{after}"),
            Kind::Server { before, .. } => format!("{before}{space}"),
        };
        larder::open(&url).await.map(Arc::from)
    }

    /// The spaces of a server are its own; the others go with the test.
    async fn remove(&self, space: &str) -> Result<(), Error> {
        let Kind::Server { .. } = self.0 else {
            return Ok(());
        };
        let storage = self.open(space).await?;
        storage.clear("").await?;
        storage.close().await
    }
}

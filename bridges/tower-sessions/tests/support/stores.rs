//! The stores that the laws are tried on.

use std::sync::Arc;

use larder::{Error, Storage, async_trait};
use larder_memory::MemoryStorage;
use larder_test_servers::{self as servers, Server};
use larder_testkit::{Factory, Missing};
use tempfile::TempDir;

/// Memory, new for each case.
pub(crate) fn memory() -> impl Factory {
    larder_testkit::factory(|_| async { Ok(Arc::new(MemoryStorage::new()) as Arc<dyn Storage>) })
}

/// SQLite files or a server, with a space for each case.
pub(crate) struct Stores {
    /// What a URL begins with and what it ends with; the space's name stands between.
    before: String,
    after: &'static str,
    /// Keep what the URL leads to.
    _directory: Option<TempDir>,
    _server: Option<Server>,
}

impl Stores {
    pub(crate) async fn sqlite() -> Result<Self, Missing> {
        let directory = tempfile::tempdir()
            .map_err(|error| Missing::new(format!("no temporary directory: {error}"), true))?;
        let before = format!("sqlite:{}/", directory.path().display());
        Ok(Self { before, after: ".db", _directory: Some(directory), _server: None })
    }

    pub(crate) async fn redis() -> Result<Self, Missing> {
        Self::server(servers::redis().await, "prefix")
    }

    pub(crate) async fn postgres() -> Result<Self, Missing> {
        Self::server(servers::postgres().await, "table")
    }

    fn server(server: Result<Server, servers::Missing>, space: &str) -> Result<Self, Missing> {
        let server = server.map_err(|missing| Missing::new(missing.to_string(), missing.required()))?;
        let separator = if server.url().contains('?') { '&' } else { '?' };
        let before = format!("{}{separator}{space}=", server.url());
        Ok(Self { before, after: "", _directory: None, _server: Some(server) })
    }
}

#[async_trait]
impl Factory for Stores {
    async fn open(&self, space: &str) -> Result<Arc<dyn Storage>, Error> {
        larder::open(&format!("{}{space}{}", self.before, self.after)).await.map(Arc::from)
    }
}

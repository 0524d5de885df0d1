//! The stores that the protocol is tried on.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use larder::memory::MemoryStorage;
use larder_core::{Error, Storage, async_trait};
use larder_test_servers::{self as servers, Server};
use larder_testkit::{Factory, Missing};

/// Memory, or a server, with a space for each case.
pub(crate) enum Stores {
    Memory(Mutex<HashMap<String, MemoryStorage>>),
    Server { url: String, _server: Box<Server> },
}

impl Stores {
    pub(crate) fn memory() -> Self {
        Self::Memory(Mutex::default())
    }

    pub(crate) async fn redis() -> Result<Self, Missing> {
        Self::server(servers::redis().await, "prefix", "")
    }

    pub(crate) async fn postgres(options: &str) -> Result<Self, Missing> {
        Self::server(servers::postgres().await, "table", options)
    }

    fn server(server: Result<Server, servers::Missing>, space: &str, options: &str) -> Result<Self, Missing> {
        let server = server.map_err(|missing| Missing::new(missing.to_string(), missing.required()))?;
        let separator = if server.url().contains('?') { '&' } else { '?' };
        Ok(Self::Server {
            url: format!("{}{separator}{options}{space}=", server.url()),
            _server: Box::new(server),
        })
    }
}

#[async_trait]
impl Factory for Stores {
    async fn open(&self, space: &str) -> Result<Arc<dyn Storage>, Error> {
        match self {
            Self::Memory(spaces) => {
                let mut spaces = spaces.lock().unwrap();
                Ok(Arc::new(spaces.entry(space.to_owned()).or_default().clone()))
            }
            Self::Server { url, .. } => larder::open(&format!("{url}{space}")).await.map(Arc::from),
        }
    }

    /// The spaces of a server are its own; memory goes with the test.
    async fn remove(&self, space: &str) -> Result<(), Error> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Server { .. } => {
                let storage = self.open(space).await?;
                storage.clear("").await?;
                storage.close().await
            }
        }
    }
}

//! The stores on which bridges are tested.

use std::{collections::HashMap, sync::Mutex};

use larder::{Error, Store, async_trait};
use larder_memory::MemoryStorage;
use larder_processes::Stores as ByUrl;
use larder_testkit::{Factory, Missing, Runner, Suite};

/// A store with a separate space for each case. A space keeps its entries when it is opened again.
#[derive(Debug)]
pub struct Stores(Kind);

#[derive(Debug)]
enum Kind {
    /// The spaces by name.
    Memory(Mutex<HashMap<String, MemoryStorage>>),
    /// Boxed, because it contains a server.
    ByUrl(Box<ByUrl>),
}

impl From<ByUrl> for Stores {
    fn from(stores: ByUrl) -> Self {
        Self(Kind::ByUrl(Box::new(stores)))
    }
}

impl Stores {
    /// Storage in memory.
    #[must_use]
    pub fn memory() -> Self {
        Self(Kind::Memory(Mutex::default()))
    }

    /// Directories of files.
    ///
    /// # Errors
    ///
    /// If a temporary directory cannot be created.
    pub async fn file() -> Result<Self, Missing> {
        ByUrl::file().map(Self::from)
    }

    /// SQLite files.
    ///
    /// # Errors
    ///
    /// If a temporary directory cannot be created.
    pub async fn sqlite() -> Result<Self, Missing> {
        ByUrl::sqlite().map(Self::from)
    }

    /// Redis.
    ///
    /// # Errors
    ///
    /// If the server is missing.
    pub async fn redis() -> Result<Self, Missing> {
        ByUrl::redis().await.map(Self::from)
    }

    /// PostgreSQL.
    ///
    /// # Errors
    ///
    /// If the server is missing.
    pub async fn postgres() -> Result<Self, Missing> {
        ByUrl::postgres("").await.map(Self::from)
    }

    /// PostgreSQL with values in a `jsonb` column.
    ///
    /// # Errors
    ///
    /// If the server is missing.
    pub async fn postgres_jsonb() -> Result<Self, Missing> {
        ByUrl::postgres("&values=jsonb").await.map(Self::from)
    }

    /// MySQL, on MariaDB.
    ///
    /// # Errors
    ///
    /// If the server is missing.
    pub async fn mysql() -> Result<Self, Missing> {
        ByUrl::mysql("").await.map(Self::from)
    }

    /// MongoDB.
    ///
    /// # Errors
    ///
    /// If the server is missing.
    pub async fn mongodb() -> Result<Self, Missing> {
        ByUrl::mongodb("").await.map(Self::from)
    }

    /// DynamoDB.
    ///
    /// # Errors
    ///
    /// If the server is missing.
    pub async fn dynamodb() -> Result<Self, Missing> {
        ByUrl::dynamodb().await.map(Self::from)
    }
}

/// Runs the cases on each adapter.
#[must_use]
pub fn on_every_adapter(with_cases: impl Fn(Suite<Stores>) -> Suite<Stores>) -> Runner {
    Runner::new()
        .suite(with_cases(Suite::new("memory", Stores::memory())))
        .suite(with_cases(Suite::connect("file", Stores::file)))
        .suite(with_cases(Suite::connect("sqlite", Stores::sqlite)))
        .suite(with_cases(Suite::connect("redis", Stores::redis)))
        .suite(with_cases(Suite::connect("postgres", Stores::postgres)))
        .suite(with_cases(Suite::connect("mysql", Stores::mysql)))
        .suite(with_cases(Suite::connect("mongodb", Stores::mongodb)))
        .suite(with_cases(Suite::connect("dynamodb", Stores::dynamodb)))
}

#[async_trait]
impl Factory for Stores {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        match &self.0 {
            Kind::Memory(spaces) => {
                let mut spaces = spaces.lock().unwrap();
                Ok(Store::from(spaces.entry(space.to_owned()).or_default().clone()))
            }
            Kind::ByUrl(stores) => stores.open(space).await,
        }
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        match &self.0 {
            // The memory is freed with the test.
            Kind::Memory(_) => Ok(()),
            Kind::ByUrl(stores) => stores.remove(space).await,
        }
    }
}

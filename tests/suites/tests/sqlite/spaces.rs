//! Where the cases keep their entries.

use std::{collections::HashMap, path::PathBuf, sync::Mutex};

use larder_core::{Error, ErrorKind, Store, async_trait};
use larder_sqlite::{SqliteBuilder, SqlitePool, SqliteStorage};
use larder_testkit::{Factory, Missing, Must};
use sqlx::{
    AssertSqlSafe, ConnectOptions, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tempfile::TempDir;

/// A file per space.
pub(crate) struct Files {
    directory: TempDir,
    configure: Box<dyn Fn(SqliteBuilder) -> SqliteBuilder + Send + Sync>,
}

impl Files {
    pub(crate) fn new(configure: impl Fn(SqliteBuilder) -> SqliteBuilder + Send + Sync + 'static) -> Self {
        Self { directory: TempDir::new().must("make a directory"), configure: Box::new(configure) }
    }

    pub(crate) fn path(&self, space: &str) -> PathBuf {
        self.directory.path().join(format!("{space}.db"))
    }

    pub(crate) fn builder(&self, space: &str) -> SqliteBuilder {
        (self.configure)(SqliteStorage::builder()).file(self.path(space))
    }

    /// Another program's connection.
    pub(crate) async fn stranger(&self, space: &str) -> SqliteConnection {
        SqliteConnectOptions::new()
            .filename(self.path(space))
            .create_if_missing(true)
            .connect()
            .await
            .must("connect beside the storage")
    }
}

#[async_trait]
impl Factory for Files {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        self.builder(space).connect().await
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        for suffix in ["", "-wal", "-shm"] {
            let mut path = self.path(space).into_os_string();
            path.push(suffix);
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::new(ErrorKind::Other, "not removed").with_source(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A database in memory per space; its handles are clones of one.
#[derive(Default)]
pub(crate) struct InMemory(Mutex<HashMap<String, Store>>);

#[async_trait]
impl Factory for InMemory {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        let open = self.0.lock().must("lock the spaces").get(space).cloned();
        if let Some(storage) = open
            && storage.ping().await.is_ok()
        {
            return Ok(storage);
        }
        let storage = SqliteStorage::connect("sqlite::memory:").await?;
        self.0.lock().must("lock the spaces").insert(space.to_owned(), storage.clone());
        Ok(storage)
    }
}

/// A table per space, in the database of a pool that stays open.
pub(crate) struct OwnPool {
    pub(crate) pool: SqlitePool,
    _directory: TempDir,
}

impl OwnPool {
    pub(crate) async fn open() -> Result<Self, Missing> {
        let directory = TempDir::new().must("make a directory");
        let options = SqliteConnectOptions::new()
            .filename(directory.path().join("own.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(std::time::Duration::from_secs(30));
        let pool =
            SqlitePoolOptions::new().max_connections(5).connect_with(options).await.must("open the pool");
        Ok(Self { pool, _directory: directory })
    }

    pub(crate) fn builder(&self, table: &str) -> SqliteBuilder {
        SqliteStorage::builder().pool(self.pool.clone()).table(table)
    }
}

#[async_trait]
impl Factory for OwnPool {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        self.builder(space).connect().await
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        let sql = format!("DROP TABLE \"{space}\"");
        sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await.must("drop the table");
        Ok(())
    }
}

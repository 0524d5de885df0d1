//! The spaces of the suites.

use std::path::PathBuf;

use larder_core::{Error, ErrorKind, Key, Store, async_trait};
use larder_sqlite::{Config, SqlitePool};
use larder_testkit::{Factory, Missing, Must, Suite};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions},
};
use tempfile::TempDir;

/// Each space is a file.
pub(crate) struct Files {
    directory: TempDir,
    configure: fn(Config) -> Config,
}

impl Files {
    /// The laws on files, also with a second process.
    pub(crate) fn suite(name: &str, configure: fn(Config) -> Config) -> Suite<Self> {
        Suite::connect(name, move || async move {
            Ok(Self { directory: TempDir::new().must("make a directory"), configure })
        })
        .across_processes(
            |files, space| files.path(space).display().to_string(),
            move |path| configure(Config::new()).file(path).connect(),
        )
    }

    pub(crate) fn path(&self, space: &str) -> PathBuf {
        self.directory.path().join(format!("{space}.db"))
    }

    pub(crate) fn builder(&self, space: &str) -> Config {
        (self.configure)(Config::new()).file(self.path(space))
    }

    /// A connection of another program.
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

    async fn damage(&self, space: &str, key: &Key) -> Result<bool, Error> {
        let mut connection = self.stranger(space).await;
        let name = "SELECT quote(name) FROM sqlite_master WHERE type = 'table'";
        let table: String = sqlx::query_scalar(name).fetch_one(&mut connection).await.must("find the table");
        let sql = format!("UPDATE {table} SET version = 'damaged' WHERE key = ?");
        let damage = sqlx::query(AssertSqlSafe(sql)).bind(key.as_str());
        damage.execute(&mut connection).await.must("damage the row");
        connection.close().await.must("close the connection");
        Ok(true)
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

/// Each space is a table in the database of a pool that stays open.
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

    pub(crate) async fn connect(&self, table: &str) -> Result<Store, Error> {
        Config::new().table(table).connect_with(self.pool.clone()).await
    }
}

#[async_trait]
impl Factory for OwnPool {
    async fn open(&self, space: &str) -> Result<Store, Error> {
        self.connect(space).await
    }

    async fn remove(&self, space: &str) -> Result<(), Error> {
        let sql = format!("DROP TABLE \"{space}\"");
        sqlx::query(AssertSqlSafe(sql)).execute(&self.pool).await.must("drop the table");
        Ok(())
    }
}

//! Opens a store.

use std::sync::Arc;

use larder_core::{Info, Purge, Result, Storage, Store, Values, Versions};
use larder_kit::{Configure, GroupCommit, Interval, Sweeper, ValueFormat};
use sqlx::MySqlPool;

use crate::{
    config::{Config, invalid},
    driver::Driver,
    error::from_driver,
    pool::Connections,
    sql::{Call, MAX_ROWS, Sql},
    storage::{MysqlStorage, column},
};

/// The size of a statement without its value: the key, the other columns and their types.
const STATEMENT: u64 = 1_024;

impl Config {
    /// Connects, creates the table if `setup` is on and it is missing, and opens the store.
    ///
    /// # Errors
    ///
    /// - [`InvalidConfig`] if an option is invalid, the certificate is not trusted, the database does not exist, or the
    ///   table has other columns (the message names one).
    /// - [`PermissionDenied`] if the password is wrong or a permission is missing.
    /// - [`Unavailable`] or [`Timeout`] if the server cannot be reached, its host is unknown, or it is read-only and the
    ///   table is missing.
    ///
    /// [`InvalidConfig`]: larder_core::ErrorKind::InvalidConfig
    /// [`PermissionDenied`]: larder_core::ErrorKind::PermissionDenied
    /// [`Unavailable`]: larder_core::ErrorKind::Unavailable
    /// [`Timeout`]: larder_core::ErrorKind::Timeout
    pub async fn connect(self) -> Result<Store> {
        self.open(None).await.map_err(Self::named)
    }

    /// Opens the store on your own pool. The table is in the database of this configuration, or else in that of the
    /// pool's connections. The pool keeps its settings, and stays open when the store is closed. The options for making
    /// connections have no effect.
    ///
    /// Such a store is not [fenced](crate#changes-that-time-out).
    ///
    /// # Errors
    ///
    /// Fails as [`connect`](Self::connect) does.
    pub async fn connect_with(self, pool: MySqlPool) -> Result<Store> {
        self.open(Some(pool)).await.map_err(Self::named)
    }

    async fn open(self, pool: Option<MySqlPool>) -> Result<Store> {
        self.check_options()?;
        let connections = match pool {
            Some(pool) => Connections::Callers(pool),
            None => Connections::own(&self)?,
        };
        // Boxed because the future would nest too deep for the compiler in its callers.
        let storage = Box::pin(self.storage(connections)).await?;
        if self.group_commit {
            let lanes = GroupCommit::<MysqlStorage>::builder(storage).max_batches(self.max_batches);
            return Ok(lanes.max_batch(MAX_ROWS).build().into());
        }
        Ok(Store::from(storage as Arc<dyn Storage>))
    }

    async fn storage(&self, connections: Connections) -> Result<Arc<MysqlStorage>> {
        let driver = Driver::open(connections, self.timeout.get()).await?;
        let max_value = limits(&driver).await?;
        self.set_up(&driver).await?;
        let info = Info::minimal(Self::ADAPTER)
            .with_persistence()
            .with_sharing()
            .with_expiry()
            .with_versions(Versions::Unique)
            .with_ordered_listing()
            .with_purge(Purge::Sweep)
            .with_values(if self.values == ValueFormat::Json { Values::JsonText } else { Values::Bytes })
            .with_max_value(max_value);
        let info = if driver.fenced { info.with_fencing() } else { info };
        let (sql, names) = (Sql::new(&self.quoted()), self.names());
        let sweep = if self.existing { Interval::OFF } else { self.sweep };
        let purge = |storage: Arc<MysqlStorage>| async move { storage.purge_expired().await };
        Ok(Arc::new_cyclic(|storage| {
            let sweeper = Sweeper::start(Self::ADAPTER, storage.clone(), sweep, purge);
            MysqlStorage { driver, sql, names, info, sweeper }
        }))
    }
}

/// Returns the maximum size of a value.
async fn limits(driver: &Arc<Driver>) -> Result<u64> {
    let settings = driver.read(Call::raw("SELECT @@max_allowed_packet, @@autocommit")).await?;
    let settings = settings.first().ok_or_else(|| from_driver(sqlx::Error::RowNotFound))?;
    let packet: u64 = column(settings, 0)?;
    if column::<i64>(settings, 1)? == 0 {
        return Err(invalid("the connections have `autocommit` off, so changes would be lost: switch it on"));
    }
    Ok(packet.saturating_sub(STATEMENT))
}

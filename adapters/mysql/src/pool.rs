//! The connections: Larder's own pool, or the caller's.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use deadpool::{
    Runtime,
    managed::{self, Metrics, Object, Pool, PoolError, RecycleResult, TimeoutType},
};
use larder_core::{Error, ErrorKind, Result, Version};
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, MySql, MySqlConnection, MySqlPool, Row,
    mysql::MySqlConnectOptions, pool::PoolConnection,
};

use crate::{
    config::Config,
    error::{from_driver, keeps_connection, number},
};

/// A connection that was unused for this long is checked before its next use: the server or a firewall may have closed
/// it.
const UNUSED: Duration = Duration::from_secs(30);

/// The pool.
// This is not a pool of sqlx, because that sends a ping each time a connection is returned, which costs as much as a
// read.
pub(crate) enum Connections {
    Own(Pool<Manager>),
    Callers(MySqlPool),
}

/// Opens connections.
pub(crate) struct Manager {
    options: MySqlConnectOptions,
    /// Connections opened before the last failure are checked before their next use.
    suspicious: AtomicU64,
}

/// An open connection.
pub(crate) struct Opened {
    connection: MySqlConnection,
    fence: Option<Fence>,
    generation: u64,
}

/// A named lock of the server that a connection holds until the server has ended it, and rolled back or committed its
/// last change. Unlike the number of the connection, the name is never used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fence {
    /// Distinguishes the servers that a host name may reach.
    pub(crate) server: String,
    pub(crate) lock: String,
}

/// A connection for one call. Dropping this returns it to the pool.
pub(crate) enum Checkout {
    Own(Object<Manager>),
    Callers(PoolConnection<MySql>),
}

impl managed::Manager for Manager {
    type Type = Opened;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Opened, sqlx::Error> {
        let generation = self.suspicious.load(Ordering::Relaxed);
        let mut connection = self.options.connect().await?;
        let lock = format!("larder-{:016x}", Version::unique().as_token().unwrap_or_default());
        let sql = format!(
            "SELECT GET_LOCK('{lock}', 0), CONCAT_WS('/', @@hostname, @@port, @@server_id, @@datadir)"
        );
        // A cluster may not support named locks (some report error 1105); its connections have no fence.
        let fence = match sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(&mut connection).await {
            Ok(row) if row.try_get_unchecked::<i64, _>(0).is_ok_and(|got| got == 1) => {
                Some(Fence { server: row.try_get_unchecked(1)?, lock })
            }
            Ok(_) => None,
            Err(error) if keeps_connection(&error) || number(&error) == 1105 => None,
            Err(error) => return Err(error),
        };
        Ok(Opened { connection, fence, generation })
    }

    async fn recycle(&self, opened: &mut Opened, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        let generation = self.suspicious.load(Ordering::Relaxed);
        if opened.generation != generation || metrics.last_used() > UNUSED {
            opened.connection.ping().await?;
            opened.generation = generation;
        }
        Ok(())
    }
}

impl Connections {
    pub(crate) fn own(config: &Config) -> Result<Self> {
        let opening = Some(config.connect_timeout.get());
        let pool = Pool::builder(Manager { options: config.connections(), suspicious: AtomicU64::new(0) })
            .max_size(config.pool_size)
            .wait_timeout(Some(config.timeout.get()))
            .create_timeout(opening)
            .recycle_timeout(opening)
            .runtime(Runtime::Tokio1);
        let failed = |_| Error::new(ErrorKind::Other, "could not create the connection pool");
        pool.build().map(Self::Own).map_err(failed)
    }

    /// Waits for a connection, or opens one.
    pub(crate) async fn take(&self) -> Result<Checkout> {
        match self {
            Self::Own(pool) => pool.get().await.map(Checkout::Own).map_err(from_pool),
            Self::Callers(pool) => pool.acquire().await.map(Checkout::Callers).map_err(from_driver),
        }
    }

    /// Records that a connection has failed: the others may be broken, too.
    pub(crate) fn suspect_all(&self) {
        if let Self::Own(pool) = self {
            pool.manager().suspicious.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Closes the pool, unless it is the caller's.
    pub(crate) fn close(&self) {
        if let Self::Own(pool) = self {
            pool.close();
        }
    }
}

impl Checkout {
    pub(crate) fn connection(&mut self) -> &mut MySqlConnection {
        match self {
            Self::Own(opened) => &mut opened.connection,
            Self::Callers(connection) => connection,
        }
    }

    pub(crate) fn fence(&self) -> Option<&Fence> {
        match self {
            Self::Own(opened) => opened.fence.as_ref(),
            Self::Callers(_) => None,
        }
    }

    /// Closes the connection instead of returning it, and returns its fence. Does not wait.
    pub(crate) fn discard(self) -> Option<Fence> {
        match self {
            Self::Own(opened) => Object::take(opened).fence,
            Self::Callers(connection) => {
                drop(connection.detach());
                None
            }
        }
    }
}

/// Converts an error of the pool.
fn from_pool(error: PoolError<sqlx::Error>) -> Error {
    let message = match error {
        PoolError::Backend(error) => return from_driver(error),
        PoolError::Closed => return Error::closed(),
        PoolError::Timeout(TimeoutType::Wait) => "no connection of the pool became free in time",
        _ => "the server did not complete the connection within `connect_timeout`",
    };
    Error::new(ErrorKind::Timeout, message)
}

//! One shared connection, replaced when it breaks.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use larder_core::{Error, Result};
use redis::RedisError;
use tokio::sync::Mutex;

use crate::{active::ActiveConnection, config::Config, connection::Connection, connector::Connector, error};

/// Replaces its connection once that is found broken.
///
/// Reconnecting is done by the callers, not by a task of its own: the first to need a connection
/// makes it, the others wait for that attempt and share its outcome, good or bad. So no caller waits
/// longer than the connect time-out of two attempts, nothing runs while nothing is asked, and the
/// first call after the server is back succeeds.
pub(crate) struct Client {
    /// `None` for a connection of the caller's own.
    connector: Option<Connector>,
    /// Whether the server closes each connection before the next is used.
    pub(crate) fenced: bool,
    /// `None` once the client has been closed.
    current: RwLock<Option<Arc<ActiveConnection>>>,
    /// Held while connecting. When the last attempt failed, and why.
    failure: Mutex<Option<(Instant, Error)>>,
}

impl Client {
    pub(crate) async fn connect(config: &Config) -> Result<Self> {
        let connector = Connector::new(config.clone())?;
        let connection = connector.connect(None).await?;
        Ok(Self::new(Some(connector), connection))
    }

    /// Uses a connection of the caller's.
    pub(crate) fn borrow(connection: Connection) -> Self {
        Self::new(None, ActiveConnection::new(connection, Arc::default(), Vec::new()))
    }

    fn new(connector: Option<Connector>, connection: ActiveConnection) -> Self {
        Self {
            connector,
            fenced: !connection.identities.is_empty(),
            current: RwLock::new(Some(Arc::new(connection))),
            failure: Mutex::default(),
        }
    }

    /// A connection to send on. If there is none, nothing was sent.
    pub(crate) async fn acquire(&self) -> Result<Arc<ActiveConnection>> {
        let current = self.current()?;
        match &self.connector {
            Some(connector) if current.is_broken() => self.reconnect(connector).await,
            _ => Ok(current),
        }
    }

    fn current(&self) -> Result<Arc<ActiveConnection>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(Error::closed)
    }

    async fn reconnect(&self, connector: &Connector) -> Result<Arc<ActiveConnection>> {
        let asked = Instant::now();
        let mut failure = self.failure.lock().await;
        // It stays the current one until a new one has replaced it.
        let former = self.current()?;
        if !former.is_broken() {
            return Ok(former);
        }
        // An attempt that failed while this call waited for it counts for this call too.
        if let Some((failed, error)) = &*failure
            && *failed > asked
        {
            return Err(error.clone());
        }
        let connection = connector.connect(Some(&former.identities)).await;
        *failure = connection.as_ref().err().map(|error| (Instant::now(), error.clone()));
        let connection = Arc::new(connection?);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // It may have been closed in the meantime.
        *current.as_mut().ok_or_else(Error::closed)? = Arc::clone(&connection);
        Ok(connection)
    }

    /// The error of a change, as Larder's. A cluster connection of the caller's may have sent the change before
    /// it was refused.
    pub(crate) fn error(&self, connection: &ActiveConnection, error: &RedisError) -> Error {
        let error = error::from_redis(error);
        if self.connector.is_none() && connection.is_cluster() { error.partly_applied() } else { error }
    }

    /// Gives the connection back.
    pub(crate) fn close(&self) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

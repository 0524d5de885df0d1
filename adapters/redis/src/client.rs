//! One shared connection, which is replaced when it breaks.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Instant,
};

use larder_core::{Error, Result};
use redis::RedisError;
use tokio::sync::Mutex;

use crate::{active::ActiveConnection, config::Config, connection::Connection, connector::Connector, error};

/// A connection that is replaced when it is found broken.
///
/// Callers reconnect; no background task does. The first caller that needs a connection makes it. The others wait for
/// that attempt and share its result, also if it fails. So no caller waits longer than the connect timeouts of two
/// attempts, an idle client does nothing, and the first call after the server is back succeeds.
pub(crate) struct Client {
    /// `None` for the caller's own connection.
    connector: Option<Connector>,
    /// Whether the server closes each connection before the next one is used.
    pub(crate) fenced: bool,
    /// `None` after the client is closed.
    current: RwLock<Option<Arc<ActiveConnection>>>,
    /// Locked while connecting. The time and error of the last attempt, if it failed.
    failure: Mutex<Option<(Instant, Error)>>,
}

impl Client {
    pub(crate) async fn connect(config: &Config) -> Result<Self> {
        let connector = Connector::new(config.clone())?;
        let connection = connector.connect(None).await?;
        Ok(Self::new(Some(connector), connection))
    }

    /// Uses the caller's own connection.
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

    /// Returns a connection to send on. If this fails, nothing was sent.
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
        // Remains the current connection until a new one replaces it.
        let former = self.current()?;
        if !former.is_broken() {
            return Ok(former);
        }
        // If another caller's attempt failed while this call waited for it, this call fails too.
        if let Some((failed, error)) = &*failure
            && *failed > asked
        {
            return Err(error.clone());
        }
        let connection = connector.connect(Some(&former.identities)).await;
        *failure = connection.as_ref().err().map(|error| (Instant::now(), error.clone()));
        let connection = Arc::new(connection?);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // The client may have been closed in the meantime.
        *current.as_mut().ok_or_else(Error::closed)? = Arc::clone(&connection);
        Ok(connection)
    }

    /// Converts the error of a change. The caller's own cluster connection may have sent the change more than once, so
    /// a rejection does not prove that it was not applied.
    pub(crate) fn error(&self, connection: &ActiveConnection, error: &RedisError) -> Error {
        let error = error::from_redis(error);
        if self.connector.is_none() && connection.is_cluster() { error.partly_applied() } else { error }
    }

    /// Drops the connection.
    pub(crate) fn close(&self) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

//! One shared connection, replaced when it breaks.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use futures_util::{StreamExt, stream};
use larder_core::{Error, ErrorKind, Result};
use redis::{Cmd, FromRedisValue, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::Mutex;

use crate::{
    connection::Connection,
    connector::{Connected, Connector},
    error,
    fence::Identity,
    keyspace::Route,
};

/// How many commands are under way to a cluster at once.
const CLUSTER_WINDOW: usize = 128;

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
    /// Held while connecting; the error of the last attempt.
    attempt: Mutex<Option<Error>>,
    /// How many attempts have ended.
    attempts: AtomicU64,
}

/// A connection in use.
pub(crate) struct ActiveConnection {
    connection: Connection,
    broken: Arc<AtomicBool>,
    /// Whether the storage has made it.
    own: bool,
    /// This connection last, and those before it that may still be open. Empty without fencing.
    identities: Vec<Identity>,
}

impl Client {
    pub(crate) async fn connect(connector: Connector) -> Result<Self> {
        let connected = connector.connect(None).await?;
        Ok(Self::new(Some(connector), connected))
    }

    /// Uses a connection of the caller's.
    pub(crate) fn borrow(connection: Connection) -> Self {
        Self::new(None, Connected { connection, closed: Arc::default(), identity: None })
    }

    fn new(connector: Option<Connector>, connected: Connected) -> Self {
        let connection = ActiveConnection::new(connected, connector.is_some(), &[]);
        Self {
            connector,
            fenced: !connection.identities.is_empty(),
            current: RwLock::new(Some(Arc::new(connection))),
            attempt: Mutex::default(),
            attempts: AtomicU64::new(0),
        }
    }

    /// A connection to send on. If there is none, nothing was sent.
    pub(crate) async fn acquire(&self) -> Result<Arc<ActiveConnection>> {
        let current = self.current()?;
        match &self.connector {
            Some(connector) if current.is_broken() => {
                self.reconnect(connector).await.map_err(Error::not_applied)
            }
            _ => Ok(current),
        }
    }

    fn current(&self) -> Result<Arc<ActiveConnection>> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(Error::closed)
    }

    async fn reconnect(&self, connector: &Connector) -> Result<Arc<ActiveConnection>> {
        let seen = self.attempts.load(Ordering::Acquire);
        let mut failure = self.attempt.lock().await;
        // It stays the current one until a new one has replaced it.
        let former = self.current()?;
        if !former.is_broken() {
            return Ok(former);
        }
        // An attempt that ended while this call waited for it counts for this call too.
        if self.attempts.load(Ordering::Acquire) != seen
            && let Some(error) = failure.as_ref()
        {
            return Err(error.clone());
        }
        let identities = &former.identities[..];
        let connected = connector.connect(Some(identities)).await;
        self.attempts.fetch_add(1, Ordering::AcqRel);
        *failure = connected.as_ref().err().cloned();
        let connection = Arc::new(ActiveConnection::new(connected?, true, identities));
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // It may have been closed in the meantime.
        *current.as_mut().ok_or_else(Error::closed)? = Arc::clone(&connection);
        Ok(connection)
    }

    /// Gives the connection back.
    pub(crate) fn close(&self) {
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl ActiveConnection {
    fn new(connected: Connected, own: bool, former: &[Identity]) -> Self {
        let Connected { connection, closed, identity } = connected;
        let identities = identity.map(|identity| identity.and_unclosed(former)).unwrap_or_default();
        Self { connection, broken: closed, own, identities }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.connection.is_cluster()
    }

    fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Sends one command and awaits its reply.
    pub(crate) async fn call(&self, command: &Cmd, route: Route<'_>) -> RedisResult<Value> {
        let result = self.connection.clone().call(command, route).await;
        self.notice(&result);
        result
    }

    /// Sends one command and reads its reply.
    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd, route: Route<'_>) -> Result<T> {
        let reply = self.call(command, route).await;
        let value = reply.and_then(|reply| redis::from_redis_value(reply).map_err(RedisError::from));
        value.map_err(|error| self.error(&error))
    }

    /// Sends all commands, to one server as a pipeline, to a cluster side by side. Returns one reply for
    /// each, in their order.
    pub(crate) async fn send(&self, commands: Vec<(Cmd, Route<'_>)>) -> Vec<RedisResult<Value>> {
        if let [(command, route)] = &commands[..] {
            return vec![self.call(command, *route).await];
        }
        if self.is_cluster() {
            let calls: Vec<_> = commands.iter().map(|(command, route)| self.call(command, *route)).collect();
            return stream::iter(calls).buffered(CLUSTER_WINDOW).collect().await;
        }
        let count = commands.len();
        let mut pipeline = Pipeline::with_capacity(count);
        for (command, _) in commands {
            pipeline.add_command(command);
        }
        let replies: Vec<_> = match self.connection.clone().pipeline(&pipeline).await {
            Ok(replies) => replies.into_iter().map(Value::extract_error).collect(),
            Err(error) => vec![Err(error); count],
        };
        replies.iter().for_each(|reply| self.notice(reply));
        replies
    }

    fn notice(&self, reply: &RedisResult<Value>) {
        let Err(error) = reply else { return };
        // The cluster's connection mends itself, unless the runtime that it ran on is gone.
        let broken = if self.is_cluster() {
            error.is_io_error() && error.to_string().contains("redis_cluster: Unable to")
        } else {
            error::breaks_connection(error)
        };
        if broken {
            self.broken.store(true, Ordering::Release);
        }
    }

    /// The error as Larder's. A command that the server has refused was not executed, but a cluster
    /// connection of the caller's may have sent it before.
    pub(crate) fn error(&self, error: &RedisError) -> Error {
        let refused = !error.is_io_error() && (self.own || !self.is_cluster());
        let error = error::from_redis(error);
        if refused && error.kind() == ErrorKind::Unavailable { error.not_applied() } else { error }
    }
}

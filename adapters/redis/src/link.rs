//! The way to the server: one shared connection, made anew when it breaks.

use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use larder_core::{Error, Operation, Result};
use redis::{Cmd, Pipeline, RedisResult, Value};
use tokio::sync::Mutex;

use crate::{
    Connection,
    connect::{Connected, Connector},
    connection::Route,
    error::{self, NAME},
    fence::{Former, Identity},
};

/// A connection that is replaced once it is found broken.
///
/// Reconnecting is done by the callers, not by a task of its own: the first to need a connection
/// makes it, the others wait for that attempt and share its outcome, good or bad. So nobody waits
/// longer than the connect time-out of two attempts, nothing runs while nothing is asked, and the
/// first call after the server is back succeeds.
pub(crate) struct Link {
    /// `None` for a connection that is the caller's own.
    connector: Option<Connector>,
    /// Whether the server closes each connection before the next is used.
    fenced: bool,
    current: RwLock<Option<Arc<Live>>>,
    /// Held while connecting; what the last attempt failed with.
    attempt: Mutex<Option<Error>>,
    /// How many attempts have ended.
    attempts: AtomicU64,
    closed: AtomicBool,
}

/// A connection in use.
pub(crate) struct Live {
    connection: Connection,
    broken: Arc<AtomicBool>,
    own: bool,
    /// This connection last, and those before it that may still be open. Empty without fencing.
    identities: Vec<Identity>,
}

impl Link {
    /// Connects.
    pub(crate) async fn connect(connector: Connector) -> Result<Self> {
        let connected = connector.connect(Former::None).await?;
        Ok(Self::new(Some(connector), Live::new(connected, true, &[])))
    }

    /// Uses a connection of the caller's.
    pub(crate) fn borrow(connection: Connection) -> Self {
        let connected = Connected { connection, closed: Arc::default(), identity: None };
        Self::new(None, Live::new(connected, false, &[]))
    }

    fn new(connector: Option<Connector>, live: Live) -> Self {
        Self {
            connector,
            fenced: !live.identities.is_empty(),
            current: RwLock::new(Some(Arc::new(live))),
            attempt: Mutex::new(None),
            attempts: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        }
    }

    /// A connection to run `operation` on.
    pub(crate) async fn acquire(&self, operation: Operation) -> Result<Arc<Live>> {
        if let Some(live) = self.usable(operation)? {
            return Ok(live);
        }
        self.reconnect(operation).await
    }

    fn usable(&self, operation: Operation) -> Result<Option<Arc<Live>>> {
        self.check_open(operation)?;
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        Ok(current.as_ref().filter(|live| !live.is_broken()).cloned())
    }

    async fn reconnect(&self, operation: Operation) -> Result<Arc<Live>> {
        let Some(connector) = &self.connector else {
            return Err(Error::closed().with_adapter(NAME).with_operation(operation));
        };
        let seen = self.attempts.load(Ordering::Acquire);
        let mut failure = self.attempt.lock().await;
        if let Some(live) = self.usable(operation)? {
            return Ok(live);
        }
        // An attempt that ended while this call waited for it counts for this call too.
        if self.attempts.load(Ordering::Acquire) != seen
            && let Some(error) = failure.as_ref()
        {
            return Err(error.duplicate());
        }
        // It stays the current one until a new one has replaced it.
        let former = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        let former = former.as_ref().map_or(&[][..], |live| &live.identities);
        let treat = if former.is_empty() { Former::Leave } else { Former::Close(former) };
        let connected = connector.connect(treat).await;
        self.attempts.fetch_add(1, Ordering::AcqRel);
        match connected {
            Ok(connected) => {
                *failure = None;
                let live = Arc::new(Live::new(connected, true, former));
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&live));
                if self.closed.load(Ordering::Acquire) {
                    self.close();
                    return Err(Error::closed().with_adapter(NAME).with_operation(operation));
                }
                Ok(live)
            }
            Err(error) => {
                *failure = Some(error.duplicate());
                Err(error)
            }
        }
    }

    /// Whether nothing of a former connection can arrive after what is sent on the next.
    pub(crate) const fn is_fenced(&self) -> bool {
        self.fenced
    }

    /// Refuses `operation` once the link has been closed.
    pub(crate) fn check_open(&self, operation: Operation) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            Err(Error::closed().with_adapter(NAME).with_operation(operation))
        } else {
            Ok(())
        }
    }

    /// Gives the connection back; later calls are refused.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Live {
    fn new(connected: Connected, own: bool, former: &[Identity]) -> Self {
        let Connected { connection, closed, identity } = connected;
        let identities = identity.map(|identity| identity.and_unclosed(former)).unwrap_or_default();
        Self { connection, broken: closed, own, identities }
    }

    pub(crate) fn is_cluster(&self) -> bool {
        self.connection.is_cluster()
    }

    fn is_broken(&self) -> bool {
        self.own && self.broken.load(Ordering::Acquire)
    }

    /// Sends one command and awaits its reply; an error reply is an `Err`.
    pub(crate) async fn call(&self, command: &Cmd, route: Route<'_>) -> RedisResult<Value> {
        let result = self.connection.clone().call(command, route).await;
        self.notice(&result);
        result
    }

    /// Sends several commands at once to one server; error replies are among the replies.
    pub(crate) async fn pipeline(&self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let result = self.connection.clone().pipeline(commands).await;
        self.notice(&result);
        for reply in result.iter().flatten() {
            if let Value::ServerError(error) = reply {
                self.notice::<()>(&Err(error.clone().into()));
            }
        }
        result
    }

    fn notice<T>(&self, result: &RedisResult<T>) {
        let Err(error) = result else { return };
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
}

//! Connections that are out of the pool, and their return.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::{ClientWrapper, Object};
use futures_util::TryStreamExt;
use larder_core::{Error, ErrorKind, Result};
use larder_kit::Configure;
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};
use tokio_postgres::{CancelToken, Row, Statement, types::ToSql};

use crate::{
    backend::{Identity, Suspects},
    config::Config,
    error,
    sql::Query,
    tls::Connector,
    value::Redacted,
};

pub(crate) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Cancels statements whose callers have gone.
pub(crate) struct Canceller {
    /// The longest time for a call.
    pub(crate) timeout: Duration,
    /// Connects to cancel a statement; `None` for the caller's own pool, whose TLS settings are unknown.
    pub(crate) connector: Option<Connector>,
    /// The processes that may still execute such a statement.
    pub(crate) suspects: Suspects,
}

impl Canceller {
    /// Returns the remaining time of a call that began at `begun`.
    pub(crate) fn left(&self, begun: Instant) -> Duration {
        self.timeout.saturating_sub(begun.elapsed())
    }

    /// Asks the server to cancel the statement on the connection of this token.
    async fn cancel(&self, token: &CancelToken) {
        let Some(connector) = &self.connector else { return };
        let cancelled = timeout(self.timeout, token.cancel_query(Connector::clone(connector))).await;
        if !matches!(cancelled, Ok(Ok(()))) {
            tracing::debug!(adapter = Config::ADAPTER, "could not cancel a statement");
        }
    }
}

/// A connection taken out of the pool. Dropping this returns it, with two exceptions: a condemned connection, or one
/// with an abandoned change, leaves the pool; one with an abandoned read returns after the read has ended.
pub(crate) struct Checkout {
    /// `Some` until the drop.
    object: Option<Object>,
    /// Whether the connection is used for changes.
    changes: bool,
    condemned: AtomicBool,
    /// The number of statements that are running or abandoned.
    owed: AtomicUsize,
    /// The default assumes nothing, until the server has answered.
    pub(crate) identity: Identity,
    canceller: Arc<Canceller>,
    /// Stored because a call may be dropped outside its runtime.
    runtime: Handle,
}

impl Checkout {
    pub(crate) fn new(object: Object, changes: bool, canceller: Arc<Canceller>) -> Self {
        Self {
            object: Some(object),
            changes,
            condemned: false.into(),
            owed: 0.into(),
            identity: Identity::default(),
            canceller,
            runtime: Handle::current(),
        }
    }

    pub(crate) fn client(&self) -> &ClientWrapper {
        self.object.as_deref().unwrap_or_else(|| unreachable!("set until the drop"))
    }

    /// Prepares a statement, if this connection prepares statements. Changes nothing, and asks the server only the
    /// first time.
    pub(crate) async fn prepare(&self, query: &Query) -> Result<Option<Statement>, tokio_postgres::Error> {
        if !self.identity.prepares {
            return Ok(None);
        }
        self.client().prepare_typed_cached(&query.text, &query.types).await.map(Some)
    }

    /// Sends a statement and its [prepared form](Self::prepare), for [`run`](Self::run).
    pub(crate) async fn send(
        &self,
        prepared: Option<Statement>,
        query: &Query,
        params: Params<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let client = self.client();
        let params = params.iter().map(|param| Redacted(*param));
        let rows = match prepared {
            Some(statement) => client.query_raw(&statement, params).await?,
            None => client.query_typed_raw(&query.text, params.zip(query.types.iter().cloned())).await?,
        };
        rows.try_collect().await
    }

    /// Runs statements of a call that began at `begun`, until its timeout, and condemns the connection if an error
    /// requires it. If the future is dropped before the end, the connection still owes an answer. The inner error is
    /// the server's or the driver's.
    pub(crate) async fn run<T>(
        &self,
        begun: Instant,
        statements: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<Result<T, tokio_postgres::Error>> {
        let Canceller { timeout: most, .. } = *self.canceller;
        self.owed.fetch_add(1, Ordering::Relaxed);
        let answer = timeout(self.canceller.left(begun), statements).await.map_err(|_| {
            // The last user of the connection cancels the statement.
            self.condemn();
            Error::new(
                ErrorKind::Timeout,
                format!("the server did not answer within {most:?} (the option `timeout`)"),
            )
        })?;
        self.owed.fetch_sub(1, Ordering::Relaxed);
        if let Err(error) = &answer
            && error::spoils_connection(error)
        {
            self.condemn();
            if !error::is_refusal(error) {
                self.suspect();
            }
        }
        Ok(answer)
    }

    fn condemn(&self) {
        self.condemned.store(true, Ordering::Relaxed);
    }

    /// Records that a change may have been sent that happens later, although its caller got an error.
    fn suspect(&self) {
        if let Some(backend) = self.identity.backend.filter(|_| self.changes) {
            self.canceller.suspects.add(backend);
        }
    }

    pub(crate) fn is_usable(&self) -> bool {
        !self.condemned.load(Ordering::Relaxed) && !self.client().is_closed()
    }

    /// Waits until the connection has answered everything. If it does not within the timeout of a call, it stays
    /// condemned.
    async fn drain(self) {
        // Answers arrive in order, so this one arrives after all others.
        let drained = timeout(self.canceller.timeout, self.client().simple_query("")).await;
        if matches!(drained, Ok(Ok(_))) {
            self.owed.store(0, Ordering::Relaxed);
            self.condemned.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        let Some(object) = self.object.take() else { return };
        let (owes, condemned) = (*self.owed.get_mut() > 0, *self.condemned.get_mut());
        if owes {
            self.suspect();
        }
        let (changes, identity) = (self.changes, self.identity);
        let (canceller, runtime) = (Arc::clone(&self.canceller), self.runtime.clone());
        if owes && !condemned && !changes {
            // Otherwise the next statement on the connection would wait for this one.
            let (condemned, owed) = (true.into(), 1.into());
            let object = Some(object);
            let checkout = Self { object, changes, condemned, owed, identity, canceller, runtime };
            self.runtime.spawn(checkout.drain());
        } else if owes {
            // Cancels the statement: if it waits for a lock, it would be executed when the lock is free. The signal may
            // arrive late and hit the next statement, so the connection leaves the pool.
            let token = Object::take(object).cancel_token();
            self.runtime.spawn(async move { canceller.cancel(&token).await });
        } else if condemned {
            // Removed from the pool and closed; a new one replaces it when needed.
            drop(Object::take(object));
        }
    }
}

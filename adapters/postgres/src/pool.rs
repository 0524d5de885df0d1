//! Connections while they are out of the pool, and how they go back.

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
    value::Unlogged,
};

pub(crate) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// Deals with statements that have lost their callers.
pub(crate) struct Canceller {
    /// The longest that a call takes.
    pub(crate) timeout: Duration,
    /// To cancel a statement; `None` for a pool whose TLS we do not know.
    pub(crate) connector: Option<Connector>,
    /// The processes that may still carry out such a statement.
    pub(crate) suspects: Suspects,
}

impl Canceller {
    /// The time that a call has left which began at that moment.
    pub(crate) fn left(&self, begun: Instant) -> Duration {
        self.timeout.saturating_sub(begun.elapsed())
    }

    /// Asks the server to stop the statement that the connection of this token runs.
    async fn cancel(&self, token: &CancelToken) {
        let Some(connector) = &self.connector else { return };
        let cancelled = timeout(self.timeout, token.cancel_query(Connector::clone(connector))).await;
        if !matches!(cancelled, Ok(Ok(()))) {
            tracing::debug!(adapter = Config::ADAPTER, "could not cancel a statement");
        }
    }
}

/// A connection taken out of the pool. It goes back when this is dropped, unless it was condemned or a change
/// on it was abandoned; if a read was, only once that has ended.
pub(crate) struct Checkout {
    /// `Some` until this is dropped.
    object: Option<Object>,
    /// Whether it is for a statement that changes anything.
    changes: bool,
    condemned: AtomicBool,
    /// How many statements are under way, or were abandoned.
    owed: AtomicUsize,
    /// Nothing is taken for granted until the server was asked.
    pub(crate) identity: Identity,
    canceller: Arc<Canceller>,
    /// A call may be dropped outside the runtime that it ran in.
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
        self.object.as_deref().unwrap_or_else(|| unreachable!("it is there until the drop"))
    }

    /// The prepared form of a statement, if this connection has such. Changes nothing, and asks the server only
    /// the first time.
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
        let params = params.iter().map(|param| Unlogged(*param));
        let rows = match prepared {
            Some(statement) => client.query_raw(&statement, params).await?,
            None => client.query_typed_raw(&query.text, params.zip(query.types.iter().cloned())).await?,
        };
        rows.try_collect().await
    }

    /// Runs statements of a call that began at `begun`, as long as they may take, and draws the conclusions
    /// from an error. Dropped before that it leaves a connection that owes an answer. The inner error is the
    /// server's or the driver's.
    pub(crate) async fn run<T>(
        &self,
        begun: Instant,
        statements: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<Result<T, tokio_postgres::Error>> {
        let Canceller { timeout: most, .. } = *self.canceller;
        self.owed.fetch_add(1, Ordering::Relaxed);
        let answer = timeout(self.canceller.left(begun), statements).await.map_err(|_| {
            // The last one to use the connection asks the server to stop it.
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

    /// A change may have been sent that happens later than its caller is told.
    fn suspect(&self) {
        if let Some(backend) = self.identity.backend.filter(|_| self.changes) {
            self.canceller.suspects.add(backend);
        }
    }

    pub(crate) fn is_usable(&self) -> bool {
        !self.condemned.load(Ordering::Relaxed) && !self.client().is_closed()
    }

    /// Waits until the connection has answered everything. If it does not within the time for a call, it stays
    /// condemned and owes answers.
    async fn drain(self) {
        // The answers come in order, so this one comes when nothing is under way any more.
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
            // The next statement on the connection would wait behind this one.
            let (condemned, owed) = (true.into(), 1.into());
            let object = Some(object);
            let checkout = Self { object, changes, condemned, owed, identity, canceller, runtime };
            self.runtime.spawn(checkout.drain());
        } else if owes {
            // A statement that waits for a lock would otherwise still happen, whenever the lock is free. The
            // signal comes at any time later, so the connection leaves the pool: it would hit the next statement.
            let token = Object::take(object).cancel_token();
            self.runtime.spawn(async move { canceller.cancel(&token).await });
        } else if condemned {
            // Out of the pool; the connection closes, and a new one takes its place when needed.
            drop(Object::take(object));
        }
    }
}
